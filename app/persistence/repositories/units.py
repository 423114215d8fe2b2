"""Queries on units of work: who may do what now, under which lease."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from sqlalchemy import BindParameter, ColumnElement, and_, bindparam, case, func, or_, select, update
from sqlalchemy.orm import Session

from app.persistence.repositories.job_units import prepares
from app.persistence.repositories.rows import affected, insert_all, now
from app.persistence.repositories.scheduling import priority_order, runnable
from app.persistence.tables import Job, Project, Unit, UnitCommit
from app.persistence.tables.core import Id
from app.persistence.types import clock
from app.status import PREPARING, JobStatus, UnitKind, UnitState

_OWN_SET: BindParameter[str] = bindparam("own_set", type_=Id)
_DONE_SHARDS = select(Unit.fingerprint, Unit.gradient_set_id, Unit.shard).where(
    Unit.project_id == bindparam("project_id"),
    Unit.kind == UnitKind.GRADIENTS,
    Unit.state == UnitState.DONE,
    or_(
        Unit.fingerprint.in_(bindparam("prints", expanding=True)),
        and_(Unit.gradient_set_id == _OWN_SET, Unit.job_id.is_(None)),
    ),
)


class Units:
    """Units of work."""

    def __init__(self, session: Session) -> None:
        self.session = session

    def add_all(self, rows: Iterable[dict[str, Any]]) -> None:
        """Insert pending units; ``schema_version`` is 1 unless a row says more."""
        fixed = {
            "state": UnitState.PENDING,
            "schema_version": 1,
            **dict.fromkeys(("epoch", "attempts", "lost_leases", "completed"), 0),
            "generation": 1,
        }
        insert_all(self.session, Unit, ({**fixed, **row} for row in rows), "created_at", "not_before")

    def get(self, unit_id: str) -> Unit | None:
        """The unit as it stands."""
        query = select(Unit).where(Unit.id == unit_id).execution_options(populate_existing=True)
        return self.session.scalars(query).one_or_none()

    def claim(self, unit_id: str, owner: str, lease_seconds: float, max_lost_leases: int) -> Unit | None:
        """Take the unit under a lease, raising its epoch; None when it is not to be had.

        One statement, so two claimants cannot both win; the epoch fences off whoever held it before.
        """
        # Two claims of a limited project go one after the other: each must see the lease that the other took.
        limited = (
            select(Project.id)
            .join(Unit, Unit.project_id == Project.id)
            .where(Unit.id == unit_id, Project.max_running_units.is_not(None))
        )
        self.session.execute(limited.with_for_update(of=Project))
        lost = case((Unit.state == UnitState.LEASED, 1), else_=0)
        statement = (
            update(Unit)
            .where(Unit.id == unit_id, runnable(max_lost_leases))
            .values(
                state=UnitState.LEASED,
                epoch=Unit.epoch + 1,
                attempts=Unit.attempts + 1,
                lost_leases=Unit.lost_leases + lost,
                owner=owner,
                lease_until=clock(lease_seconds),
                heartbeat_at=clock(),
                started_at=func.coalesce(Unit.started_at, clock()),
                phase=None,
                completed=0,
                rate=None,
                token_rate=None,
                memory_bytes=None,
            )
            .returning(Unit)
            .execution_options(synchronize_session=False, populate_existing=True)
        )
        unit = self.session.scalars(statement).one_or_none()
        if unit is not None:
            self.session.execute(update(Project).where(Project.id == unit.project_id).values(served_at=clock()))
        return unit

    def runnable_ids(self, limit: int, max_lost_leases: int, *, across_projects: bool = False) -> list[str]:
        """Units that may be claimed, the next one first; see ``priority_order``."""
        order = priority_order(across_projects=across_projects)
        query = select(Unit.id).where(runnable(max_lost_leases)).order_by(*order).limit(limit)
        return list(self.session.scalars(query))

    def lock_unnotified(self, notify_seconds: float | None, limit: int, max_lost_leases: int) -> list[str]:
        """Runnable units that no worker was notified of lately; locked, so that two dispatchers never send the same.

        Args:
            notify_seconds: What "lately" means; None takes only units that no worker was ever notified of.
            limit: Most units.
            max_lost_leases: See ``runnable``.
        """
        silent: ColumnElement[bool] = Unit.notified_at.is_(None)
        if notify_seconds is not None:
            silent = or_(silent, Unit.notified_at < clock(-notify_seconds))
        query = (
            select(Unit.id)
            .where(runnable(max_lost_leases), silent)
            .order_by(*priority_order())
            .limit(limit)
            .with_for_update(skip_locked=True)
        )
        return list(self.session.scalars(query))

    def mark_notified(self, unit_ids: list[str]) -> None:
        """Remember that workers have just been notified of these."""
        self.session.execute(update(Unit).where(Unit.id.in_(unit_ids)).values(notified_at=clock()))

    def heartbeat(self, unit_id: str, epoch: int, lease_seconds: float, values: dict[str, Any]) -> Unit | None:
        """Renew the lease and note the progress; None when the lease belongs to somebody else by now."""
        statement = (
            update(Unit)
            .where(Unit.id == unit_id, Unit.epoch == epoch, Unit.state == UnitState.LEASED)
            .values(**values, lease_until=clock(lease_seconds), heartbeat_at=clock())
            .returning(Unit)
            .execution_options(synchronize_session=False, populate_existing=True)
        )
        return self.session.scalars(statement).one_or_none()

    def end_lease(self, unit_id: str, epoch: int, state: UnitState, values: dict[str, Any]) -> bool:
        """Leave the lease for another state; False when the epoch is stale, and then nothing has changed."""
        statement = (
            update(Unit)
            .where(Unit.id == unit_id, Unit.epoch == epoch, Unit.state == UnitState.LEASED)
            .values(**values, state=state, owner=None, lease_until=None, notified_at=None)
        )
        return affected(self.session.execute(statement)) == 1

    def record_commit(self, commit: UnitCommit) -> None:
        """Write down what the unit produced."""
        self.session.add(commit)
        self.session.flush()

    def committed(self, unit_id: str, epoch: int) -> UnitCommit | None:
        """The commit this very epoch made, for a retry after an unknown outcome."""
        query = select(UnitCommit).where(UnitCommit.unit_id == unit_id, UnitCommit.epoch == epoch)
        return self.session.scalars(query).one_or_none()

    def shards(self, gradient_set_id: str) -> list[Unit]:
        """The gradient units of a set, in the order of the pool."""
        query = select(Unit).where(Unit.gradient_set_id == gradient_set_id, Unit.kind == UnitKind.GRADIENTS)
        return list(self.session.scalars(query.order_by(Unit.shard)))

    def preparations(self, gradient_set_id: str) -> list[tuple[Unit, UnitCommit]]:
        """The warm-up and the prefilter of a gradient set, where they are done, with what they left."""
        return self._commits(prepares([gradient_set_id]), Unit.kind.in_(PREPARING))

    def named(self, project_id: str, kind: UnitKind, fingerprint: str) -> Unit | None:
        """A project's warm-up or prefilter of a fingerprint, locked; the first, should there be two."""
        query = select(Unit).where(Unit.project_id == project_id, Unit.fingerprint == fingerprint, Unit.kind == kind)
        return self.session.scalars(query.order_by(Unit.id).limit(1).with_for_update()).one_or_none()

    def sets_of(self, unit_ids: Sequence[str]) -> list[str]:
        """The gradient sets whose shards are among these units, in the order in which sets are locked."""
        query = select(Unit.gradient_set_id).where(Unit.id.in_(unit_ids), Unit.kind == UnitKind.GRADIENTS).distinct()
        return sorted(gradient_set_id for gradient_set_id in self.session.scalars(query) if gradient_set_id is not None)

    def unfinished_shards(self, gradient_set_id: str) -> int:
        """How many gradient units of a set are not done."""
        query = (
            select(func.count())
            .select_from(Unit)
            .where(
                Unit.gradient_set_id == gradient_set_id,
                Unit.kind == UnitKind.GRADIENTS,
                Unit.state != UnitState.DONE,
            )
        )
        return self.session.scalars(query).one()

    def unfinished_parts(self, job_id: str) -> int:
        """How many parts of a job are not done."""
        query = (
            select(func.count())
            .select_from(Unit)
            .where(Unit.job_id == job_id, Unit.kind == UnitKind.SELECT_PART, Unit.state != UnitState.DONE)
        )
        return self.session.scalars(query).one()

    def part_commits(self, job_id: str) -> list[tuple[Unit, UnitCommit]]:
        """Every done part of a job with what it produced, in the order of the parts."""
        return self._commits(Unit.job_id == job_id, Unit.kind == UnitKind.SELECT_PART)

    def shard_commits(self, gradient_set_id: str) -> list[tuple[Unit, UnitCommit]]:
        """Every done shard with what it produced, in the order of the pool."""
        return self._commits(Unit.gradient_set_id == gradient_set_id, Unit.kind == UnitKind.GRADIENTS)

    def made_shards(self, project_id: str, fingerprints: Iterable[str]) -> dict[str, UnitCommit]:
        """What a project has of shards by their fingerprint, made for whichever data set; the latest of each."""
        wanted = sorted(set(fingerprints))
        commits: dict[str, UnitCommit] = {}
        for start in range(0, len(wanted), 500):  # a statement takes only so many parameters
            some = wanted[start : start + 500]
            query = (
                select(Unit.fingerprint, UnitCommit)
                .join(UnitCommit, and_(UnitCommit.unit_id == Unit.id, UnitCommit.generation == Unit.generation))
                .where(Unit.project_id == project_id, Unit.fingerprint.in_(some), Unit.state == UnitState.DONE)
                .order_by(Unit.id)
                # What is about to be shared must not expire before the sharing is written down.
                .with_for_update(read=True, of=Unit)
            )
            commits.update((name, commit) for name, commit in self.session.execute(query) if name is not None)
        return commits

    def done_shards(
        self, project_id: str, fingerprints: Iterable[str], gradient_set_id: str | None
    ) -> tuple[set[str], set[int]]:
        """What a project has measured: of these shards by fingerprint, of this set by number."""
        wanted = sorted(set(fingerprints))
        prints: set[str] = set()
        numbers: set[int] = set()
        for start in range(0, len(wanted), 500):
            given = {"project_id": project_id, "prints": wanted[start : start + 500], "own_set": gradient_set_id}
            for name, owner, number in self.session.execute(_DONE_SHARDS, given):
                prints.add(name or "")
                if owner == gradient_set_id and number is not None:
                    numbers.add(number)
        return prints, numbers

    def adopt(self, unit_id: str, made: UnitCommit) -> None:
        """End a pending unit with what another unit made of the same rows in the same way."""
        statement = (
            update(Unit)
            .where(Unit.id == unit_id, Unit.state == UnitState.PENDING)
            .values(state=UnitState.DONE, completed=Unit.total)
        )
        self.session.execute(statement)
        self.record_commit(
            UnitCommit(
                unit_id=unit_id,
                generation=1,
                epoch=0,
                owner=made.owner,
                artifact_sha256=made.artifact_sha256,
                result={**made.result, "adopted_from": made.unit_id},
                committed_at=now(self.session),
            )
        )

    def _commits(self, *conditions: ColumnElement[bool]) -> list[tuple[Unit, UnitCommit]]:
        query = (
            select(Unit, UnitCommit)
            .join(UnitCommit, and_(UnitCommit.unit_id == Unit.id, UnitCommit.generation == Unit.generation))
            .where(*conditions)
            .order_by(Unit.shard)
        )
        return [(unit, commit) for unit, commit in self.session.execute(query)]

    def of_job(self, job_id: str) -> Unit | None:
        """The selection unit of a job."""
        query = select(Unit).where(Unit.job_id == job_id, Unit.kind == UnitKind.SELECT)
        return self.session.scalars(query).one_or_none()

    def lock_of_job(self, job_id: str) -> Unit:
        """The selection unit of a job, locked until the transaction ends."""
        query = select(Unit).where(Unit.job_id == job_id, Unit.kind == UnitKind.SELECT).with_for_update()
        return self.session.scalars(query.execution_options(populate_existing=True)).one()

    def of_dataset(self, dataset_id: str) -> Unit | None:
        """The unit that parses a data set."""
        query = select(Unit).where(Unit.dataset_id == dataset_id, Unit.kind == UnitKind.INGEST)
        return self.session.scalars(query).one_or_none()

    def reopen(self, unit_ids: list[str]) -> None:
        """Make dead or lost units pending again, as a new generation with fresh attempts."""
        statement = (
            update(Unit)
            .where(Unit.id.in_(unit_ids), Unit.state.in_((UnitState.DEAD, UnitState.DONE)))
            .values(
                state=UnitState.PENDING,
                generation=Unit.generation + 1,
                attempts=0,
                lost_leases=0,
                completed=0,
                error=None,
                notified_at=None,
                finished_at=None,
                not_before=clock(),
            )
        )
        self.session.execute(statement)

    def out_of_leases(self, max_lost_leases: int, unit_id: str | None = None) -> list[Unit]:
        """Units whose last allowed lease ran out; when one is named, it alone, and it is locked."""
        query = select(Unit).where(
            Unit.state == UnitState.LEASED, Unit.lease_until < clock(), Unit.lost_leases + 1 >= max_lost_leases
        )
        if unit_id is not None:
            query = query.where(Unit.id == unit_id).with_for_update(skip_locked=True)
        return list(self.session.scalars(query.execution_options(populate_existing=True)))

    def lock_abandoned_selections(self) -> list[Unit]:
        """Selections of jobs that are being stopped and that no worker holds: theirs died, or gave them back."""
        query = (
            select(Unit)
            .join(Job, Job.id == Unit.job_id)
            .where(
                Unit.kind == UnitKind.SELECT,
                or_(Unit.state == UnitState.PENDING, and_(Unit.state == UnitState.LEASED, Unit.lease_until < clock())),
                Job.status == JobStatus.CANCELLING,
            )
        )
        return list(self.session.scalars(query.with_for_update(of=Unit, skip_locked=True)))

    def kill(self, unit_id: str, error: dict[str, Any] | None) -> None:
        """End a unit for good; the epoch is raised so that a worker that still holds it is fenced off."""
        statement = (
            update(Unit)
            .where(Unit.id == unit_id, Unit.state.in_((UnitState.PENDING, UnitState.LEASED)))
            .values(
                state=UnitState.DEAD,
                epoch=Unit.epoch + 1,
                error=error,
                owner=None,
                lease_until=None,
                finished_at=clock(),
            )
        )
        self.session.execute(statement)
