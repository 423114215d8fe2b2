"""An ``evaluation_report`` unit: the losses of all trainings become the report of an evaluation."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from app.errors import ServiceError
from app.persistence.repositories import Evaluations, Events
from app.services.units.commits import Outcome
from app.services.units.inputs import EvaluationInputs, evaluation_inputs
from app.services.units.leases import Claim
from app.status import EVALUATING, EvaluationStatus, UnitKind
from spice_select.errors import CorruptShardError, MismatchedShardError
from workers.heartbeat import Heartbeat
from workers.storage.errors import ArtifactsLostError
from workers.units.evaluation import EvaluationRows, training_header
from workers.units.handler import UnitHandler
from workers.units.resources import Resources

if TYPE_CHECKING:
    from spice_select.evaluation.experiment import Turn


@dataclass(frozen=True)
class ReportOutcome(Outcome):
    """The report of an evaluation.

    Attributes:
        report: The evaluation's ``result``.
    """

    report: dict[str, Any]


class EvaluationReportHandler(UnitHandler[EvaluationInputs, ReportOutcome]):
    """Reports on an evaluation.

    Args:
        resources: What the handlers of a process share.
        rows: The rows of evaluations.
    """

    kind = UnitKind.EVALUATION_REPORT

    def __init__(self, resources: Resources, rows: EvaluationRows) -> None:
        super().__init__(resources)
        self._rows = rows

    def load(self, session: Any, claim: Claim) -> EvaluationInputs:
        """Read what is evaluated, and what was trained."""
        return evaluation_inputs(session, claim)

    def run(self, claim: Claim, inputs: EvaluationInputs, heartbeat: Heartbeat, _folder: Path) -> ReportOutcome:
        """Put the losses of all trainings together and say what follows.

        Raises:
            ArtifactsLostError: The plan or losses have to be made again.
        """
        heartbeat.phase("reporting")
        from spice_select.evaluation.plan import read_training, report_of

        plan, artifact = self._rows.plan(claim.project_id, inputs)
        turns: dict[str, list[Turn]] = {name: [] for name, _ in plan.arms}
        lost: list[str] = []
        for number, (place, _) in enumerate(plan.trainings(inputs.config.seeds)):
            trained = inputs.trainings[number]
            try:
                path = self.resources.store.path(claim.project_id, trained.sha256)
                header = training_header(artifact, plan, number, inputs)
                turn = read_training(path, trained.sha256, header, seconds=float(trained.result["seconds"]))
            except (ServiceError, CorruptShardError, MismatchedShardError):
                lost.append(trained.unit_id)
            else:
                turns[plan.arms[place][0]].append(turn)
        if lost:
            raise ArtifactsLostError(
                lost, f"the losses of {len(lost)} of {len(inputs.trainings)} trainings are missing"
            )
        devices = sorted({str(trained.result["device"]) for trained in inputs.trainings})
        report = {**report_of(plan, turns, inputs.config), "devices": devices}
        return ReportOutcome(None, {"verdict": report["verdict"]}, report)

    def commit(self, session: Any, claim: Claim, outcome: ReportOutcome) -> None:
        """End the evaluation with its report."""
        assert claim.evaluation_id is not None
        report = outcome.report
        if Evaluations(session).move(claim.evaluation_id, EVALUATING, EvaluationStatus.SUCCEEDED, result=report):
            data = {"verdict": report["verdict"], "sentence": report["sentence"]}
            Events(session).append(
                claim.project_id, "evaluation.succeeded", evaluation_id=claim.evaluation_id, data=data
            )
