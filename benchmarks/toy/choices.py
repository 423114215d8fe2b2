"""What each method chooses from the pool, by the gradients of one proxy model."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import spice_select as ss
from benchmarks.toy.loops import loop_rows
from spice_select.records.tokenize import Example

RAW = ss.GradientConfig(normalize="none")
UNIT = ss.GradientConfig()

METHODS: dict[str, tuple[ss.GradientConfig, dict[str, Any]]] = {
    "fisher": (UNIT, {"method": "fisher"}),
    "spice": (UNIT, {}),
    "spice, raw gradients": (RAW, {}),
    "spice, omega 0.5": (UNIT, {"stop_ratio": 0.5}),
    "spice, matching 0.3": (UNIT, {"matching_weight": 0.3}),
    "spice, matching 3": (UNIT, {"matching_weight": 3.0}),
    "diagonal, windows": (RAW, {"information": "diagonal", "scope": {"kind": "windows", "size": 128}}),
    "herding": (UNIT, {"method": "herding"}),
    "dpp": (UNIT, {"method": "dpp"}),
    "less": (UNIT, {"method": "less"}),
    "top_norm": (RAW, {"method": "top_norm"}),
}
"""Gradients and settings of every method; ``diagonal, windows`` is the form of the authors' code."""

PERIODIC = ("spice, periodic", "spice, raw, periodic")
"""The paper's loop, which tunes the proxy while it chooses, on gradients of length one and as they are."""


@dataclass(frozen=True)
class Choice:
    """Rows of a method, in pick order, and the seconds it took to pick them.

    Without the gradients, but for the periodic ones, whose gradients cannot be had apart.
    """

    rows: list[int]
    seconds: float


def choose(
    model: Any, folder: Path, pool: Sequence[Example], targets: Sequence[Example], count: int
) -> tuple[dict[str, Choice], float]:
    """The choice of every method, and the seconds of one pass of gradients over the pool.

    Args:
        model: The proxy.
        folder: Where it is kept.
        pool: The rows.
        targets: Rows like those that are wanted, for ``less``.
        count: How many rows to choose.
    """
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
    for name in PERIODIC:
        began = time.monotonic()
        found[name] = Choice(loop_rows(name, folder, pool, count), time.monotonic() - began)
    return found, seconds
