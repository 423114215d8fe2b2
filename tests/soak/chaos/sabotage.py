"""The service's programs with one protection taken out: the checker has to notice each.

Nothing of this is reachable from the product: the programs of a test are started through this module instead of the
product's own, and ``SPICE_TEST_SABOTAGE`` names what to break.

    celery -A tests.soak.chaos.sabotage:celery_app worker ...
    uvicorn tests.soak.chaos.sabotage:create_app --factory ...
    python -m tests.soak.chaos.sabotage
"""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import Any

from celery import Celery
from sqlalchemy import update

from app.main import create_app
from app.persistence.repositories import Units
from app.persistence.repositories.rows import affected
from app.persistence.tables import Unit
from app.services.jobs import service
from app.services.units.commits import Outcome
from app.services.units.leases import Claim
from app.settings import Settings
from app.status import UnitState
from workers.units.gradients import GradientsHandler, GradientsInputs

__all__ = ["create_app"]

HOLD = "SPICE_TEST_HOLD"
"""Folder: a worker of this module puts ``<unit>.<epoch>`` there when a shard is
stored and not yet committed, and waits while ``hold.<epoch>`` exists. Before the
first byte of a shard is worked out it waits while ``begin.<epoch>`` exists."""
TIME_LIMIT = "SPICE_TEST_TIME_LIMIT"
"""Seconds after which Celery kills the child that runs a task, in place of the hours of the product."""


def ring_once() -> None:
    """A dispatcher that trusts the broker: what was rung is never rung again."""
    whole = Units.lock_unnotified

    def lock_unnotified(self: Units, notify_seconds: float | None, limit: int, max_lost_leases: int) -> list[str]:
        return whole(self, None, limit, max_lost_leases) if notify_seconds is None else []

    Units.lock_unnotified = lock_unnotified  # type: ignore[method-assign]


def open_the_fence() -> None:
    """Commits and heartbeats that ask only whether the unit is leased, not by whom."""
    held = Units.heartbeat

    def end_lease(self: Units, unit_id: str, _epoch: int, state: UnitState, values: dict[str, Any]) -> bool:
        statement = (
            update(Unit)
            .where(Unit.id == unit_id, Unit.state == UnitState.LEASED)
            .values(**values, state=state, owner=None, lease_until=None, notified_at=None)
        )
        return affected(self.session.execute(statement)) == 1

    def heartbeat(self: Units, unit_id: str, epoch: int, lease_seconds: float, values: dict[str, Any]) -> Unit | None:
        unit = self.get(unit_id)
        return held(self, unit_id, unit.epoch if unit is not None else epoch, lease_seconds, values)

    Units.end_lease = end_lease  # type: ignore[method-assign]
    Units.heartbeat = heartbeat  # type: ignore[method-assign]


def forget_keys() -> None:
    """An API that takes every repeated POST for a new one."""
    service.replayed = lambda *_: None  # type: ignore[attr-defined]
    service.repeated = lambda *_: None  # type: ignore[attr-defined]


SABOTAGE = {"ringing": ring_once, "fence": open_the_fence, "idempotency": forget_keys}


def hold_commits(folder: Path) -> None:
    """Let a test stop a worker at the worst moment: the artifact is stored, the commit is not made."""
    run = GradientsHandler.run

    def run_and_wait(self: GradientsHandler, claim: Claim, *args: Any) -> Outcome:
        outcome = run(self, claim, *args)
        (folder / f"{claim.unit_id}.{claim.epoch}").touch()
        while (folder / f"hold.{claim.epoch}").exists():
            time.sleep(0.05)
        return outcome

    GradientsHandler.run = run_and_wait  # type: ignore[method-assign]


def hold_beginnings(folder: Path) -> None:
    """Let a test reach a worker that holds a lease and has done nothing for it yet."""
    load = GradientsHandler.load

    def wait_and_load(self: GradientsHandler, session: Any, claim: Claim) -> GradientsInputs:
        while (folder / f"begin.{claim.epoch}").exists():
            time.sleep(0.05)
        return load(self, session, claim)

    GradientsHandler.load = wait_and_load  # type: ignore[method-assign]


if name := os.environ.get("SPICE_TEST_SABOTAGE"):
    SABOTAGE[name]()
if place := os.environ.get(HOLD):
    hold_commits(Path(place))
    hold_beginnings(Path(place))


def __getattr__(name: str) -> Celery:
    # Only the worker needs Celery's application, and making it reads the settings of the environment.
    if name != "celery_app":
        raise AttributeError(name)
    from workers.celery_app import celery_app

    if limit := os.environ.get(TIME_LIMIT):
        celery_app.conf.task_time_limit = float(limit)
    return celery_app


def main() -> None:
    """The dispatcher, sabotaged."""
    from workers.celery_tasks import CeleryExecutor
    from workers.dispatcher import dispatch

    dispatch(Settings(), CeleryExecutor())


if __name__ == "__main__":
    main()
