"""An ``evaluation_plan`` unit: which arms are trained, for how long, and what the model knows before."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from app.ids import new_id
from app.persistence.repositories import Evaluations, Events, Units
from app.services.evaluations.service import UNIT_VERSION
from app.services.units.commits import Outcome
from app.services.units.inputs import EvaluationInputs, evaluation_inputs
from app.services.units.leases import Claim
from app.status import EVALUATING, UnitKind
from workers.device import fitting_threads
from workers.heartbeat import Heartbeat
from workers.units.evaluation import EvaluationRows, subject_of
from workers.units.handler import UnitHandler
from workers.units.resources import Resources


@dataclass(frozen=True)
class PlanOutcome(Outcome):
    """What an evaluation is to train, stored.

    Attributes:
        trainings: How many there are.
        steps: Optimiser steps of each.
    """

    trainings: int
    steps: int


class EvaluationPlanHandler(UnitHandler[EvaluationInputs, PlanOutcome]):
    """Plans an evaluation.

    Args:
        resources: What the handlers of a process share.
        rows: The rows of evaluations.
    """

    kind = UnitKind.EVALUATION_PLAN

    def __init__(self, resources: Resources, rows: EvaluationRows) -> None:
        super().__init__(resources)
        self._rows = rows

    def load(self, session: Any, claim: Claim) -> EvaluationInputs:
        """Read what is evaluated."""
        return evaluation_inputs(session, claim)

    def run(self, claim: Claim, inputs: EvaluationInputs, heartbeat: Heartbeat, folder: Path) -> PlanOutcome:
        """Keep what is like a held-out row away from all arms, evaluate the model before training, list the trainings.

        Raises:
            ConfigError: Nothing is left to train on or to evaluate with.
            ServiceError: ``proxy-changed`` or ``artifact-corrupt``.
        """  # ruff: ignore[docstring-extraneous-exception] - raised by the steps
        heartbeat.phase("loading_model")
        from spice_select.evaluation.dataset import text_of
        from spice_select.evaluation.plan import plan_of
        from spice_select.evaluation.report import facts_of
        from spice_select.records.near_duplicates import near_duplicates_of

        model = self._rows.model(inputs)
        heartbeat.phase("preparing")
        rows, held_out = self._rows.read(claim.project_id, inputs)
        texts = [text_of(row) for row in rows]
        alike = set(near_duplicates_of(texts, [text_of(row) for row in held_out], seed=inputs.config.seed))
        excluded = set() if inputs.holdout is not None else set(inputs.excluded)
        in_pool = {place for place, row in enumerate(rows) if row.source_row in excluded}
        taken = sorted(alike | in_pool)
        dataset = self._rows.encode(inputs, model, rows, held_out, taken)
        heartbeat.phase("judging")
        near = len(alike - in_pool)
        facts = facts_of(dataset, model, inputs.config, near_duplicates=near, saw_held_out=False)
        with fitting_threads(model.model):
            plan = plan_of(model.model, dataset, inputs.config, subject=subject_of(inputs), taken=taken, facts=facts)
        (folder / "plan").write_text(plan.json(), encoding="utf-8")
        sha256 = self.resources.store.add(claim.project_id, folder / "plan")
        self._rows.keep(sha256, dataset)
        record = {"arms": [name for name, _ in plan.arms], "device": self.resources.device_name}
        return PlanOutcome(sha256, record, len(plan.trainings(inputs.config.seeds)), plan.schedule.steps)

    def commit(self, session: Any, claim: Claim, outcome: PlanOutcome) -> None:
        """Make the trainings units of their own."""
        assert claim.evaluation_id is not None
        evaluations = Evaluations(session)
        evaluation = evaluations.lock(claim.evaluation_id)
        # A plan that was lost and made again has its trainings already.
        planned = evaluations.units([claim.evaluation_id], UnitKind.EVALUATION_TRAINING).get(claim.evaluation_id, [])
        if evaluation.status not in EVALUATING or planned:
            return
        unit = {
            "project_id": claim.project_id,
            "dataset_id": claim.dataset_id,
            "evaluation_id": claim.evaluation_id,
            "kind": UnitKind.EVALUATION_TRAINING,
            "schema_version": UNIT_VERSION,
            "total": outcome.steps,
        }
        Units(session).add_all([{**unit, "id": new_id("unit"), "shard": n} for n in range(outcome.trainings)])
        data = {"trainings": outcome.trainings}
        Events(session).append(claim.project_id, "evaluation.planned", evaluation_id=claim.evaluation_id, data=data)
