"""What the product selects from dirty pools on a real language model: clean rows, repeats and the mix of domains.

    python -m benchmarks.quality.composition --data DATA --model MODEL --work DIR [--pools 0 1 2 3 4] [--rows 1000]
        [--target-rows 30 5 0] [--settings relevance '{"selection": {"target_rule": "relevance"}}'] [--json]

Every pool is drawn as pool (b) of ``docs/evaluation-protocol.md``, rows longer than 160 tokens left out, and selected
from by ``spice_select.run`` with files, as a user would: the preset ``recommended`` with its screens, 10 % of the rows,
one target for each of three domains. ``--settings`` adds further ways to select, as parts of a run's settings that
replace those of the preset. Gradients are kept under ``--work``, so that another way costs none. Nothing is trained.

A row counts as clean if it was not made as noise and does not repeat, word for word, a row selected before it.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import sys
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from benchmarks.machine import describe
from benchmarks.quality.corpus import NOISE, Draw, Row, ShortEnough, draw_pool, read_corpus
from benchmarks.quality.scales import TASKS, Scale
from spice_select.config import RunConfig
from spice_select.pipeline.run import run
from spice_select.pipeline.targets import TargetFile

SCREENS = ("near_duplicates", "repeated_responses", "unrelated_responses", "loss_outliers")
BARE: dict[str, Any] = {"conditions": {"screens": dict.fromkeys(SCREENS)}}
WAYS: dict[str, dict[str, Any]] = {
    "recommended": {},
    "matching (A), no screens": {"selection": {"target_rule": "matching", "information_weight": 1.0}, **BARE},
    "relevance (B), no screens": {"selection": {"target_rule": "relevance", "information_weight": 0.3}, **BARE},
}
"""Ways to select that are always measured: parts of a run's settings."""


def settings_of(model: str, way: Mapping[str, Any]) -> RunConfig:
    """The settings of a run: those of a way over a budget of a tenth of the rows."""
    return RunConfig.model_validate(
        {
            "proxy": {"model": model},
            "conditions": way.get("conditions", {}),
            "gradients": way.get("gradients", {}),
            "selection": {"budget": {"fraction": 0.1}, **way.get("selection", {})},
        }
    )


def write(path: Path, rows: Sequence[Row]) -> Path:
    """Rows as JSON lines, with what they are beside what they say."""
    lines = [json.dumps({**row.record, "domain": row.task}, ensure_ascii=False) for row in rows]
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return path


def measure(draw: Draw, folder: Path, work: Path, model: str, target_rows: int, way: Mapping[str, Any]) -> list[int]:
    """The rows of a pool that one way selects, in pick order."""
    folder.mkdir(parents=True, exist_ok=True)
    source = write(folder / "pool.jsonl", draw.pool)
    targets = [
        TargetFile(task, write(folder / f"{task}-{target_rows}.jsonl", rows[:target_rows]))
        for task, rows in draw.targets.items()
        if target_rows
    ]
    found = run(source, settings_of(model, way), cache=work / "gradients", targets=targets)
    return [row.source_row for row in found.ranking]


def shares(pool: Sequence[Row], rows: Sequence[int]) -> dict[str, float]:
    """What a selection is made of, as shares of its rows."""
    seen: set[tuple[str, str]] = set()
    kinds: Counter[str] = Counter()
    for row in (pool[place] for place in rows):
        text = (row.prompt, row.response)
        kinds["repeat" if text in seen else "clean" if row.kind == "duplicate" else row.kind] += 1
        kinds["labelled duplicate"] += row.kind == "duplicate"
        seen.add(text)
    tasks = Counter(pool[place].task for place in rows)
    names = ("clean", "repeat", *(kind for kind in NOISE if kind != "duplicate"), "labelled duplicate")
    return {name: kinds[name] / len(rows) for name in names} | {task: tasks[task] / len(rows) for task in TASKS}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=os.environ.get("SPICE_EVIDENCE_DATA"), help="folder of the data")
    parser.add_argument("--model", default=os.environ.get("SPICE_EVIDENCE_MODEL"), help="folder of the model")
    parser.add_argument("--work", type=Path, default=Path("composition-work"), help="keeps the gradients")
    parser.add_argument("--pools", type=int, nargs="+", default=[0, 1, 2, 3, 4], help="numbers of pool draws")
    parser.add_argument("--rows", type=int, default=1000, help="rows of a pool")
    parser.add_argument("--target-rows", type=int, nargs="+", default=[30, 5, 0], help="of each task; 0: no target")
    parser.add_argument("--settings", nargs=2, action="append", default=[], metavar=("NAME", "JSON"))
    parser.add_argument("--json", action="store_true", help="end with one line of JSON")
    given = parser.parse_args()
    if given.data is None or given.model is None:
        parser.error("--data and --model are needed (or SPICE_EVIDENCE_DATA and SPICE_EVIDENCE_MODEL)")
    scale = Scale(pool_rows=given.rows, max_tokens=160, leave_out_longer=True, test_rows=30, rates=[1e-3], cells=[])
    from transformers import AutoTokenizer

    fits = ShortEnough(AutoTokenizer.from_pretrained(given.model), scale)
    corpus = read_corpus(given.data, scale, fits)
    ways = WAYS | {name: json.loads(text) for name, text in given.settings}
    found: dict[tuple[int, str], list[dict[str, float]]] = {}
    for number in given.pools:
        draw = draw_pool(corpus, "dirty", number, scale, fits)
        folder = given.work / f"pool-{given.rows}-{number}"
        found.setdefault((-1, "the pool"), []).append(shares(draw.pool, range(len(draw.pool))))
        for rows in given.target_rows:
            for name, way in ways.items():
                if rows or "target_rule" not in way.get("selection", {}):
                    picks = measure(draw, folder, given.work, given.model, rows, way)
                    found.setdefault((rows, name), []).append(shares(draw.pool, picks))
                    latest = {key: round(value, 3) for key, value in found[rows, name][-1].items()}
                    print(number, rows, name, latest, flush=True)
    table = {
        f"{name}, {'no target' if rows == 0 else f'{rows} target rows a task'}" if rows >= 0 else name: {
            key: statistics.median(one[key] for one in each) for key in each[0]
        }
        for (rows, name), each in found.items()
    }
    for name, values in table.items():
        print(f"| {name} | " + " | ".join(f"{value:.3f}" for value in values.values()) + " |")
    if given.json:
        print(json.dumps({"composition": table, "pools": given.pools, "rows": given.rows, "machine": describe()}))
    return 0


if __name__ == "__main__":
    sys.exit(main())
