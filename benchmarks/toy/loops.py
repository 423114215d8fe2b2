"""The paper's loop as a setting of the search: gradients are taken anew while the model is tuned on what was chosen."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import spice_select as ss
from spice_select.config import RunConfig, Tuning
from spice_select.records.tokenize import Example
from spice_select.training.periodic import select_periodically

WINDOW = 100
EVERY = 2
"""Windows between two steps: nine steps over twenty windows, each on twenty rows."""

LOOPS: dict[str, tuple[str, dict[str, Any]]] = {
    "spice, periodic": ("unit", {}),
    "spice, raw, periodic": ("none", {}),
    "matching 3, periodic": ("unit", {"matching_weight": 3.0}),
}
"""Normalisation and settings of each."""


def loop_rows(name: str, folder: Path, pool: Sequence[Example], count: int) -> list[int]:
    """What the loop chooses from a pool, in pick order.

    Args:
        name: Its name.
        folder: The proxy it begins with.
        pool: The rows.
        count: How many rows.
    """
    normalize, options = LOOPS[name]
    gradients = ss.GradientConfig.model_validate(
        {"normalize": normalize, "tuning": Tuning(weights="full", learning_rate=1e-3).model_dump()}
    )
    config = RunConfig.model_validate(
        {
            "gradients": gradients.model_dump(),
            "selection": {"budget": {"count": count}, "scope": {"kind": "windows", "size": WINDOW}, **options},
            "schedule": {"kind": "periodic", "steps_every": EVERY},
        }
    )
    model = ss.load_proxy(ss.ProxyConfig(model=str(folder.resolve())), gradients).model
    return [pick.row for pick in select_periodically(model, pool, config).progress.picks]
