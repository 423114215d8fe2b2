"""The numbers of an experiment with one choice, as JSON values."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from spice_select.evaluation.dataset import EvaluationDataset
from spice_select.evaluation.experiment import Experiment
from spice_select.evaluation.settings import EvaluationConfig

if TYPE_CHECKING:
    from spice_select.models.proxy import Proxy


def report(experiment: Experiment, name: str) -> dict[str, Any]:
    """What was measured and what follows; losses in nats per token.

    Args:
        experiment: What was measured.
        name: The choice.
    """
    verdict = experiment.verdicts[name]
    arms = [
        {
            "name": arm.name,
            "role": arm.role,
            "rows": arm.rows,
            "tokens": arm.tokens,
            "steps": [spent.steps for spent in arm.spent],
            "tokens_trained": [spent.tokens for spent in arm.spent],
            "seconds": [round(seconds, 2) for seconds in arm.seconds],
            "loss": float(arm.losses.mean()),
            "loss_by_seed": arm.losses.mean(dim=1).tolist(),
            "loss_by_group": experiment.group_losses(arm.name),
        }
        for arm in experiment.arms
    ]
    return {
        "verdict": verdict.outcome,
        "sentence": verdict.sentence,
        "loss_at_start": float(experiment.base.mean()),
        "loss_at_start_by_group": experiment.group_losses("base"),
        "arms": arms,
        "power": [
            {"name": check.name, "claim": check.claim, "seen": check.passed, **asdict(check.interval)}
            for check in experiment.checks
        ],
        "comparisons": [
            {
                "control": found.control,
                **asdict(found.interval),
                "groups": {group: asdict(inside) for group, inside in found.groups.items()},
            }
            for found in experiment.comparisons
        ],
    }


def facts_of(
    material: EvaluationDataset, model: Proxy, config: EvaluationConfig, *, near_duplicates: int, saw_held_out: bool
) -> dict[str, Any]:
    """What was compared on what.

    Args:
        material: What was trained on and judged by.
        model: What was trained.
        config: How.
        near_duplicates: Rows of the pool that nobody was trained on because they are like a held-out row.
        saw_held_out: Whether the choice could have taken held-out rows.
    """
    return {
        "model": model.name,
        "revision": model.revision,
        "pool_rows": len(material.pool),
        "pool_tokens": sum(material.tokens),
        "selected_rows": len(material.chosen),
        "held_out_rows": len(material.held_out),
        "chosen_rows_left_out": material.left_out,
        "near_duplicates_left_out": near_duplicates,
        "choice_saw_held_out_rows": saw_held_out,
        "settings": config.model_dump(mode="json"),
    }
