"""What the trainings of a search say: every setting beside random rows of the same replicates."""

from __future__ import annotations

from typing import Any

import torch

from benchmarks.toy.search_rows import Side
from spice_select.evaluation.statistics import advantage
from spice_select.records.tokenize import Example

DRAWS = 2
"""Random draws in a replicate; what is compared with is their mean."""


def arms_of(
    losses: dict[str, list[list[float]]],
    tokens: dict[str, list[int]],
    base: torch.Tensor,
    own: int,
    side: Side,
    answers: list[tuple[str, Example]],
    settings: int,
) -> list[dict[str, Any]]:
    """Every arm beside the mean of the random draws of the same replicates.

    Args:
        losses: Of each arm and replicate.
        tokens: That each arm chose in each replicate.
        base: Losses before tuning.
        own: Rows of the split that judge; answers come after them.
        side: The split.
        answers: Rows whose answers judge.
        settings: How many are tried, for intervals that hold for all of them together (Bonferroni).
    """
    draws = [torch.tensor(losses[f"random {draw}"], dtype=torch.float64) for draw in range(DRAWS)]
    shared = min(len(draw) for draw in draws)
    random = torch.stack([draw[:shared] for draw in draws]).mean(dim=0)
    tables = {"random": random}
    tables |= {
        name: torch.tensor(found, dtype=torch.float64)[:shared]
        for name, found in losses.items()
        if not name.startswith("random ")
    }
    tokens = {**tokens, "random": [tokens["random 0"][turn] for turn in range(shared)]}
    result = []
    for name, table in tables.items():
        over = random[: len(table)]
        against, together, start, by_answer = None, None, None, {}
        if len(table) > 1:
            start = advantage(table[:, :own], base[:own].expand(len(table), own), 0.95)
            if name != "random":
                against = advantage(table[:, :own], over[:, :own], 0.95)
                together = advantage(table[:, :own], over[:, :own], 1 - 0.05 / max(1, settings))
        for label, places in by_label(answers).items():
            here = [own + place for place in places]
            apart = advantage(table[:, here], over[:, here], 0.95) if len(table) > 1 and name != "random" else None
            by_answer[label] = {
                "loss": float(table[:, here].mean()),
                "advantage": None if apart is None else {"mean": apart.mean, "low": apart.low, "high": apart.high},
            }
        groups = {
            group: float(table[:, [p for p, g in enumerate(side.held_groups) if g == group]].mean())
            for group in sorted(set(side.held_groups))
        }
        result.append(
            {
                "name": name,
                "replicates": len(table),
                "loss": float(table[:, :own].mean()),
                "groups": groups,
                "answers": by_answer,
                "tokens": round(sum(tokens[name][: len(table)]) / len(table)),
                "advantage": told(against),
                "advantage_all": told(together),
                "over_start": told(start),
            }
        )
    return sorted(result, key=lambda arm: arm["loss"])


def told(found: Any) -> dict[str, float] | None:
    """An interval as JSON; None where there is none."""
    return None if found is None else {"mean": found.mean, "low": found.low, "high": found.high}


def by_label(answers: list[tuple[str, Example]]) -> dict[str, list[int]]:
    return {
        label: [place for place, (here, _) in enumerate(answers) if here == label]
        for label in dict.fromkeys(label for label, _ in answers)
    }
