"""What each method chooses from the pool, by the gradients of one proxy model."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import spice_select as ss
from spice_select.examples import Example

RAW = ss.GradientConfig(normalize="none")
UNIT = ss.GradientConfig()

METHODS: dict[str, tuple[ss.GradientConfig, dict[str, Any]]] = {
    "fisher": (UNIT, {"method": "fisher"}),
    "spice": (UNIT, {}),
    "spice, raw gradients": (RAW, {}),
    "spice, omega 0.5": (UNIT, {"stop_ratio": 0.5}),
    "spice, matching 0.3": (UNIT, {"matching_weight": 0.3}),
    "diagonal, windows": (RAW, {"information": "diagonal", "scope": {"kind": "windows", "size": 128}}),
    "herding": (UNIT, {"method": "herding"}),
    "dpp": (UNIT, {"method": "dpp"}),
    "less": (UNIT, {"method": "less"}),
    "top_norm": (RAW, {"method": "top_norm"}),
}
"""Gradients and settings of every method; ``diagonal, windows`` is the form of the authors' code."""


@dataclass(frozen=True)
class Choice:
    """Rows of a method, in pick order, and the seconds it took to pick them (without the gradients)."""

    rows: list[int]
    seconds: float


def choose(
    model: Any, pool: Sequence[Example], targets: Sequence[Example], count: int
) -> tuple[dict[str, Choice], float]:
    """The choice of every method, and the seconds of one pass of gradients over the pool."""
    began = time.monotonic()
    gradients = {UNIT: ss.collect_gradients(model, pool, UNIT)}
    seconds = time.monotonic() - began
    gradients[RAW] = ss.collect_gradients(model, pool, RAW)
    wanted = ss.collect_gradients(model, targets, UNIT)
    costs = [len(example.input_ids) for example in pool]
    found = {}
    for name, (config, options) in METHODS.items():
        settings = ss.SelectionConfig.model_validate({"budget": {"count": count}, **options})
        began = time.monotonic()
        aimed = {"targets": wanted} if settings.method == "less" else {}
        selection = ss.select(gradients[config], settings, costs=costs, **aimed)
        found[name] = Choice(selection.indices, time.monotonic() - began)
    return found, seconds
