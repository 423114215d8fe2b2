"""Queries on data sets, their rejected rows and their gradients."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from sqlalchemy import and_, bindparam, exists, func, or_, select, update
from sqlalchemy.orm import Session

from app.persistence.repositories.job_units import waits_for
from app.persistence.repositories.rows import ListFilter, affected, insert_all, insert_unless_there
from app.persistence.tables import Dataset, GradientSet, Job, RejectedRow
from app.persistence.types import clock
from app.status import ACTIVE, DatasetStatus, GradientSetStatus

_MINE = select(Dataset).where(
    Dataset.id == bindparam("dataset_id"), Dataset.project_id == bindparam("project_id"), Dataset.deleted_at.is_(None)
)

_HOLD = _MINE.with_for_update(read=True, key_share=True).execution_options(populate_existing=True)


class Datasets:
    """Data sets; every read goes through the project."""

    def __init__(self, session: Session) -> None:
        self.session = session

    def add(self, dataset: Dataset) -> None:
        """Insert a new data set."""
        self.session.add(dataset)
        self.session.flush()

    def get(self, project_id: str, dataset_id: str) -> Dataset | None:
        """The data set, unless it is another project's or deleted."""
        return self.session.scalars(_MINE, {"dataset_id": dataset_id, "project_id": project_id}).one_or_none()

    def hold(self, project_id: str, dataset_id: str) -> Dataset | None:
        """The same, kept from being deleted until the transaction ends; any number may hold a data set at a time."""
        return self.session.scalars(_HOLD, {"dataset_id": dataset_id, "project_id": project_id}).one_or_none()

    def lock_to_delete(self, project_id: str, dataset_id: str) -> Dataset | None:
        """The data set, deleted or not, locked against whoever would hold it."""
        query = select(Dataset).where(Dataset.id == dataset_id, Dataset.project_id == project_id).with_for_update()
        return self.session.scalars(query.execution_options(populate_existing=True)).one_or_none()

    def get_even_deleted(self, dataset_id: str) -> Dataset:
        """The data set that a unit refers to."""
        return self.session.scalars(select(Dataset).where(Dataset.id == dataset_id)).one()

    def lock(self, dataset_id: str) -> None:
        """Lock it against others who lock it; transactions that only refer to it need not wait."""
        self.session.execute(select(Dataset.id).where(Dataset.id == dataset_id).with_for_update(key_share=True))

    def names(self, project_id: str, ids: Iterable[str]) -> dict[str, str]:
        """Names of data sets by id, of deleted ones too; those without a name are left out."""
        query = select(Dataset.id, Dataset.name).where(Dataset.project_id == project_id, Dataset.id.in_(list(ids)))
        return {dataset_id: name for dataset_id, name in self.session.execute(query) if name}

    def jobs_on(self, project_id: str, ids: Iterable[str]) -> dict[str, int]:
        """How many jobs choose from each of these data sets; those without any are left out."""
        query = (
            select(Job.dataset_id, func.count())
            .where(Job.dataset_id.in_(list(ids)), Job.project_id == project_id)
            .group_by(Job.dataset_id)
        )
        return {row[0]: row[1] for row in self.session.execute(query)}

    def page(self, project_id: str, wanted: ListFilter, *, before: str | None, limit: int) -> list[Dataset]:
        """In the order that is wanted, starting behind an id."""
        visible = select(Dataset).where(Dataset.project_id == project_id, Dataset.deleted_at.is_(None))
        return list(self.session.scalars(wanted.page(visible, Dataset, before, limit)))

    def versions(self, dataset: Dataset, limit: int) -> list[Dataset]:
        """Those of its name, those that it was made from or that were made from it, and itself; newest first."""
        made_from = or_(Dataset.id == dataset.appended_to, Dataset.appended_to == dataset.id)
        query = select(Dataset).where(
            Dataset.project_id == dataset.project_id,
            Dataset.deleted_at.is_(None),
            or_(Dataset.id == dataset.id, Dataset.name == dataset.name, made_from),
        )
        return list(self.session.scalars(query.order_by(Dataset.id.desc()).limit(limit)))

    def settle(self, dataset_id: str, status: DatasetStatus, values: dict[str, Any]) -> bool:
        """End the validation; False when it had ended already."""
        statement = (
            update(Dataset)
            .where(Dataset.id == dataset_id, Dataset.status == DatasetStatus.VALIDATING)
            .values(**values, status=status, ready_at=clock(), version=Dataset.version + 1)
        )
        return affected(self.session.execute(statement)) == 1

    def pin_source(self, dataset_id: str, resolved: dict[str, Any]) -> None:
        """Write down what a source stands for, before its bytes are fetched."""
        statement = update(Dataset).where(Dataset.id == dataset_id, Dataset.status == DatasetStatus.VALIDATING)
        self.session.execute(statement.values(resolved_source=resolved))

    def mark_deleted(self, dataset_id: str) -> None:
        """Mark the data set as deleted; its row stays for the provenance of finished jobs."""
        self.session.execute(update(Dataset).where(Dataset.id == dataset_id).values(deleted_at=clock()))

    def active_jobs(self, dataset_id: str) -> int:
        """Jobs on the data set, or towards it, that have not ended."""
        uses = or_(Job.dataset_id == dataset_id, Job.target_dataset_id == dataset_id)
        query = select(func.count()).select_from(Job).where(uses, Job.status.in_(ACTIVE))
        return self.session.scalars(query).one()

    def stored(self, project_id: str) -> set[str]:
        """Digests of every stored file of the data sets of a project that are still there."""
        query = select(Dataset.sha256, Dataset.shards, Dataset.source_shards).where(
            Dataset.project_id == project_id, Dataset.deleted_at.is_(None)
        )
        named: set[str] = set()
        for sha256, *shards in self.session.execute(query):
            named |= {sha256, *(shard["sha256"] for some in shards for shard in some or [])}
        return named

    def reject_rows(self, dataset_id: str, rows: Iterable[dict[str, Any]]) -> None:
        """Write down the rows that cannot be used."""
        insert_all(self.session, RejectedRow, ({"dataset_id": dataset_id, **row} for row in rows))

    def rejected_among(self, dataset_id: str, rows: Sequence[int]) -> dict[int, str]:
        """Those of the rows that cannot be used, each with the code of the reason."""
        details: dict[int, str] = {}
        for start in range(0, len(rows), 500):
            query = select(RejectedRow.row, RejectedRow.code).where(
                RejectedRow.dataset_id == dataset_id, RejectedRow.row.in_(rows[start : start + 500])
            )
            details.update((row, code) for row, code in self.session.execute(query))
        return details

    def rejected(self, dataset_id: str, *, after: int, limit: int) -> list[RejectedRow]:
        """Rejected rows behind a row number, in order."""
        query = select(RejectedRow).where(RejectedRow.dataset_id == dataset_id, RejectedRow.row > after)
        return list(self.session.scalars(query.order_by(RejectedRow.row).limit(limit)))


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
        matching = query.where(GradientSet.project_id == project_id, GradientSet.fingerprint.in_(fingerprints))
        return {row.fingerprint: row.status for row in self.session.execute(matching)}

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

    def prepared_by(self, unit_id: str) -> list[GradientSet]:
        """The sets that wait for a warm-up or a prefilter, in the order in which sets are locked."""
        query = select(GradientSet).where(waits_for(unit_id))
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
