"""Settings under a name: ``recommended``, which holds where none is named, and ``paper`` as published.

A preset fills in what was not set; what was set stays. What came of it is recorded as plain settings, the name beside
them. ``spice_select.defaults`` applies them.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

Preset = Literal["paper", "recommended"]
Part = Literal["selection", "gradients", "screens"]

DEFAULT: Preset = "recommended"
"""The preset of a run that names none."""

PRESETS: Mapping[Preset, Mapping[Part, Mapping[str, Any]]] = {
    "paper": {
        "selection": {
            "information": "logdet",
            "alpha": 1.0,
            "conflict_penalty": 0.1,
            "information_weight": 1.0,
            "matching_weight": 0.0,
        },
        "gradients": {"loss": "mean", "normalize": "none"},
        "screens": {},
    },
    "recommended": {
        "selection": {
            "information": "logdet",
            "alpha": 1.0,
            "conflict_penalty": 0.1,
            "information_weight": 3.0,
            "matching_weight": 1.0,
        },
        "gradients": {"loss": "mean", "normalize": "unit", "dtype": "auto"},
        "screens": {
            "near_duplicates": 0.8,
            "repeated_responses": 3,
            "unrelated_responses": 0.05,
            "loss_outliers": 3.0,
            "if_short": "keep",
        },
    },
}
"""``paper``: gradients as they are, the exact log-determinant, lambda 0.1, the whole pool.

``recommended``: gradients of length one, in bfloat16 where that is faster, near-duplicates, repeated
and unrelated responses and loss outliers out.
Without a target three times the gain, plus what the choice lacks beside the pool's mean: of what was tried without a
target, the best on the first real model. With targets the settings' own defaults.
"""


UNTARGETED = frozenset({"information_weight", "matching_weight"})
"""Settings of a preset that only a selection without targets takes from it."""
NEEDS_TRAINED_PROXY = frozenset({"loss_outliers"})
"""Screens of a preset that are left out where the proxy was never trained."""
BUILTIN_KEEPS = frozenset({"dtype"})
"""Settings of gradients that a preset leaves alone where the proxy is built in: it is too small to gain from them."""
