"""Settings under a name: ``paper`` as published, ``recommended`` as our measurements stand.

A preset fills in what was not set; what was set stays. What came of it is recorded as plain settings, the name beside
them. Benchmarks behind ``recommended``: ``benchmarks/toy/settings.md``.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

Preset = Literal["paper", "recommended"]

PRESETS: Mapping[Preset, Mapping[Literal["selection", "gradients"], Mapping[str, Any]]] = {
    "paper": {
        "selection": {"information": "logdet", "alpha": 1.0, "conflict_penalty": 0.1, "matching_weight": 0.0},
        "gradients": {"loss": "mean", "normalize": "none"},
    },
    "recommended": {
        "selection": {"information": "logdet", "alpha": 1.0, "conflict_penalty": 0.1, "matching_weight": 3.0},
        "gradients": {"loss": "mean", "normalize": "unit"},
    },
}
"""``paper``: gradients as they are, the exact log-determinant, lambda 0.1. ``recommended``: gradients of length one and
``matching_weight`` 3, which keeps the mean of the choice near that of the pool; with targets, the defaults."""


UNTARGETED = frozenset({"matching_weight"})
"""Settings of a preset that only a selection without targets takes from it."""


def filled(
    preset: Preset | None,
    part: Literal["selection", "gradients"],
    given: Mapping[str, Any],
    *,
    targeted: bool = False,
) -> dict[str, Any]:
    """Settings with those of a preset where nothing was given.

    Args:
        preset: Its name; None fills in nothing.
        part: Which settings.
        given: What was set.
        targeted: Whether the selection has targets.
    """
    settings = PRESETS[preset][part] if preset is not None else {}
    return {**{name: value for name, value in settings.items() if not (targeted and name in UNTARGETED)}, **given}
