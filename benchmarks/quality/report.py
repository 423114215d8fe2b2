"""Results of what is finished: raw losses as Parquet, what was selected as JSON, tables and a plot for people."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from benchmarks.quality.pages import page
from benchmarks.quality.published import read_numbers
from benchmarks.quality.runner import Line, Runner

FREE = ("targeted_a", "targeted_a_plain", "targeted_a_eta0", "targeted_b", "targeted_b_plain", "spice_0_1_0", "paper",
        "less", "less_turns", "longest", "untargeted", "recommended", "recommended_span", "recommended_untargeted",
        "random", "random_length")  # fmt: skip
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
        name: [] for name in ("pool", "budget", "draw", "arm", "seed", "variant", "judge", "row", "loss")
    }
    trainings = []
    machines: list[dict[str, Any]] = []
    for line in lines:
        result = runner.result(line)
        if result["machine"] not in machines:
            machines.append(result["machine"])
        judges = [judge for judge, _ in runner.test_rows(runner.draw(line.pool, line.draw))]
        for row, (judge, loss) in enumerate(zip(judges, result["losses"], strict=True)):
            for name, value in zip(
                table,
                (line.pool, line.budget, line.draw, line.arm, line.seed, line.variant, judge, row, loss),
                strict=True,
            ):
                table[name].append(value)
        facts = {name: value for name, value in result.items() if name != "losses"}
        trainings.append({**facts, "machine": machines.index(result["machine"])})
    columns = {name: pa.array(values) for name, values in table.items()}
    columns["loss"] = columns["loss"].cast(pa.float32())
    pq.write_table(pa.table(columns), folder / f"{scale}.parquet", compression="zstd")
    numbers = {
        "scale": scale,
        "settings": runner.scale.model_dump(mode="json"),
        "model": dict(zip(("weights_sha256", "tokenizer_sha256", "dtype"), runner.features.identity, strict=True)),
        "machines": machines,
        "planned": len(list(runner.plan())),
        "trainings": trainings,
        "selections": _selections(runner, (read_numbers(runner, scale, folder) or {}).get("selections", [])),
    }
    (folder / f"{scale}.json").write_text(json.dumps(numbers, indent=1) + "\n", encoding="utf-8")
    page(folder)


def _selections(runner: Runner, published: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """What each arm selects from every pool, trained on or not, as far as it is known here or was published."""
    known = {(entry["pool"], entry["draw"], entry["budget"]): entry for entry in published}
    for line in runner.plan():
        place = line.pool, line.draw, line.budget
        arms = known.setdefault(place, {**dict(zip(("pool", "draw", "budget"), place, strict=True)), "arms": {}})[
            "arms"
        ]
        is_free = runner.is_measured(line.pool, line.draw)
        for arm in dict.fromkeys((line.arm, *(FREE if is_free else ()))):
            one = Line(line.pool, line.budget, line.draw, arm, 0)
            if arm in arms or arm == "untuned" or not (is_free or runner.has_selection(one)):
                continue
            draw, tokens = runner.draw(line.pool, line.draw), runner.pool(*place).response_tokens
            known[place]["counts"] = draw.counts
            arms.setdefault("pool", _composition(list(range(len(draw.pool))), draw.pool, tokens))
            if (is_free and arm in FREE) or runner.has_selection(one):
                arms[arm] = _composition(runner.selected(one), draw.pool, tokens)
    return [entry for entry in known.values() if entry["arms"]]


def _composition(places: list[int], pool: list[Any], tokens: list[int]) -> dict[str, Any]:
    rows = [pool[place] for place in places]
    return {
        "rows": len(rows),
        "response_tokens": sum(tokens[place] for place in places),
        "kinds": dict(sorted(Counter(row.kind for row in rows).items())),
        "tasks": dict(sorted(Counter(row.task for row in rows).items())),
        "clean_tasks": dict(sorted(Counter(row.task for row in rows if row.kind == "clean").items())),
    }
