"""Queries on gradient sets."""

from __future__ import annotations

from typing import Any

from sqlalchemy import and_, bindparam, exists, func, or_, select, update
from sqlalchemy.orm import Session

from app.persistence.repositories.rows import insert_unless_there
from app.persistence.tables import Dataset, GradientSet, Job
from app.persistence.types import clock
from app.status import ACTIVE, GradientSetStatus

LOCK_CLASS = 0x5351
"""First half of the advisory lock's key, so that it meets no other use of such locks."""
_NAMED = select(GradientSet).where(
    GradientSet.project_id == bindparam("project_id"), GradientSet.fingerprint == bindparam("fingerprint")
)
_LOCK_NAMED = _NAMED.with_for_update(key_share=True).execution_options(populate_existing=True)
_BE_AMONG = select(func.pg_advisory_xact_lock_shared(LOCK_CLASS, func.hashtext(bindparam("name"))))


class GradientSets:
    """Gradient sets, found by the fingerprint of everything that decides their values."""

    def __init__(self, session: Session) -> None:
        self.session = session

    def add_unless_there(self, row: dict[str, Any]) -> bool:
        """Insert the set unless the project has one of this fingerprint."""
        return insert_unless_there(self.session, GradientSet, row)

    def by_fingerprint(self, project_id: str, fingerprint: str) -> GradientSet | None:
        """The set of a fingerprint."""
        return self.session.scalars(_NAMED, {"project_id": project_id, "fingerprint": fingerprint}).one_or_none()

    def named(self, project_id: str, fingerprints: list[str]) -> dict[str, str]:
        """Status of the sets that have one of these fingerprints."""
        query = select(GradientSet.fingerprint, GradientSet.status)
        found = query.where(GradientSet.project_id == project_id, GradientSet.fingerprint.in_(fingerprints))
        return {row.fingerprint: row.status for row in self.session.execute(found)}

    def join(self, project_id: str, fingerprint: str) -> None:
        """Keep whoever changes the set of a fingerprint waiting until the transaction ends.

        Any number may join at a time: those who want the same gradients need not wait for each other, only for
        whoever has it locked. Who came first is served first, so that a stream of them keeps nobody waiting for ever.
        """
        if self.session.get_bind().dialect.name == "postgresql":  # on SQLite there is one writer at a time
            self.session.execute(_BE_AMONG, {"name": project_id + fingerprint})

    def lock_by_fingerprint(self, project_id: str, fingerprint: str) -> GradientSet | None:
        """The set of a fingerprint, locked against others who have joined it and want to change it as well."""
        given = {"project_id": project_id, "fingerprint": fingerprint}
        return self.session.scalars(_LOCK_NAMED, given).one_or_none()

    def lock(self, gradient_set_id: str) -> GradientSet:
        """The set, locked, so that of two last shards one sees the other done, and all who have joined it are known."""
        if self.session.get_bind().dialect.name == "postgresql":
            name = func.hashtext(GradientSet.project_id + GradientSet.fingerprint)
            alone = select(func.pg_advisory_xact_lock(LOCK_CLASS, name)).where(GradientSet.id == gradient_set_id)
            self.session.execute(alone)
        query = select(GradientSet).where(GradientSet.id == gradient_set_id)
        # Rows that refer to the set may be written meanwhile: they come from those who have joined it.
        locked = query.with_for_update(key_share=True).execution_options(populate_existing=True)
        return self.session.scalars(locked).one()

    def get(self, project_id: str, gradient_set_id: str) -> GradientSet | None:
        """The set, unless it is another project's."""
        query = select(GradientSet).where(GradientSet.id == gradient_set_id, GradientSet.project_id == project_id)
        return self.session.scalars(query).one_or_none()

    def unused_since(self, seconds: float, *, only: str | None = None) -> list[str]:
        """Complete sets that no job has needed for so long, oldest first: every one of them has ended before.

        Args:
            seconds: How long.
            only: Of these only the set of this id.
        """
        needs = or_(Job.gradient_set_id == GradientSet.id, Job.target_gradient_set_id == GradientSet.id)
        lately = or_(Job.status.in_(ACTIVE), Job.finished_at > clock(-seconds))
        query = select(GradientSet.id).where(
            GradientSet.status == GradientSetStatus.READY,
            GradientSet.num_shards > 0,
            GradientSet.ready_at < clock(-seconds),
            ~exists().where(needs, lately),
        )
        if only is not None:
            query = query.where(GradientSet.id == only)
        return list(self.session.scalars(query.order_by(GradientSet.id)))

    def of_warmup(self, unit_id: str) -> list[GradientSet]:
        """The sets that are taken after a warm-up, in the order in which sets are locked."""
        query = select(GradientSet).where(GradientSet.warmup_unit_id == unit_id)
        return list(self.session.scalars(query.order_by(GradientSet.id)))

    def dataset_in_use(self, gradient_set_id: str) -> Dataset | None:
        """A data set that a job which has not ended wants these gradients for; such a one is not deleted."""
        pool = and_(Job.gradient_set_id == gradient_set_id, Job.dataset_id == Dataset.id)
        target = and_(Job.target_gradient_set_id == gradient_set_id, Job.target_dataset_id == Dataset.id)
        query = select(Dataset).join(Job, or_(pool, target)).where(Job.status.in_(ACTIVE))
        return self.session.scalars(query.order_by(Job.id).limit(1)).first()

    def pool_in_use(self, warmup_unit_id: str) -> Dataset | None:
        """A data set that a job which has not ended chooses from after this warm-up; such a one is not deleted."""
        query = (
            select(Dataset)
            .join(Job, Job.dataset_id == Dataset.id)
            .join(GradientSet, GradientSet.id == Job.gradient_set_id)
            .where(GradientSet.warmup_unit_id == warmup_unit_id, Job.status.in_(ACTIVE))
        )
        return self.session.scalars(query.order_by(Job.id).limit(1)).first()

    def page(self, project_id: str, *, before: str | None, limit: int) -> list[GradientSet]:
        """Newest first, starting behind an id."""
        query = select(GradientSet).where(GradientSet.project_id == project_id)
        if before is not None:
            query = query.where(GradientSet.id < before)
        return list(self.session.scalars(query.order_by(GradientSet.id.desc()).limit(limit)))

    def set_status(
        self, gradient_set_id: str, status: GradientSetStatus, *, error: dict[str, Any] | None = None
    ) -> None:
        """Change the state of the set."""
        values: dict[str, Any] = {"status": status, "error": error}
        values["ready_at"] = clock() if status is GradientSetStatus.READY else None
        self.session.execute(update(GradientSet).where(GradientSet.id == gradient_set_id).values(**values))
