"""What a worker says about a shard while it measures it and once it has: samples, tokens, time to go, memory."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from app.services.units.leases import Report
from spice_select.client import Client
from tests.fixtures.service import InProcessService, jsonl, sums

ROWS = 20


@pytest.fixture
def any_service(any_database_url: str, tmp_path: Path) -> Iterator[InProcessService]:
    with InProcessService(any_database_url, tmp_path / "data") as running:
        yield running


def test_a_shard_tells_its_rates_and_its_memory(any_service: InProcessService) -> None:
    service = any_service
    dataset = service.push(jsonl(sums(ROWS)))
    job = service.submit(dataset["id"])
    path = f"/v1/gradient-sets/{job['gradient_set_id']}"

    def shard() -> dict[str, Any]:
        (found,) = service.http.get(path).json()["shards"]
        return dict(found)

    waiting = shard()
    assert (waiting["state"], waiting["completed"], waiting["total"]) == ("pending", 0, ROWS)
    assert waiting["tokens_per_second"] is waiting["memory_bytes"] is waiting["seconds"] is None
    claim = service.runner.units.claim_next("test")
    assert claim is not None
    service.runner.units.heartbeat(
        claim, Report("computing_gradients", 5, None, "samples", 2.5, token_rate=410.26, memory_bytes=3 * 2**30)
    )
    progress = service.job(job["id"])["progress"]
    assert progress["tokens_per_second"] == pytest.approx(410.3)
    assert progress["memory_bytes"] == 3 * 2**30
    live = shard()
    assert (live["state"], live["completed"]) == ("leased", 5)
    assert live["samples_per_second"] == pytest.approx(2.5)
    assert live["tokens_per_second"] == pytest.approx(410.26)
    assert live["eta_seconds"] == pytest.approx(6.0)
    with Client(str(service.http.base_url)) as client:
        shown = client.jobs.get(job["id"]).progress
        assert shown is not None
        assert (shown.tokens_per_second, shown.memory_bytes) == (pytest.approx(410.3), 3 * 2**30)
    service.runner.run_claim(claim)
    done = shard()
    assert (done["state"], done["completed"], done["total"], done["halvings"]) == ("done", ROWS, ROWS, 0)
    assert done["seconds"] > 0
    assert done["samples_per_second"] == pytest.approx(ROWS / done["seconds"])
    assert done["tokens_per_second"] == pytest.approx(done["tokens"] / done["seconds"])
    assert done["memory_bytes"] > 2**26, "a process with torch in it holds more than 64 MiB"
    assert service.http.get("/v1/gradient-sets").json()["data"][0]["shards"] is None


def test_a_worker_at_work_tells_tokens_and_memory_by_itself(
    service: InProcessService, monkeypatch: pytest.MonkeyPatch
) -> None:
    dataset = service.push(jsonl(sums(ROWS)))
    service.submit(dataset["id"])
    told: list[Report] = []
    real = type(service.runner.units).heartbeat

    def heartbeat(self: Any, claim: Any, report: Report, lines: Any) -> Any:
        told.append(report)
        return real(self, claim, report, lines)

    monkeypatch.setattr(type(service.runner.units), "heartbeat", heartbeat)
    from workers.heartbeat import Heartbeat

    advance = Heartbeat.advance

    def and_beat(self: Heartbeat, completed: int, total: int | None = None, tokens: int | None = None) -> None:
        advance(self, completed, total, tokens)
        self._beat()

    monkeypatch.setattr(Heartbeat, "advance", and_beat)
    claim = service.runner.units.claim_next("test")
    assert claim is not None
    service.runner.run_claim(claim)
    counted = [report for report in told if report.phase == "computing_gradients" and report.completed]
    assert counted
    assert all(report.token_rate is not None and report.token_rate > (report.rate or 0) for report in counted)
    assert all((report.memory_bytes or 0) > 2**26 for report in told)
