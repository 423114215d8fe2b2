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
import schemathesis
from hypothesis import HealthCheck, Phase, given, settings
from schemathesis import GenerationMode
from schemathesis.checks import CHECKS

from app.main import contract_document
from app.outbound import Guard, Policy
from tests.fixtures.examples import examples
from tests.fixtures.service import InProcessService, jsonl, sums

SCHEMA: Any = schemathesis.openapi.from_dict(contract_document())
OPERATIONS = {found.ok().label: found.ok() for found in SCHEMA.get_all_operations()}
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
CHECKED = [check for check in CHECKS.get_all_names() if check not in LEFT_OUT]


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
    fuzzed.app.state.webhooks.guard = Guard(Policy(), lambda _: ["93.184.215.14"])
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
    return [
        pytest.param(label, mode, id=f"{label}-{mode.value}")
        for label, operation in sorted(OPERATIONS.items())
        for mode in GenerationMode
        if mode is GenerationMode.POSITIVE
        or (label not in UNBREAKABLE and (list(operation.iter_parameters()) or operation.body))
    ]


@pytest.mark.examples
@pytest.mark.parametrize(("label", "mode"), cases())
def test_every_answer_is_announced(
    label: str, mode: GenerationMode, fuzzed: InProcessService, known: dict[str, Any], seed: int
) -> None:
    operation = OPERATIONS[label]
    names = [parameter.name for parameter in operation.path_parameters]
    there = {name: known[name] for name in names if name in known and operation.method != "delete"}
    strategy = operation.as_strategy(generation_mode=mode)
    if there and mode is GenerationMode.POSITIVE:
        strategy |= operation.as_strategy(generation_mode=mode, path_parameters=there)

    @hypothesis.seed(seed)
    @settings(
        max_examples=EXAMPLES, database=None, deadline=None, phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )  # fmt: skip
    @given(case=strategy)
    def send(case: Any) -> None:
        if "wait" in (case.query or {}):
            case.query.pop("wait")  # a valid one only makes the test slow
        if mode is GenerationMode.POSITIVE and isinstance(case.body, dict) and "dataset_id" in case.body:
            case.body["dataset_id"] = known["dataset_id"]
        case.call_and_validate(base_url=str(fuzzed.http.base_url), checks=CHECKS.get_by_names(CHECKED))

    send()
