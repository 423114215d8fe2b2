"""What the units of an evaluation share: the rows, encoded once, the plan, and the model."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from app.errors import ServiceError
from app.persistence.tables import Dataset
from app.services.units.inputs import EvaluationInputs, UnitArtifact
from spice_select.config import GradientConfig, digest_of
from spice_select.errors import MismatchedShardError
from workers.storage.errors import ArtifactsLostError
from workers.units.resources import Resources

if TYPE_CHECKING:
    from spice_select.evaluation.dataset import EvaluationDataset
    from spice_select.evaluation.plan import Plan
    from spice_select.ingest import PoolRow
    from spice_select.models.proxy import Proxy


class EvaluationRows:
    """Reads what an evaluation is about. The rows of the latest stay encoded between its trainings.

    Args:
        resources: For the store and the loaded model.
    """

    def __init__(self, resources: Resources) -> None:
        self._resources = resources
        self._encoded: tuple[str, EvaluationDataset] | None = None

    def model(self, inputs: EvaluationInputs) -> Proxy:
        """The model that is trained."""
        return self._resources.proxy(inputs.model, inputs.evaluation.model_revision, GradientConfig())

    def plan(self, project_id: str, inputs: EvaluationInputs) -> tuple[Plan, UnitArtifact]:
        """The plan, and what names it.

        Raises:
            ArtifactsLostError: It has to be made again.
        """
        from spice_select.evaluation.plan import Plan

        assert inputs.plan is not None
        try:
            path = self._resources.store.intact(project_id, inputs.plan.sha256)
            return Plan.read(path.read_text(encoding="utf-8")), inputs.plan
        except (ServiceError, MismatchedShardError, OSError) as error:
            raise ArtifactsLostError(
                [inputs.plan.unit_id], "the plan of the evaluation is missing or changed"
            ) from error

    def read(self, project_id: str, inputs: EvaluationInputs) -> tuple[list[PoolRow], list[PoolRow]]:
        """The rows that were selected from, and the held-out rows."""
        rows = self._read(project_id, inputs.dataset)
        if inputs.holdout is not None:
            return rows, self._read(project_id, inputs.holdout)
        held_out = set(inputs.excluded)
        return rows, [row for row in rows if row.source_row in held_out]

    def encode(
        self, inputs: EvaluationInputs, model: Proxy, rows: list[PoolRow], held_out: list[PoolRow], taken: list[int]
    ) -> EvaluationDataset:
        """Encode rows for the model.

        Args:
            inputs: What is evaluated.
            model: Has the tokenizer.
            rows: The rows that were selected from.
            held_out: The held-out rows.
            taken: Places of rows that no arm may have.
        """
        from spice_select.evaluation.dataset import evaluation_dataset

        place_of = {row.source_row: place for place, row in enumerate(rows)}
        return evaluation_dataset(
            rows,
            [place_of[row] for row in inputs.chosen],
            held_out,
            taken=taken,
            tokenizer=model.tokenizer,
            max_length=inputs.evaluation.max_length,
            group=inputs.evaluation.group_column,
        )

    def keep(self, plan_sha256: str, dataset: EvaluationDataset) -> None:
        """Keep encoded rows for the trainings of a plan."""
        self._encoded = (plan_sha256, dataset)

    def of_plan(
        self, project_id: str, inputs: EvaluationInputs, model: Proxy, plan: Plan, plan_sha256: str
    ) -> EvaluationDataset:
        """The encoded rows of a plan, which are kept.

        Args:
            project_id: Owner.
            inputs: What is evaluated.
            model: Has the tokenizer.
            plan: Says which rows no arm may have.
            plan_sha256: Names the plan.
        """
        if self._encoded is None or self._encoded[0] != plan_sha256:
            self._encoded = None  # the old rows go before the new ones come
            rows, held_out = self.read(project_id, inputs)
            self.keep(plan_sha256, self.encode(inputs, model, rows, held_out, plan.taken))
        assert self._encoded is not None
        return self._encoded[1]

    def _read(self, project_id: str, dataset: Dataset) -> list[PoolRow]:
        from spice_select.ingest import iter_rows

        paths = [self._resources.store.intact(project_id, shard["sha256"]) for shard in dataset.shards or []]
        return [row for path in paths for row in iter_rows(path)]


def subject_of(inputs: EvaluationInputs) -> str:
    """Digest (hex) of what is evaluated: with the settings in the plan, everything that decides a training."""
    return digest_of(
        {
            "rows": inputs.dataset.rows_sha256,
            "judges": inputs.excluded if inputs.holdout is None else inputs.holdout.rows_sha256,
            "chosen": inputs.chosen,
            "group": inputs.evaluation.group_column,
            "max_length": inputs.evaluation.max_length,
        }
    )


def training_header(artifact: UnitArtifact, plan: Plan, number: int, inputs: EvaluationInputs) -> dict[str, Any]:
    """What the losses of a training say about themselves.

    Args:
        artifact: Names the plan.
        plan: The plan.
        number: Of the training.
        inputs: What is evaluated.
    """
    place, turn = plan.trainings(inputs.config.seeds)[number]
    return {"plan": artifact.sha256, "arm": plan.arms[place][0], "turn": turn}
