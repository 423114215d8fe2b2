"""The moments of a commit at which a connection or a disk may give up."""

from __future__ import annotations

import errno
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import select
from sqlalchemy.exc import OperationalError

from app.persistence.tables import Unit, UnitCommit
from app.services.units.commits import Outcome
from app.services.units.leases import Claim
from tests.fixtures.service import InProcessService, jsonl, sums


@pytest.fixture
def service(any_database_url: str, tmp_path: Path) -> Iterator[InProcessService]:
    with InProcessService(any_database_url, tmp_path / "data") as running:
        yield running


@pytest.mark.parametrize("kind", ["gradients", "select"])
def test_a_connection_cut_at_the_answer_to_a_commit_makes_one_commit(
    service: InProcessService, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    job = service.submit(service.push(jsonl(sums(6)))["id"])
    commit, cuts = service.runner.commit, iter([1])

    def cut(claim: Claim, outcome: Outcome, lines: Any) -> bool:
        done = commit(claim, outcome, lines)
        if claim.kind == kind and next(cuts, None) is not None:
            raise OperationalError("COMMIT", {}, ConnectionError("server closed the connection"))
        return done

    monkeypatch.setattr(service.runner, "commit", cut)
    service.drain()
    assert service.job(job["id"])["status"] == "succeeded"
    with service.runner.database.read() as session:
        units = {unit.id: unit for unit in session.scalars(select(Unit))}
        commits = list(session.scalars(select(UnitCommit)))
    assert sorted(commit.unit_id for commit in commits) == sorted(units)
    assert {(unit.epoch, unit.attempts) for unit in units.values()} == {(1, 1)}, "nothing was done twice"


def test_a_full_disk_costs_an_attempt_and_leaves_no_half_file(
    service: InProcessService, monkeypatch: pytest.MonkeyPatch
) -> None:
    job = service.submit(service.push(jsonl(sums(6)))["id"])
    before = {path for path in service.settings.data_dir.rglob("*") if path.is_file()}
    add, full = service.runner.store.add, iter([1])

    def no_space(*arguments: Any) -> Any:
        if next(full, None) is not None:
            raise OSError(errno.ENOSPC, "No space left on device")
        return add(*arguments)

    monkeypatch.setattr(service.runner.store, "add", no_space)
    claim = service.runner.units.claim_next("test")
    assert claim is not None
    service.runner.run_claim(claim)
    with service.runner.database.read() as session:
        unit = session.get(Unit, claim.unit_id)
        assert unit is not None
        assert (unit.state, unit.attempts) == ("pending", 1)
        assert (unit.error or {})["code"] == "storage-full"
        assert session.scalars(select(UnitCommit).where(UnitCommit.unit_id == claim.unit_id)).all() == []
    assert {path for path in service.settings.data_dir.rglob("*") if path.is_file()} <= before | set(
        service.settings.data_dir.glob("spice.db*")
    )
    service.drain()
    assert service.job(job["id"])["status"] == "succeeded"
