"""Results of what is finished: raw losses as Parquet, what was selected as JSON, tables and a plot for people."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from benchmarks.quality.cache import BusyError
from benchmarks.quality.pages import page
from benchmarks.quality.runner import Line, Runner

FREE = ("targeted_a", "targeted_a_plain", "targeted_a_eta0", "targeted_b", "targeted_b_plain", "spice_0_1_0", "paper",
        "less", "less_turns", "longest", "untargeted", "random", "random_length")  # fmt: skip
"""Arms whose selection costs nothing once the gradients are there."""


def write_report(runner: Runner, scale: str, folder: Path) -> None:
    """Write ``SCALE.parquet``, ``SCALE.json``, ``README.md`` and a plot for each scale of the folder.

    Args:
        runner: Knows the plan and what is finished.
        scale: Name of the scale.
        folder: Where to.
    """
    folder.mkdir(parents=True, exist_ok=True)
    lines = [line for line in runner.plan() if runner.is_done(line)]
    table: dict[str, list[Any]] = {
        name: [] for name in ("pool", "budget", "draw", "arm", "seed", "judge", "row", "loss")
    }
    trainings = []
    for line in lines:
        result = runner.result(line)
        judges = [judge for judge, _ in runner.test_rows(runner.draw(line.pool, line.draw))]
        for row, (judge, loss) in enumerate(zip(judges, result["losses"], strict=True)):
            for name, value in zip(
                table,
                (line.pool, line.budget, line.draw, line.arm, line.seed, judge, row, loss),
                strict=True,
            ):
                table[name].append(value)
        trainings.append({name: value for name, value in result.items() if name not in {"losses", "machine"}})
    columns = {name: pa.array(values) for name, values in table.items()}
    columns["loss"] = columns["loss"].cast(pa.float32())
    pq.write_table(pa.table(columns), folder / f"{scale}.parquet", compression="zstd")
    numbers = {
        "scale": scale,
        "settings": runner.scale.model_dump(mode="json"),
        "model": dict(zip(("weights_sha256", "tokenizer_sha256", "dtype"), runner.features.identity, strict=True)),
        "machines": _distinct([runner.result(line)["machine"] for line in lines]),
        "planned": len(list(runner.plan())),
        "trainings": trainings,
        "selections": _selections(runner),
    }
    (folder / f"{scale}.json").write_text(json.dumps(numbers, indent=1) + "\n", encoding="utf-8")
    page(folder)


def _selections(runner: Runner) -> list[dict[str, Any]]:
    """What each arm selects from every pool whose gradients are there, trained on or not."""
    kept = []
    pools = dict.fromkeys((line.pool, line.draw, line.budget) for line in runner.plan())
    for pool, number, budget in pools:
        if not runner.is_measured(pool, number):
            continue
        draw = runner.draw(pool, number)
        tokens = runner.pool(pool, number, budget).response_tokens
        entry: dict[str, Any] = {"pool": pool, "draw": number, "budget": budget, "counts": draw.counts, "arms": {}}
        entry["arms"]["pool"] = _composition(list(range(len(draw.pool))), draw.pool, tokens)
        for arm in FREE:
            try:
                rows = runner.selected(Line(pool, budget, number, arm, 0))
            except BusyError:
                continue
            entry["arms"][arm] = _composition(rows, draw.pool, tokens)
        kept.append(entry)
    return kept


def _composition(places: list[int], pool: list[Any], tokens: list[int]) -> dict[str, Any]:
    rows = [pool[place] for place in places]
    return {
        "rows": len(rows),
        "response_tokens": sum(tokens[place] for place in places),
        "kinds": dict(sorted(Counter(row.kind for row in rows).items())),
        "tasks": dict(sorted(Counter(row.task for row in rows).items())),
        "clean_tasks": dict(sorted(Counter(row.task for row in rows if row.kind == "clean").items())),
    }


def _distinct(values: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [json.loads(text) for text in dict.fromkeys(json.dumps(value, sort_keys=True) for value in values)]
