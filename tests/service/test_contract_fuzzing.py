"""Requests made up from the contract, valid ones and broken ones: every answer is one that the contract announces.

The requests are the same on every run and machine until the contract changes. `make requests EXAMPLES=200 SEED=1` makes
up more, and others. Nine in ten are about things that are there: ids that nobody has say little.
"""

from __future__ import annotations

import json
import os
from collections import Counter
from collections.abc import Callable, Iterator
from itertools import count
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
    without_bounds = {"quota_queued": 0, "quota_datasets": 0, "max_open_uploads": 10**6}  # thousands are made here
    with InProcessService(f"sqlite:///{path}", folder / "data", **without_bounds) as running:
        yield running


class Known:
    """Ids of things that are there. What a request uses up is made anew for each."""

    def __init__(self, service: InProcessService) -> None:
        self._http = service.http
        dataset, held_out = (service.push(jsonl(sums(12, start)))["id"] for start in (0, 50))
        done = service.submit(dataset)
        service.drain()
        job = done["id"]
        link = self._post(f"/v1/jobs/{job}/files/selected.parquet/links", {})["url"]
        service.app.state.services.webhooks.guard = Guard(Policy(), lambda _: ["93.184.215.14"])
        endpoint = self._endpoint()
        self._kept: dict[str, Any] = {
            "dataset_id": dataset,
            "job_id": job,
            "gradient_set_id": done["gradient_set_id"],
            "evaluation_id": self._post("/v1/evaluations", {"job_id": job, "holdout_dataset_id": held_out})["id"],
            "upload_id": self._upload(),
            "number": 1,
            "row": int(service.http.get(f"/v1/jobs/{job}/selection").json()["data"][0]["source_row"]),
            "name": "selected.parquet",
            "token": link.split("/")[-2],
            "slug": "internal",
            "endpoint_id": endpoint,
            "delivery_id": self._post(f"/v1/webhook-endpoints/{endpoint}/ping")["id"],
            "key_id": self._key(),
            "schedule_id": self._schedule(dataset),
        }
        self._used_up: dict[str, dict[str, Callable[[], str]]] = {
            "DELETE /v1/datasets/uploads/{upload_id}": {"upload_id": self._upload},
            "DELETE /v1/datasets/{dataset_id}": {"dataset_id": self._dataset},
            "DELETE /v1/jobs/{job_id}": {"job_id": self._cancelled},
            "POST /v1/jobs/{job_id}/cancel": {"job_id": self._job},
            "POST /v1/jobs/{job_id}/retry": {"job_id": self._cancelled},
            "DELETE /v1/webhook-endpoints/{endpoint_id}": {"endpoint_id": self._endpoint},
            "POST /v1/api-keys/{key_id}/rotate": {"key_id": self._key},
            "DELETE /v1/api-keys/{key_id}": {"key_id": self._key},
            "DELETE /v1/schedules/{schedule_id}": {"schedule_id": lambda: self._schedule(dataset)},
        }

    def of(self, label: str, names: list[str]) -> dict[str, Any]:
        """A value for each parameter of a path.

        Args:
            label: Method and path.
            names: The parameters.
        """
        made = {name: make() for name, make in self._used_up.get(label, {}).items()}
        return {name: made.get(name, self._kept[name]) for name in names}

    def __getitem__(self, name: str) -> Any:
        """The value of a parameter for requests that use nothing up."""
        return self._kept[name]

    def _post(self, path: str, body: Any = None) -> Any:
        answer = self._http.post(path, json=body)
        assert answer.is_success, answer.text
        return answer.json()

    def _upload(self) -> str:
        return str(self._post("/v1/datasets/uploads", {"bytes": 5, "sha256": "0" * 64})["id"])

    def _dataset(self) -> str:
        return str(self._http.post("/v1/datasets", files={"file": ("pool.jsonl", jsonl(sums(2)))}).json()["id"])

    def _job(self) -> str:
        return str(self._post("/v1/jobs", {"dataset_id": self._kept["dataset_id"], "budget": {"count": 2}})["id"])

    def _cancelled(self) -> str:
        job = self._job()
        self._post(f"/v1/jobs/{job}/cancel")
        return job

    def _schedule(self, dataset: str) -> str:
        job = {"dataset_id": dataset, "budget": {"count": 2}}
        return str(self._post("/v1/schedules", {"name": "nightly", "cron": "0 2 * * *", "job": job})["id"])

    def _endpoint(self) -> str:
        return str(self._post("/v1/webhook-endpoints", {"url": "https://hooks.example.org/"})["id"])

    def _key(self) -> str:
        return str(self._post("/v1/api-keys", {"name": "fuzzed"})["id"])


@pytest.fixture(scope="module")
def known(fuzzed: InProcessService) -> Iterator[Known]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("app.services.notify.webhooks.MOST_OF_PROJECT", 10**6)
        yield Known(fuzzed)


@pytest.fixture
def answers(request: pytest.FixtureRequest) -> Iterator[Counter[int]]:
    """How many answers had which status; written to the file that ``SPICE_TEST_ANSWERS`` names, a line a test."""
    counted: Counter[int] = Counter()
    yield counted
    place = os.environ.get("SPICE_TEST_ANSWERS")
    if place:
        with Path(place).open("a", encoding="utf-8") as file:
            file.write(json.dumps({"test": request.node.name, **counted}, sort_keys=False) + "\n")


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
    label: str,
    mode: str,
    operations: dict[str, Any],
    fuzzed: InProcessService,
    known: Known,
    answers: Counter[int],
    seed: int,
) -> None:
    from schemathesis import GenerationMode
    from schemathesis.checks import CHECKS
    from schemathesis.core.parameters import ParameterLocation

    # A file of another media type is taken as a file: what is in it decides, later.
    left_out = LEFT_OUT | ({"negative_data_rejection"} if mode == "positive" else set())
    checks = CHECKS.get_by_names([check for check in CHECKS.get_all_names() if check not in left_out])
    operation, generation = operations[label], GenerationMode(mode)
    names, turns = [parameter.name for parameter in operation.path_parameters], count(1)
    strategy = operation.as_strategy(generation_mode=generation)

    @hypothesis.seed(seed)
    @settings(
        max_examples=EXAMPLES, database=None, deadline=None, phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )  # fmt: skip
    @given(case=strategy)
    def send(case: Any) -> None:
        if "wait" in (case.query or {}):
            case.query.pop("wait")  # a valid one only makes the test slow
        broken = {place for place, part in case.meta.components.items() if part.mode == GenerationMode.NEGATIVE}
        if names and ParameterLocation.PATH not in broken and next(turns) % 10:
            case.path_parameters = known.of(label, names)
        if mode == "positive" and isinstance(case.body, dict):
            case.body |= {name: known[name] for name in ("dataset_id", "job_id") if name in case.body}
        answer = case.call(base_url=str(fuzzed.http.base_url))
        answers[answer.status_code] += 1
        case.validate_response(answer, checks=checks)

    send()
