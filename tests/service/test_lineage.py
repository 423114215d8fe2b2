"""Run events of OpenLineage, held against the published types."""

from __future__ import annotations

import json
import uuid
from typing import Any

import jsonschema
import pytest

from app.services.health import ROOT
from app.services.results.openlineage import PRODUCER
from spice_select.results.signature import ENVELOPE_FILE
from tests.fixtures.lineage import published, without_ours
from tests.fixtures.service import InProcessService, jsonl, sums

PARENT = {
    "run_id": "019a7f0e-2a55-7000-8000-0123456789ab",
    "job": {"namespace": "airflow", "name": "nightly.select"},
    "root": {"run_id": "019a7f0e-0000-7000-8000-0123456789ab", "job": {"namespace": "airflow", "name": "nightly"}},
}


def ready(service: InProcessService) -> str:
    return str(service.push(jsonl(sums(8)))["id"])


def events_of(service: InProcessService, job_id: str) -> list[dict[str, Any]]:
    answer = service.http.get(f"/v1/jobs/{job_id}/provenance", params={"format": "openlineage"})
    assert answer.status_code == 200, answer.text
    found: list[dict[str, Any]] = answer.json()
    return found


def test_a_job_is_a_run_in_the_published_types_with_its_parent(any_service: InProcessService) -> None:
    service = any_service
    dataset_id = ready(service)
    job = service.submit(dataset_id, parent=PARENT, metadata={"team": "search"}, name="nightly")
    assert job["parent"] == PARENT
    assert events_of(service, job["id"]) == [], "it has not begun"
    service.drain()
    start, complete = events_of(service, job["id"])
    assert [start["eventType"], complete["eventType"]] == ["START", "COMPLETE"]
    for event in (start, complete):
        assert published(event) == without_ours(event)
        assert uuid.UUID(event["run"]["runId"]) == uuid.uuid5(uuid.NAMESPACE_URL, f"spice:job/{job['id']}")
        assert event["job"]["name"] == "nightly"
        parent = event["run"]["facets"]["parent"]
        assert parent["run"] == {"runId": PARENT["run_id"]}
        assert parent["root"]["job"] == {"namespace": "airflow", "name": "nightly"}
        parameters = {
            entry["key"]: entry["value"] for entry in event["run"]["facets"]["executionParameters"]["parameters"]
        }
        assert parameters["selection.method"] == "spice"
        assert parameters["selection.budget.count"] == "3"
        assert event["run"]["facets"]["tags"]["tags"] == [{"key": "team", "value": "search", "source": "USER"}]
        data, model = event["inputs"]
        assert (data["name"], model["name"]) == (dataset_id, "model/builtin:tiny")
        assert data["inputFacets"]["inputStatistics"]["rowCount"] == 8
        assert model["facets"]["datasetType"]["datasetType"] == "MODEL"
    assert start["outputs"] == []
    (output,) = complete["outputs"]
    files = service.http.get(f"/v1/jobs/{job['id']}/files").json()["data"]
    assert ENVELOPE_FILE in {file["name"] for file in files}, "made when it is asked for: no output of the run"
    rows = next(file for file in files if file["name"] == "selected.parquet")
    assert output["facets"]["version"]["datasetVersion"] == rows["sha256"]
    statistics = output["outputFacets"]["outputStatistics"]
    assert (statistics["rowCount"], statistics["size"], statistics["fileCount"]) == (3, rows["bytes"], len(files) - 1)
    schema = json.loads((ROOT / "docs" / "schemas" / "SpiceSelectionDatasetFacet.json").read_text())
    jsonschema.validate(output["facets"]["spice_selection"], schema)
    assert output["facets"]["spice_selection"]["selected"] == 3
    assert start["eventTime"] <= complete["eventTime"]


def test_the_published_types_refuse_what_is_not_of_the_specification(service: InProcessService) -> None:
    job = service.submit(ready(service))
    service.drain()
    event = events_of(service, job["id"])[1]
    event["inputs"][0]["facets"]["storage"]["compression"] = "zstd"
    with pytest.raises(KeyError, match="compression"):
        published(event)
    assert event["producer"] == PRODUCER


@pytest.mark.parametrize(
    ("change", "pointer"),
    [
        ({"run_id": "7"}, "#/parent/run_id"),
        ({"job": {"namespace": "", "name": "x"}}, "#/parent/job/namespace"),
        ({"job": {"name": "x"}}, "#/parent/job/namespace"),
        ({"more": 1}, "#/parent/more"),
        ({"root": {"run_id": PARENT["run_id"]}}, "#/parent/root/job"),
    ],
)
def test_a_parent_that_is_none_is_refused(service: InProcessService, change: dict[str, Any], pointer: str) -> None:
    body = {"dataset_id": "ds_x", "budget": {"count": 1}, "parent": {**PARENT, **change}}
    answer = service.http.post("/v1/jobs", json=body)
    assert answer.status_code == 422
    assert pointer in [error["pointer"] for error in answer.json()["errors"]]


def test_how_a_run_ended_is_in_its_events(any_service: InProcessService) -> None:
    service = any_service
    dataset_id = ready(service)
    cancelled = service.submit(dataset_id)
    assert service.http.post(f"/v1/jobs/{cancelled['id']}/cancel").status_code == 202
    failed = service.submit(dataset_id, seed=2)
    claim = service.runner.units.claim_next("doomed")
    assert claim is not None
    service.runner.units.fail(claim, "proxy-changed", "the model is another one")
    service.drain()
    start, abort = events_of(service, cancelled["id"])
    assert (start["eventType"], abort["eventType"]) == ("START", "ABORT")
    assert abort["outputs"] == []
    _, fail = events_of(service, failed["id"])
    assert fail["eventType"] == "FAIL"
    message = fail["run"]["facets"]["errorMessage"]
    assert message["message"] == "proxy-changed: the model is another one"
    assert all(published(event) == without_ours(event) for event in (start, abort, fail))
