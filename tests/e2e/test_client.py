"""Client and command line against the real embedded service, from a file on disk to verified files on disk."""

from __future__ import annotations

import asyncio
import hashlib
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from spice_select.cli import main
from spice_select.client import AsyncClient, Client, Dataset, Job
from spice_select.errors import ClientError
from spice_select.pipeline.run import run
from spice_select.results.result_folder import DATED, MEDIA_TYPES
from spice_select.results.signature import ENVELOPE_FILE
from spice_select.results.verify import verify_folder
from tests.e2e.conftest import FAST
from tests.fixtures.processes import Service, environment
from tests.fixtures.results import alpaca, jsonl
from tests.fixtures.service import sums

SETTINGS: dict[str, Any] = {"gradients": {"sketch_dim": 16, "max_length": 128}}


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    folder = tmp_path_factory.mktemp("service")
    with Service(environment(data_dir=folder / "data", extra=FAST), folder) as running:
        yield running


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    records: list[Any] = alpaca(70)
    records[3] = {"instruction": "empty", "input": "", "output": ""}
    path = tmp_path_factory.mktemp("source") / "pool.jsonl"
    path.write_bytes(jsonl(records))
    return path


def test_the_whole_way_with_the_client(service: Service, source: Path, tmp_path: Path) -> None:
    told: list[str] = []

    def listen(what: Dataset | Job) -> None:
        told.append(what.status)

    with Client(service.url) as spice:
        chosen = spice.select(source, "10%", tmp_path / "out", on_progress=listen, max_wait=120, **SETTINGS)
        assert chosen.job.result is not None
        assert (chosen.job.result.selected, chosen.job.result.pool) == (7, 69)
        assert set(chosen.files) == {*MEDIA_TYPES, ENVELOPE_FILE}
        assert verify_folder(tmp_path / "out", source).ok
        assert {"ready", "succeeded"} <= set(told)
        (rejected,) = spice.datasets.rejected(chosen.dataset.id)
        assert (rejected.row, rejected.code) == (3, "empty-response")
        rows = list(spice.datasets.rows(chosen.dataset.id))
        assert len(rows) == 69
        ranking = list(spice.jobs.selection(chosen.job.id))
        assert [pick.rank for pick in ranking] == list(range(1, 8))
        lines = (tmp_path / "out" / "selected.jsonl").read_bytes().splitlines()
        assert [pick.row_sha256 for pick in ranking] == [hashlib.sha256(line).hexdigest() for line in lines]
        assert spice.jobs.provenance(chosen.job.id) == json.loads(
            (tmp_path / "out" / "provenance.intoto.jsonl").read_text()
        )
        assert [event.type for event in spice.jobs.events(chosen.job.id)]
        assert chosen.job.id in [job.id for job in spice.jobs.list(dataset_id=chosen.dataset.id, status="succeeded")]
        assert spice.version().model_dump()


def test_a_job_of_the_service_and_a_run_without_it_give_the_same_bytes(
    service: Service, source: Path, tmp_path: Path
) -> None:
    from spice_select.config import Budget, GradientConfig, RunConfig, SelectionConfig

    with Client(service.url) as spice:
        spice.select(source, 9, tmp_path / "service", max_wait=120, **SETTINGS)
    config = RunConfig(
        gradients=GradientConfig(sketch_dim=16, max_length=128), selection=SelectionConfig(budget=Budget(count=9))
    )
    run(source, config, tmp_path / "library")
    for name in set(MEDIA_TYPES) - DATED:
        assert (tmp_path / "service" / name).read_bytes() == (tmp_path / "library" / name).read_bytes(), name


def test_the_asynchronous_client_and_one_key_for_two_submits(service: Service, source: Path, tmp_path: Path) -> None:
    async def go() -> tuple[list[str], Job, dict[str, Path]]:
        async with AsyncClient(service.url) as spice:
            dataset = await spice.datasets.push(source.read_bytes(), name="from memory")
            dataset = await spice.datasets.wait(dataset.id, max_wait=60)
            assert dataset.status == "ready"
            made = [await spice.jobs.submit(dataset.id, "5", idempotency_key="one", **SETTINGS) for _ in range(2)]
            job = await spice.jobs.wait(made[0].id, max_wait=120)
            files = await spice.jobs.download(job.id, tmp_path / "out")
            with pytest.raises(ClientError, match="If-Match"):
                await spice.jobs.delete(job.id, version=job.version + 1)
            await spice.jobs.delete(job.id, version=job.version)
            with pytest.raises(ClientError) as gone:
                await spice.jobs.get(job.id)
            assert gone.value.code == "not-found"
            await spice.jobs.delete(job.id)  # again is no error
            return [job.id for job in made], job, files

    ids, job, files = asyncio.run(go())
    assert len(set(ids)) == 1
    assert job.status == "succeeded"
    assert set(files) == {*MEDIA_TYPES, ENVELOPE_FILE}
    assert verify_folder(tmp_path / "out", source).ok


