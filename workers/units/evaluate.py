"""The units of an evaluation: its plan, one training of one arm each, and the report. Imported only where they run."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from app.errors import ServiceError
from app.persistence.tables import Dataset
from app.services.units.commits import PlanOutcome, TrainingOutcome
from app.services.units.inputs import EvaluationInputs, UnitArtifact
from app.services.units.service import Claim
from app.storage import ArtifactStore
from spice_select.config import GradientConfig, digest_of
from spice_select.errors import CorruptShardError, MismatchedShardError
from spice_select.evaluation.dataset import EvaluationDataset, evaluation_dataset, text_of
from spice_select.evaluation.experiment import Turn, run_training
from spice_select.evaluation.hold_out import near_duplicates_of
from spice_select.evaluation.plan import Plan, arms_of, plan_of, read_training, report_of, write_training
from spice_select.evaluation.report import facts_of
from spice_select.ingest import PoolRow, iter_rows
from spice_select.models.proxy import Proxy
from workers.device import fitting_threads
from workers.heartbeat import Heartbeat
from workers.run_unit import ArtifactsLostError
from workers.units.compute import Compute


class EvaluationUnits:
    """Evaluations of one worker process. The rows of the latest stay encoded between its trainings.

    Args:
        compute: For the device and the loaded model.
        store: Artifacts.
    """

    def __init__(self, compute: Compute, store: ArtifactStore) -> None:
        self.compute, self.store = compute, store
        self._encoded: tuple[str, EvaluationDataset] | None = None

    def plan(self, claim: Claim, brief: EvaluationInputs, heartbeat: Heartbeat) -> PlanOutcome:
        """Keep what is like a held-out row away from all arms, judge the model before training, list the trainings.

        Raises:
            ConfigError: Nothing is left to train on or to judge by.
            ServiceError: ``proxy-changed`` or ``artifact-corrupt``.
        """  # ruff: ignore[docstring-extraneous-exception] - raised by the steps
        model = self._model(brief)
        heartbeat.phase("preparing")
        rows, judges = self._rows(claim.project_id, brief)
        texts = [text_of(row) for row in rows]
        alike = set(near_duplicates_of(texts, [text_of(row) for row in judges], seed=brief.config.seed))
        away = set() if brief.holdout is not None else set(brief.excluded)
        held_out = {place for place, row in enumerate(rows) if row.source_row in away}
        taken = alike | held_out
        material = self._material(brief, model, rows, judges, sorted(taken))
        heartbeat.phase("judging")
        near = len(alike - held_out)
        facts = facts_of(material, model, brief.config, near_duplicates=near, saw_held_out=False)
        with fitting_threads(model.model):
            plan = plan_of(
                model.model, material, brief.config, subject=_subject(brief), taken=sorted(taken), facts=facts
            )
        with self.store.scratch() as folder:
            (folder / "plan").write_text(plan.json(), encoding="utf-8")
            sha256 = self.store.add(claim.project_id, folder / "plan")
        self._encoded = (sha256, material)
        arms = [name for name, _ in plan.arms]
        trainings = len(plan.trainings(brief.config.seeds))
        return PlanOutcome(sha256, trainings, plan.schedule.steps, {"arms": arms, "device": self.compute.device_name})

    def train(self, claim: Claim, brief: EvaluationInputs, heartbeat: Heartbeat) -> TrainingOutcome:
        """Train one arm once and store the held-out losses.

        Raises:
            ArtifactsLostError: The plan has to be made again.
            ConfigError: The training diverged.
            Stopped: The heartbeat said so; what was trained so far is worth nothing.
        """  # ruff: ignore[docstring-extraneous-exception] - raised by the steps
        assert claim.shard is not None
        plan, made = self._plan(claim.project_id, brief)
        model = self._model(brief)
        if self._encoded is None or self._encoded[0] != made.sha256:
            self._encoded = None  # the old rows go before the new ones come
            rows, judges = self._rows(claim.project_id, brief)
            self._encoded = (made.sha256, self._material(brief, model, rows, judges, plan.taken))
        material = self._encoded[1]
        place, turn = plan.trainings(brief.config.seeds)[claim.shard]
        arm = arms_of(material, brief.config)[place]
        heartbeat.phase("training", plan.schedule.steps, "steps")
        with fitting_threads(model.model):
            found = run_training(
                model.model,
                material.pool,
                material.held_out,
                arm,
                brief.config,
                plan.schedule,
                turn=turn,
                should_stop=_counted(heartbeat),
            )
        with self.store.scratch() as folder:
            written = write_training(folder / "losses", found, _header(made, plan, claim.shard, brief))
            sha256 = self.store.add(claim.project_id, folder / "losses", written)
        told = {"arm": arm.name, "seed": brief.config.seed + turn, "loss": float(found.losses.mean())}
        spent = {"tokens": found.spent.tokens, "seconds": round(found.seconds, 3)}
        result = {**told, **spent, "device": self.compute.device_name}
        return TrainingOutcome(sha256, result)

    def report(self, claim: Claim, brief: EvaluationInputs, heartbeat: Heartbeat) -> dict[str, Any]:
        """Put the losses of all trainings together and say what follows.

        Raises:
            ArtifactsLostError: The plan or losses have to be made again.
        """
        heartbeat.phase("reporting")
        plan, made = self._plan(claim.project_id, brief)
        turns: dict[str, list[Turn]] = {name: [] for name, _ in plan.arms}
        lost: list[str] = []
        for number, (place, _) in enumerate(plan.trainings(brief.config.seeds)):
            trained = brief.trainings[number]
            try:
                path = self.store.path(claim.project_id, trained.sha256)
                header = _header(made, plan, number, brief)
                turn = read_training(path, trained.sha256, header, seconds=float(trained.result["seconds"]))
            except (ServiceError, CorruptShardError, MismatchedShardError):
                lost.append(trained.unit_id)
            else:
                turns[plan.arms[place][0]].append(turn)
        if lost:
            raise ArtifactsLostError(lost, f"the losses of {len(lost)} of {len(brief.trainings)} trainings are missing")
        devices = sorted({str(trained.result["device"]) for trained in brief.trainings})
        return {**report_of(plan, turns, brief.config), "devices": devices}

    def _model(self, brief: EvaluationInputs) -> Proxy:
        return self.compute.proxy(brief.model, brief.evaluation.model_revision, GradientConfig())

    def _plan(self, project_id: str, brief: EvaluationInputs) -> tuple[Plan, UnitArtifact]:
        assert brief.plan is not None
        try:
            path = self.store.intact(project_id, brief.plan.sha256)
            return Plan.read(path.read_text(encoding="utf-8")), brief.plan
        except (ServiceError, MismatchedShardError, OSError) as error:
            raise ArtifactsLostError(
                [brief.plan.unit_id], "the plan of the evaluation is missing or changed"
            ) from error

    def _rows(self, project_id: str, brief: EvaluationInputs) -> tuple[list[PoolRow], list[PoolRow]]:
        """The rows that were chosen from, and those that judge."""
        rows = self._read(project_id, brief.dataset)
        if brief.holdout is not None:
            return rows, self._read(project_id, brief.holdout)
        away = set(brief.excluded)
        return rows, [row for row in rows if row.source_row in away]

    def _read(self, project_id: str, dataset: Dataset) -> list[PoolRow]:
        paths = [self.store.intact(project_id, shard["sha256"]) for shard in dataset.shards or []]
        return [row for path in paths for row in iter_rows(path)]

    @staticmethod
    def _material(
        brief: EvaluationInputs, model: Proxy, rows: list[PoolRow], judges: list[PoolRow], taken: list[int]
    ) -> EvaluationDataset:
        place_of = {row.source_row: place for place, row in enumerate(rows)}
        return evaluation_dataset(
            rows,
            [place_of[row] for row in brief.chosen],
            judges,
            taken=taken,
            tokenizer=model.tokenizer,
            max_length=brief.evaluation.max_length,
            group=brief.evaluation.group_column,
        )


def _subject(brief: EvaluationInputs) -> str:
    """Digest (hex) of what is evaluated: with the settings in the plan, everything that decides a training."""
    return digest_of(
        {
            "rows": brief.dataset.rows_sha256,
            "judges": brief.excluded if brief.holdout is None else brief.holdout.rows_sha256,
            "chosen": brief.chosen,
            "group": brief.evaluation.group_column,
            "max_length": brief.evaluation.max_length,
        }
    )


def _header(made: UnitArtifact, plan: Plan, number: int, brief: EvaluationInputs) -> dict[str, Any]:
    """What the losses of a training say about themselves."""
    place, turn = plan.trainings(brief.config.seeds)[number]
    return {"plan": made.sha256, "arm": plan.arms[place][0], "turn": turn}


def _counted(heartbeat: Heartbeat) -> Callable[[], bool]:
    """``should_stop`` of a training, which is asked before every step: also counts the steps."""
    steps = 0

    def asked() -> bool:
        nonlocal steps
        heartbeat.advance(steps)
        steps += 1
        return heartbeat.should_stop()

    return asked
