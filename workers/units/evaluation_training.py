"""An ``evaluation_training`` unit: one arm of an evaluation is trained once."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from app.persistence.repositories import Events
from app.services.units.commits import Outcome
from app.services.units.inputs import EvaluationInputs, evaluation_inputs
from app.services.units.leases import Claim
from app.status import UnitKind
from workers.device import fitting_threads
from workers.heartbeat import Heartbeat
from workers.units.evaluation import EvaluationRows, training_header
from workers.units.handler import UnitHandler
from workers.units.resources import Resources


class EvaluationTrainingHandler(UnitHandler[EvaluationInputs, Outcome]):
    """Trains one arm once.

    Args:
        resources: What the handlers of a process share.
        rows: The rows of evaluations.
    """

    kind = UnitKind.EVALUATION_TRAINING

    def __init__(self, resources: Resources, rows: EvaluationRows) -> None:
        super().__init__(resources)
        self._rows = rows

    def load(self, session: Any, claim: Claim) -> EvaluationInputs:
        """Read what is evaluated."""
        return evaluation_inputs(session, claim)

    def run(self, claim: Claim, inputs: EvaluationInputs, heartbeat: Heartbeat, folder: Path) -> Outcome:
        """Train the arm and store the held-out losses.

        Raises:
            ArtifactsLostError: The plan has to be made again.
            ConfigError: The training diverged.
            Stopped: The heartbeat said so; what was trained so far is worth nothing.
        """  # ruff: ignore[docstring-extraneous-exception] - raised by the steps
        heartbeat.phase("loading_model")
        from spice_select.evaluation.experiment import run_training
        from spice_select.evaluation.plan import arms_of, write_training

        assert claim.shard is not None
        plan, artifact = self._rows.plan(claim.project_id, inputs)
        model = self._rows.model(inputs)
        dataset = self._rows.of_plan(claim.project_id, inputs, model, plan, artifact.sha256)
        place, turn = plan.trainings(inputs.config.seeds)[claim.shard]
        arm = arms_of(dataset, inputs.config)[place]
        heartbeat.phase("training", plan.schedule.steps, "steps")
        with fitting_threads(model.model):
            training = run_training(
                model.model,
                dataset.pool,
                dataset.held_out,
                arm,
                inputs.config,
                plan.schedule,
                turn=turn,
                should_stop=_counted(heartbeat),
            )
        written = write_training(folder / "losses", training, training_header(artifact, plan, claim.shard, inputs))
        sha256 = self.resources.store.add(claim.project_id, folder / "losses", written)
        record = {
            "arm": arm.name,
            "seed": inputs.config.seed + turn,
            "loss": float(training.losses.mean()),
            "tokens": training.spent.tokens,
            "seconds": round(training.seconds, 3),
            "device": self.resources.device_name,
        }
        return Outcome(sha256, record)

    def commit(self, session: Any, claim: Claim, outcome: Outcome) -> None:
        """Tell the evaluation."""
        data = {name: outcome.result[name] for name in ("arm", "seed")}
        Events(session).append(claim.project_id, "evaluation.trained", evaluation_id=claim.evaluation_id, data=data)


def _counted(heartbeat: Heartbeat) -> Callable[[], bool]:
    """``should_stop`` of a training, which is asked before every step: also counts the steps."""
    steps = 0

    def asked() -> bool:
        nonlocal steps
        heartbeat.advance(steps)
        steps += 1
        return heartbeat.should_stop()

    return asked
