"""Results that are committed already: a table grows over days and machines, and no training in it is done twice."""

from __future__ import annotations

import json
from collections import defaultdict
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq

from benchmarks.quality.runner import Line, Runner


def restore(runner: Runner, scale: str, folder: Path) -> int:
    """Put the published trainings of a scale into the cache, as if they had been made here.

    Args:
        runner: Knows what a unit is made from.
        scale: Name of the scale.
        folder: With ``SCALE.json`` and ``SCALE.parquet``; nothing happens without them.

    Returns:
        How many trainings were restored. None when the model, its type or a number of the scale differs.
    """
    numbers = read_numbers(runner, scale, folder)
    if numbers is None:
        return 0
    losses: dict[Line, list[float]] = defaultdict(list)
    for row in pq.read_table(folder / f"{scale}.parquet").to_pylist():
        losses[_line(row)].append(row["loss"])
    for training in numbers["trainings"]:
        line = _line(training)
        machine = numbers["machines"][training.get("machine", 0)]
        runner.keep(line, {**training, "machine": machine, "losses": losses[line]})
    return len(numbers["trainings"])


def _line(facts: dict[str, Any]) -> Line:
    """The training that a published row is of; results from before there were variants name none."""
    named = {name: facts[name] for name in ("pool", "budget", "draw", "arm", "seed")}
    return Line(**named, variant=facts.get("variant", ""))


def read_numbers(runner: Runner, scale: str, folder: Path) -> dict[str, Any] | None:
    """What is published of a scale, or None if it was made from anything else than the runner's.

    Args:
        runner: Of the scale.
        scale: Name of the scale.
        folder: With ``SCALE.json``.
    """
    path = folder / f"{scale}.json"
    if not path.exists():
        return None
    numbers: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    settings = {name: value for name, value in numbers["settings"].items() if name != "cells"}
    is_same = settings == runner.scale.model_dump(mode="json", exclude={"cells"})
    return numbers if is_same and tuple(numbers["model"].values()) == tuple(runner.features.identity) else None
