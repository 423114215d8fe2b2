"""A deadline that passes while a job selects: the picks so far are its result, and it says why there are no more."""

from __future__ import annotations

import time
from typing import Any

import pytest
from sqlalchemy import update

from app.persistence.tables import Job
from app.persistence.types import clock
from tests.fixtures.service import InProcessService, jsonl, sums


def test_a_deadline_that_passes_while_selecting_keeps_the_prefix(
    any_service: InProcessService, monkeypatch: pytest.MonkeyPatch
) -> None:
    import spice_select.pipeline.select

    dataset = any_service.push(jsonl(sums(20)))
    job = any_service.submit(dataset["id"], budget={"count": 12}, deadline_seconds=3600)
    real, units = spice_select.pipeline.select.select, any_service.runner.units

    def select_slowly(*args: Any, on_progress: Any, should_stop: Any, **kwargs: Any) -> Any:
        def advance(picked: int, total: int) -> None:
            on_progress(picked, total)
            if picked == 3:
                with any_service.runner.database.write() as session:
                    session.execute(update(Job).where(Job.id == job["id"]).values(deadline_at=clock(-1.0)))
                units.sweep()
                assert any_service.job(job["id"])["status"] == "cancelling"
                give_up = time.monotonic() + 120
                while not should_stop() and time.monotonic() < give_up:
                    time.sleep(0.02)

        return real(*args, on_progress=advance, should_stop=should_stop, **kwargs)

    with monkeypatch.context() as patch:
        patch.setattr(spice_select.pipeline.select, "select", select_slowly)
        any_service.drain()
    ended = any_service.job(job["id"])
    assert (ended["status"], ended["partial"]) == ("expired", True)
    assert (ended["result"]["selected"], ended["result"]["stop_reason"]) == (3, "deadline")
    whole = any_service.submit(dataset["id"], budget={"count": 12})
    any_service.drain()

    def rows(job_id: str) -> list[int]:
        data = any_service.http.get(f"/v1/jobs/{job_id}/selection").json()["data"]
        return [sample["source_row"] for sample in data]

    assert rows(whole["id"])[:3] == rows(job["id"])