def test_refusals_carry_code_pointer_and_request_id(service: Service, source: Path) -> None:
    with Client(service.url) as spice:
        dataset = spice.datasets.wait(spice.datasets.push(source).id, max_wait=60)
        with pytest.raises(ClientError) as caught:
            spice.jobs.submit(dataset.id, 70)
        assert caught.value.code == "budget-exceeds-pool"
        assert caught.value.errors[0]["pointer"] == "#/budget/count"
        assert (caught.value.request_id or "").startswith("req_")
        invalid = spice.datasets.wait(spice.datasets.push(b'{"text": \n', name="broken").id, max_wait=60)
        assert invalid.status == "invalid"
        assert invalid.error is not None
        assert invalid.error.code == "dataset-invalid-json"
        spice.datasets.delete(invalid.id)
        with pytest.raises(ClientError, match=invalid.id):
            spice.datasets.get(invalid.id)


def _held_out(path: Path) -> Path:
    path.write_bytes(jsonl(sums(8, 900)))
    return path


def test_the_command_line_from_push_to_verify(
    service: Service,
    source: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setenv("SPICE_API_URL", service.url)

    def spice(*arguments: str | Path, status: int = 0) -> Any:
        with pytest.raises(SystemExit) as ended:
            main([str(argument) for argument in arguments] + ["--json"])
        out, err = capsys.readouterr()
        assert ended.value.code == status, err
        return json.loads(out)

    dataset = spice("datasets", "push", source, "--name", "commands")
    assert (dataset["status"], dataset["num_usable"]) == ("ready", 69)
    job = spice(
        "jobs", "submit", "--dataset", dataset["id"], "--budget", "10%", "--sketch-dim", "16", "--max-length", "128",
        "--wait", "--max-wait", "120",
    )  # fmt: skip
    assert job["status"] == "succeeded"
    assert spice("jobs", "show", job["id"])["result"]["selected"] == 7
    pulled = spice("pull", job["id"], "-o", tmp_path / "out")
    assert set(pulled["files"]) == {*MEDIA_TYPES, ENVELOPE_FILE}
    assert spice("verify", tmp_path / "out", "--source", source)["ok"]
    for form in ("hf", "llamafactory", "axolotl", "trl"):
        spice("pull", job["id"], "-o", tmp_path / form, "--format", form)
    rows = (tmp_path / "trl" / "train.jsonl").read_text(encoding="utf-8").splitlines()
    assert all(json.loads(row)["messages"][-1]["role"] == "assistant" for row in rows)
    held = spice("datasets", "push", _held_out(tmp_path / "held.jsonl"))
    evaluation = spice(
        "evaluations", "submit", job["id"], "--held-out", held["id"], "--seeds", "2", "--epochs", "1",
        "--batch-rows", "4", "--control", "random", "--wait", "--max-wait", "120",
    )  # fmt: skip
    assert (evaluation["status"], len(evaluation["result"]["comparisons"])) == ("succeeded", 1)
    listed = spice("evaluations", "list", "--job", job["id"])["data"]
    assert [one["id"] for one in listed] == [evaluation["id"]]
    assert spice("evaluations", "cancel", evaluation["id"], status=1)["error"]["code"] == "conflict-state"
    with pytest.raises(SystemExit) as shown:
        main(["evaluations", "show", evaluation["id"]])
    assert shown.value.code == 0
    out = capsys.readouterr()
    assert evaluation["result"]["verdict"].replace("_", " ") in out.out
    refused = spice("evaluations", "submit", job["id"], status=1)
    assert refused["error"]["code"] == "holdout-unusable"
    assert spice("jobs", "cancel", job["id"], status=1)["error"]["code"] == "conflict-state"
    assert spice("jobs", "submit", "-d", dataset["id"], "-b", "5", "--alpha", "-1", status=2)["error"]["status"] == 422
