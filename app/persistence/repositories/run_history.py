"""What past units and jobs took, for estimates."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from sqlalchemy import JSON, and_, select, type_coerce
from sqlalchemy.orm import Session

from app.persistence.tables import Dataset, Evaluation, GradientSet, Job, Unit, UnitCommit
from app.status import JobStatus, UnitKind, UnitState

LATEST = 50


@dataclass(frozen=True)
class RecordedShard:
    """A gradient shard that was computed.

    Attributes:
        rows_sha256: Digest (hex) of the rows of its data set.
        config: Proxy, revision and gradient settings of its set.
        text_bytes: Text of its rows in bytes; None for data sets that were read before this was counted.
        result: What its worker reported; ``tokens`` and ``seconds`` are there.
    """

    rows_sha256: str | None
    config: dict[str, Any]
    text_bytes: int | None
    result: dict[str, Any]


@dataclass(frozen=True)
class RecordedSelection:
    """A choice that was made: settings of the job, sizes, and the seconds of choosing alone."""

    config: dict[str, Any]
    pool: int
    selected: int
    seconds: float


@dataclass(frozen=True)
class RecordedTraining:
    """A training of an evaluation: how it was tuned, tokens it saw, seconds with the losses after it."""

    tuning: str
    tokens: int
    seconds: float


class RunHistory:
    """The latest measurements of the whole deployment; they hold times and counts, nothing of what was measured."""

    def __init__(self, session: Session) -> None:
        self.session = session

    def shards(self) -> list[RecordedShard]:
        """Gradient shards, latest first."""
        query = (
            select(Unit.shard, Dataset.shards, Dataset.rows_sha256, GradientSet.config, UnitCommit.result)
            .join(UnitCommit, and_(UnitCommit.unit_id == Unit.id, UnitCommit.generation == Unit.generation))
            .join(GradientSet, GradientSet.id == Unit.gradient_set_id)
            .join(Dataset, Dataset.id == Unit.dataset_id)
            .where(Unit.kind == UnitKind.GRADIENTS, Unit.state == UnitState.DONE)
            .order_by(Unit.id.desc())
            .limit(LATEST)
        )
        found = []
        for shard, stored, rows_sha256, config, result in self.session.execute(query):
            if not {"tokens", "seconds"} <= result.keys() or "adopted_from" in result:
                continue  # of a worker that did not report them yet, or measured for another data set and counted there
            here = (stored or [])[shard : shard + 1]
            found.append(RecordedShard(rows_sha256, config, here[0].get("text_bytes") if here else None, result))
        return found

    def choices(self) -> list[RecordedSelection]:
        """Selections of jobs that succeeded, latest first."""
        result = type_coerce(Job.result, JSON)
        query = (
            select(
                Job.config,
                result["pool"].as_integer(),
                result["selected"].as_integer(),
                result["seconds"]["selecting"].as_float(),
            )
            .where(Job.status == JobStatus.SUCCEEDED)
            .order_by(Job.id.desc())
            .limit(LATEST)
        )
        return [
            RecordedSelection(config, pool, selected, seconds)
            for config, pool, selected, seconds in self.session.execute(query)
            if None not in (pool, selected, seconds) and config.keys() >= {"selection", "gradients"}
        ]

    def trainings(self, revision: str) -> list[RecordedTraining]:
        """Trainings of a model of this revision, latest first."""
        query = (
            select(Evaluation.config, UnitCommit.result)
            .join(Unit, Unit.evaluation_id == Evaluation.id)
            .join(UnitCommit, and_(UnitCommit.unit_id == Unit.id, UnitCommit.generation == Unit.generation))
            .where(Unit.kind == UnitKind.EVALUATION_TRAINING, Unit.state == UnitState.DONE)
            .where(Evaluation.model_revision == revision)
            .order_by(Unit.id.desc())
            .limit(LATEST)
        )
        return [
            RecordedTraining(str((config.get("training") or {}).get("tuning")), result["tokens"], result["seconds"])
            for config, result in self.session.execute(query)
            if result.get("tokens")  # a worker of an older version did not report them
        ]
