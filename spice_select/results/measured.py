"""What training on such a selection was measured to be worth, from the published results of the evaluation protocol."""

from __future__ import annotations

import json
from functools import lru_cache
from importlib.resources import files
from typing import Any

from spice_select.config import RunConfig

PUBLISHED = "measured.json"
"""Written by ``python -m benchmarks.quality --report``, from the table in ``benchmarks/quality/README.md``."""


def finding(config: RunConfig, *, has_targets: bool) -> str | None:
    """One sentence on what was measured of such a selection against random rows of the same lengths.

    Args:
        config: Settings of the run, with those of its preset.
        has_targets: Whether it was selected for targets.

    Returns:
        None where nothing was trained on rows selected in this way, or where the proxy is untrained.
    """
    published = _published()
    arm = published["arms"].get(_arm(config, has_targets=has_targets))
    if arm is None:
        return None
    mean, low, high = arm["mean"], arm["low"], arm["high"]
    way = "below" if mean >= 0 else "above"
    unsure = ", which can be chance" if low <= 0 <= high else ""
    return (
        f"In a pilot with {published['model']} ({arm['draws']} pools of {published['pool_rows']} rows, 30 % noise) a "
        f"model trained on rows selected by {arm['is']} ended {abs(mean):.3f} nats a token {way} one trained on random "
        f"rows of the same lengths (95 % interval {low:.3f} to {high:.3f}{unsure}). spice-select evaluate compares the "
        "two on your data."
    )


def _arm(config: RunConfig, *, has_targets: bool) -> str | None:
    """The name in the protocol of what comes closest to these settings."""
    selection = config.selection
    if selection.method in ("bm25", "embedding", "random"):
        return selection.method
    if selection.method != "spice" or selection.scope.kind != "global" or not config.has_trained_proxy:
        return None
    if has_targets:
        return {"matching": "targeted_a", "relevance": "targeted_b"}[selection.target_rule]
    return "paper" if config.preset == "paper" else "untargeted" if config.preset == "recommended" else None


@lru_cache(maxsize=1)
def _published() -> dict[str, Any]:
    published: dict[str, Any] = json.loads((files(__package__) / PUBLISHED).read_text(encoding="utf-8"))
    return published
