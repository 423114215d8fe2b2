"""Requests made up from the contract, valid ones and broken ones: every answer is one that the contract announces.

The requests are the same on every run and machine until the contract changes. `make requests EXAMPLES=200 SEED=1` makes
up more, and others.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import hypothesis
import pytest
from hypothesis import HealthCheck, Phase, given, settings

from app.main import contract_document
from app.outbound import Guard, Policy
from tests.fixtures.examples import examples
from tests.fixtures.service import InProcessService, jsonl, sums

CONTRACT = contract_document()
EXAMPLES = int(os.environ.get("SPICE_TEST_EXAMPLES") or examples(12, fast=3))
"""Requests to each operation, of each kind."""
LEFT_OUT = {
    # A local caller needs no key; tests/service/test_auth.py tries every route without one and with a foreign one.
    "ignored_auth",
    "object_level_authorization",
    # These follow links between operations, which random ids never do; tests/service/test_datasets.py deletes.
    "use_after_free",
    "ensure_resource_availability",
    # A schema cannot say which cursor was handed out, that a key is known once, or that two fields exclude each other.
    "positive_data_acceptance",
}


@pytest.fixture(scope="module")
def operations() -> dict[str, Any]:
    """The operations of the contract as schemathesis reads them, by method and path."""
    # Imported late: it takes seconds, which only the process that runs this file should spend.
    import schemathesis

    schema: Any = schemathesis.openapi.from_dict(CONTRACT)
    return {found.ok().label: found.ok() for found in schema.get_all_operations()}


@pytest.fixture(scope="module")
def fuzzed(_migrated_sqlite: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[InProcessService]:
    folder = tmp_path_factory.mktemp("fuzzed")
    path = folder / "spice.db"
    path.write_bytes(_migrated_sqlite.read_bytes())
    with InProcessService(f"sqlite:///{path}", folder / "data") as running:
        yield running


@pytest.fixture(scope="module")
def known(fuzzed: InProcessService) -> dict[str, Any]:
    """Ids of things that are there, so that valid requests get further than a 404."""
    dataset = fuzzed.push(jsonl(sums(12)))
    done = fuzzed.submit(dataset["id"])
    fuzzed.drain()
    fuzzed.app.state.services.webhooks.guard = Guard(Policy(), lambda _: ["93.184.215.14"])
    endpoint = fuzzed.http.post("/v1/webhook-endpoints", json={"url": "https://hooks.example.org/"}).json()["id"]
    return {
        "dataset_id": dataset["id"],
        "job_id": done["id"],
        "gradient_set_id": done["gradient_set_id"],
        "upload_id": fuzzed.http.post("/v1/datasets/uploads", json={"bytes": 5, "sha256": "0" * 64}).json()["id"],
        "number": 1,
        "name": "selected.parquet",
        "slug": "internal",
        "endpoint_id": endpoint,
        "delivery_id": fuzzed.http.post(f"/v1/webhook-endpoints/{endpoint}/ping").json()["id"],
    }


UNBREAKABLE = {"GET /problems/{slug}"}
"""Takes any text, so that there is no wrong one."""


def cases() -> list[Any]:
    labels = [
        (
            f"{method.upper()} {path}",
            bool(path_item.get("parameters") or operation.get("parameters") or operation.get("requestBody")),
        )
        for path, path_item in CONTRACT["paths"].items()
        for method, operation in path_item.items()
        if method in {"get", "put", "post", "patch", "delete"}
    ]
    return [
        pytest.param(label, mode, id=f"{label}-{mode}")
        for label, takes_something in sorted(labels)
        for mode in ("positive", "negative")
        if mode == "positive" or (label not in UNBREAKABLE and takes_something)
    ]


@pytest.mark.examples
@pytest.mark.parametrize(("label", "mode"), cases())
def test_every_answer_is_announced(
    label: str, mode: str, operations: dict[str, Any], fuzzed: InProcessService, known: dict[str, Any], seed: int
) -> None:
    from schemathesis import GenerationMode
    from schemathesis.checks import CHECKS

    checks = CHECKS.get_by_names([check for check in CHECKS.get_all_names() if check not in LEFT_OUT])
    operation, generation = operations[label], GenerationMode(mode)
    names = [parameter.name for parameter in operation.path_parameters]
    there = {name: known[name] for name in names if name in known and operation.method != "delete"}
    strategy = operation.as_strategy(generation_mode=generation)
    if there and mode == "positive":
        strategy |= operation.as_strategy(generation_mode=generation, path_parameters=there)

    @hypothesis.seed(seed)
    @settings(
        max_examples=EXAMPLES, database=None, deadline=None, phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )  # fmt: skip
    @given(case=strategy)
    def send(case: Any) -> None:
        if "wait" in (case.query or {}):
            case.query.pop("wait")  # a valid one only makes the test slow
        if mode == "positive" and isinstance(case.body, dict) and "dataset_id" in case.body:
            case.body["dataset_id"] = known["dataset_id"]
        case.call_and_validate(base_url=str(fuzzed.http.base_url), checks=checks)

    send()
