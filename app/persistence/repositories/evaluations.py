"""Queries on evaluations."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Any

from sqlalchemy import ColumnElement, and_, exists, func, or_, select, update
from sqlalchemy.orm import Session, aliased

from app.persistence.repositories.rows import ListFilter, affected
from app.persistence.tables import Evaluation, Unit, UnitCommit
from app.persistence.types import clock
from app.status import EVALUATING, EvaluationStatus, UnitKind, UnitState


def evaluation_wants() -> ColumnElement[bool]:
    """Whether a unit belongs to an evaluation that goes on and has come to it: the plan, the trainings, the report."""
    before = aliased(Unit)
    waits_for = or_(
        and_(Unit.kind != UnitKind.EVALUATION_PLAN, before.kind == UnitKind.EVALUATION_PLAN),
        and_(Unit.kind == UnitKind.EVALUATION_REPORT, before.kind == UnitKind.EVALUATION_TRAINING),
    )
    return and_(
        Unit.evaluation_id.is_not(None),
        exists().where(Evaluation.id == Unit.evaluation_id, Evaluation.status.in_(EVALUATING)),
        ~exists().where(before.evaluation_id == Unit.evaluation_id, before.state != UnitState.DONE, waits_for),
    )


class Evaluations:
    """Evaluations; every read on behalf of a client goes through the project."""

    def __init__(self, session: Session) -> None:
        self.session = session

    def add(self, evaluation: Evaluation) -> None:
        """Insert a new evaluation."""
        self.session.add(evaluation)
        self.session.flush()

    def get(self, project_id: str, evaluation_id: str) -> Evaluation | None:
        """The evaluation, unless it is another project's."""
        query = select(Evaluation).where(Evaluation.id == evaluation_id, Evaluation.project_id == project_id)
        return self.session.scalars(query).one_or_none()

    def lock(self, evaluation_id: str) -> Evaluation:
        """The evaluation that a unit belongs to, locked until the transaction ends."""
        query = select(Evaluation).where(Evaluation.id == evaluation_id).with_for_update()
        return self.session.scalars(query.execution_options(populate_existing=True)).one()

    def page(
        self, project_id: str, wanted: ListFilter, *, job_id: str | None, before: str | None, limit: int
    ) -> list[Evaluation]:
        """In the order that is wanted, starting behind an id."""
        query = select(Evaluation).where(Evaluation.project_id == project_id)
        if job_id is not None:
            query = query.where(Evaluation.job_id == job_id)
        return list(self.session.scalars(wanted.page(query, Evaluation, before, limit)))

    def move(self, evaluation_id: str, old: tuple[EvaluationStatus, ...], new: EvaluationStatus, **values: Any) -> bool:
        """Change the state if it is still one of ``old``; the one place that writes ``status``."""
        stamp = "started_at" if new is EvaluationStatus.RUNNING else "finished_at"
        statement = (
            update(Evaluation)
            .where(Evaluation.id == evaluation_id, Evaluation.status.in_(old))
            .values(status=new, version=Evaluation.version + 1, **{stamp: clock()}, **values)
        )
        return affected(self.session.execute(statement)) == 1

    def units(self, evaluation_ids: Sequence[str], kind: UnitKind | None = None) -> dict[str, list[Unit]]:
        """The units of evaluations, or those of one kind, in the order of the trainings; by evaluation."""
        if not evaluation_ids:
            return {}
        query = select(Unit).where(Unit.evaluation_id.in_(evaluation_ids))
        if kind is not None:
            query = query.where(Unit.kind == kind)
        units: dict[str, list[Unit]] = {}
        for unit in self.session.scalars(query.order_by(Unit.kind, Unit.shard)):
            units.setdefault(unit.evaluation_id or "", []).append(unit)
        return units

    def units_now(self, evaluation_ids: Sequence[str]) -> tuple[dict[str, list[Unit]], datetime | None]:
        """The same, and the database's clock in the same statement; no clock without a unit."""
        query = select(Unit, clock()).where(Unit.evaluation_id.in_(evaluation_ids))
        rows = self.session.execute(query.order_by(Unit.kind, Unit.shard)).all()
        units: dict[str, list[Unit]] = {}
        for unit, _ in rows:
            units.setdefault(unit.evaluation_id or "", []).append(unit)
        return units, rows[0][1] if rows else None

    def commits(self, evaluation_id: str, kind: UnitKind) -> list[tuple[Unit, UnitCommit]]:
        """Every done unit of a kind of an evaluation with what it produced, in the order of the trainings."""
        query = (
            select(Unit, UnitCommit)
            .join(UnitCommit, and_(UnitCommit.unit_id == Unit.id, UnitCommit.generation == Unit.generation))
            .where(Unit.evaluation_id == evaluation_id, Unit.kind == kind, Unit.state == UnitState.DONE)
            .order_by(Unit.shard)
        )
        return [(unit, commit) for unit, commit in self.session.execute(query)]

    def active_of(self, job_id: str) -> int:
        """Evaluations of a job that have not ended."""
        query = select(func.count()).select_from(Evaluation)
        return self.session.scalars(query.where(Evaluation.job_id == job_id, Evaluation.status.in_(EVALUATING))).one()

    def active_on(self, dataset_id: str) -> int:
        """Evaluations that have not ended and train on a data set or hold it out."""
        uses = or_(Evaluation.dataset_id == dataset_id, Evaluation.holdout_dataset_id == dataset_id)
        query = select(func.count()).select_from(Evaluation).where(uses, Evaluation.status.in_(EVALUATING))
        return self.session.scalars(query).one()
