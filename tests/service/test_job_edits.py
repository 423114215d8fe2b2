"""What may be changed of a job once it is there, under which condition, and that it changes nothing else."""

from __future__ import annotations

import json
from typing import Any

import pytest

from spice_select.cli import main
from spice_select.client import Client
from spice_select.errors import ClientError
from tests.fixtures.service import InProcessService, jsonl, sums


def test_name_metadata_and_priority_can_be_changed(any_service: InProcessService) -> None:
    http = any_service.http
    dataset = any_service.push(jsonl(sums(20)))["id"]
    body = {"dataset_id": dataset, "budget": {"count": 3}, "name": "first", "metadata": {"team": "a", "draft": "yes"}}
    made = http.post("/v1/jobs", json=body).json()
    other = http.post("/v1/jobs", json={**body, "priority": 5}).json()
    path = f"/v1/jobs/{made['id']}"
    shown = http.get(path)
    assert shown.json()["queue"]["position"] == 2
    answer = http.patch(
        path,
        json={"priority": 9, "metadata": {"draft": None, "run": "7"}},
        headers={"If-Match": shown.headers["ETag"]},
    )
    assert answer.status_code == 200, answer.text
    changed = answer.json()
    assert changed["queue"]["position"] == 1
    assert (changed["name"], changed["metadata"]) == ("first", {"team": "a", "run": "7"})
    assert changed["version"] == made["version"] + 1
    assert answer.headers["ETag"] == http.get(path).headers["ETag"] != shown.headers["ETag"]
    same = {key: made[key] for key in made.keys() - {"priority", "metadata", "version", "queue"}}
    assert {key: changed[key] for key in same} == same

    # Somebody who knows an older state changes nothing; saying the same again raises no version.
    stale = http.patch(path, json={"name": "lost"}, headers={"If-Match": shown.headers["ETag"]})
    assert (stale.status_code, stale.json()["code"]) == (412, "precondition-failed")
    assert http.patch(path, json={"priority": 9}).json() == changed
    assert http.patch(path, json={}).json() == changed
    merge = {"content-type": "application/merge-patch+json"}
    assert http.patch(path, content=b'{"metadata": {"run": "8"}}', headers=merge).json()["metadata"]["run"] == "8"
    assert http.patch(path, content=b'{"metadata": {"run": "7"}}', headers=merge).json()["metadata"] == {
        "team": "a",
        "run": "7",
    }
    assert http.get("/v1/jobs?metadata=run=7").json()["data"][0]["id"] == made["id"]

    any_service.drain()
    ended = http.get(path).json()
    assert ended["status"] == "succeeded"
    assert http.get(f"/v1/jobs/{other['id']}").json()["finished_at"] > ended["finished_at"]
    late = http.patch(path, json={"priority": 1})
    assert (late.status_code, late.json()["code"]) == (409, "conflict-state")
    assert http.patch(path, json={"priority": 9, "name": None, "metadata": None}).json()["metadata"] == {}
    assert http.get(path).json()["name"] is None


REFUSED: list[tuple[dict[str, Any], str]] = [
    ({"status": "succeeded"}, "#/status"),
    ({"priority": 101}, "#/priority"),
    ({"priority": "5"}, "#/priority"),
    ({"priority": None}, "#/priority"),
    ({"name": ""}, "#/name"),
    ({"metadata": {"a": 1}}, "#/metadata/a"),
    ({"metadata": {str(number): "x" for number in range(17)}}, "#/metadata"),
]


def test_what_cannot_be_changed_is_pointed_at(shared_service: InProcessService) -> None:
    dataset = shared_service.push(jsonl(sums(5)))["id"]
    made = shared_service.http.post("/v1/jobs", json={"dataset_id": dataset, "budget": {"count": 1}}).json()
    for body, pointer in REFUSED:
        answer = shared_service.http.patch(f"/v1/jobs/{made['id']}", json=body)
        assert (answer.status_code, answer.json()["code"]) == (422, "validation-error"), body
        assert answer.json()["errors"][0]["pointer"] == pointer
    assert shared_service.http.get(f"/v1/jobs/{made['id']}").json()["version"] == made["version"]


def test_client_and_command_line_change_a_job(
    service: InProcessService, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    url, dataset = str(service.http.base_url), service.push(jsonl(sums(5)))["id"]
    with Client(url) as client:
        job = client.jobs.submit(dataset, 2, metadata={"a": "1"})
        changed = client.jobs.update(job.id, version=job.version, name="named", metadata={"a": None, "b": "2"})
        assert (changed.name, changed.metadata) == ("named", {"b": "2"})
        with pytest.raises(ClientError) as refused:
            client.jobs.update(job.id, version=job.version, priority=3)
        assert (refused.value.status, refused.value.code) == (412, "precondition-failed")
    monkeypatch.setenv("SPICE_API_URL", url)

    def command(*arguments: str) -> tuple[int, str]:
        with pytest.raises(SystemExit) as ended:
            main(["jobs", "update", *arguments])
        return int(ended.value.code or 0), capsys.readouterr().out

    status, text = command(job.id, "--priority", "4", "--metadata", "c=3", "--remove", "b", "--json")
    assert (status, json.loads(text)["priority"], json.loads(text)["metadata"]) == (0, 4, {"c": "3"})
    assert command(job.id)[0] == 2
    assert command(job.id, "--version", "1", "--name", "x", "--json")[0] == 1
