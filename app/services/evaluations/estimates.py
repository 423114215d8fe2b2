"""What an evaluation will take, said before anything is trained."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from sqlalchemy.orm import Session

from app.persistence.repositories import RunHistory
from app.persistence.tables import Dataset
from app.services.jobs.estimates import Past, tokens_of
from app.settings import Settings
from spice_select.config import GradientConfig
from spice_select.evaluation.settings import EvaluationConfig

NEED_GROUPS = {"random_group", "stratified", "one_group"}


@dataclass(frozen=True)
class EvaluationEstimate:
    """What an evaluation will take. None where nothing is known, and then ``notes`` say why.

    Attributes:
        rows: Usable rows that the job chose from.
        chosen: Rows that it chose.
        held_out: Held-out rows.
        arms: What is trained on.
        trainings: Arms times seeds; each is a unit of work.
        steps: Optimiser steps of each.
        tokens: Tokens that all trainings see together.
        tokens_basis: As that of a job's estimate.
        seconds: Of all trainings one after the other, with the losses after each; several workers share them.
        cost: Of those seconds, as in a job's estimate.
        notes: What could not be told, and why.
    """

    rows: int
    chosen: int
    held_out: int
    arms: list[str]
    trainings: int
    steps: int
    tokens: int | None
    tokens_basis: str | None
    seconds: float | None
    cost: dict[str, Any] | None
    notes: list[str] = field(default_factory=list)


def estimate_evaluation(
    session: Session,
    dataset: Dataset,
    config: EvaluationConfig,
    *,
    chosen: int,
    held_out: int,
    revision: str,
    max_length: int,
    grouped: bool,
    settings: Settings,
) -> EvaluationEstimate:
    """Estimate an evaluation that would be accepted.

    Args:
        session: The running transaction.
        dataset: What the job chose from.
        config: Settings of the evaluation.
        chosen: Rows that the job chose.
        held_out: Held-out rows.
        revision: Of the model that is trained.
        max_length: Longest sequence in tokens.
        grouped: Whether a group column is named.
        settings: Of the service, which may set a price.
    """
    names = [*config.controls, *config.plantings]
    arms = ["choice", *(name for name in names if grouped or name not in NEED_GROUPS)]
    trainings, steps = len(arms) * config.seeds, config.training.steps(chosen)
    rows = dataset.num_usable or 0
    past = [
        shard for shard in Past.of(session, dataset.project_id).shards if shard.config["proxy_revision"] == revision
    ]
    pool, basis = tokens_of(dataset, GradientConfig(max_length=max_length), past)
    notes, tokens, seconds = [], None, None
    if pool is None:
        notes.append("tokens: the data set was read before its text was counted; register it anew")
    else:
        tokens = round(trainings * steps * config.training.batch_rows * pool / max(1, rows))
        if basis == "assumed":
            notes.append("tokens: nothing was measured with this model yet, so 4 bytes of text are taken for a token")
    tuning = config.training.tuning
    alike = [done for done in RunHistory(session, dataset.project_id).trainings(revision) if done.tuning == tuning]
    if not alike:
        notes.append("seconds: nothing was trained with this model in this way yet")
    elif tokens is not None:
        spent = sum(done.seconds for done in alike)
        seconds = round(tokens * spent / sum(done.tokens for done in alike), 3)
    return EvaluationEstimate(
        rows=rows,
        chosen=chosen,
        held_out=held_out,
        arms=arms,
        trainings=trainings,
        steps=steps,
        tokens=tokens,
        tokens_basis=basis,
        seconds=seconds,
        cost=settings.cost(seconds),
        notes=notes,
    )
