"""``README.md`` and the plot, written from the result files of a folder and from nothing else."""

from __future__ import annotations

import json
import math
from html import escape
from pathlib import Path
from textwrap import wrap
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from benchmarks.quality.comparisons import REFERENCE, Advantage, advantage, detectable, holm
from benchmarks.quality.scales import TASKS

POOLS = {"dirty": "(b) dirty", "clean": "(a) clean mixture", "source": "(c) another source"}
WIDEST_FIRST = ("large", "cpu", "pilot_bfloat16", "pilot")
LEAST_DRAWS_TOLD = 4
TOLD_IN_RESULTS = {
    "targeted_a": "the rule `matching` for a target",
    "targeted_b": "the rule `relevance` for a target",
    "untargeted": "the preset `recommended` without a target",
    "paper": "the preset `paper`",
    "embedding": "the method `embedding`",
    "bm25": "the method `bm25`",
    "random": "the method `random`",
}
"""Arms that a user can ask for, in words."""
VARIANTS = {"full": "every weight trained", "small_rate": "at a learning rate of 1e-6"}
"""What the checks of a protocol file are, by the name of their variant."""
KINDS = ("clean", "duplicate", "mismatched", "cut_short", "random", "refusal")
PRIMARY = "targeted_a"
DRAWS_PLANNED = 8


INTRODUCTION = """
Written by `python -m benchmarks.quality --report benchmarks/quality` from the result files beside it. The protocol,
fixed before the first run, is [docs/evaluation-protocol.md](../../docs/evaluation-protocol.md). An advantage is the
test response loss after training on random rows of the same lengths minus that after training on the arm's rows, in
nats a token: above zero, the arm is better. One number for each pool draw, 95 % interval by Student's t over the
draws. The evidence before 2026-11-30, of models made in code, is in an [appendix](../toy/README.md).
"""
PILOT = """
A pilot, not the protocol's result: pools, rows and budget are small, and one learning rate serves all arms. It shows a
direction and decides nothing by itself.
"""


def page(folder: Path) -> None:
    """Write the page and one plot for each scale whose results are in a folder.

    Args:
        folder: Holds ``SCALE.json`` and ``SCALE.parquet``.
    """
    text = [
        "# Does selection beat random rows?",
        "",
        *wrap(INTRODUCTION.strip(), 118, break_on_hyphens=False),
        "",
    ]
    for name in ("large", "cpu", "pilot", "pilot_bfloat16"):
        if (folder / f"{name}.json").exists():
            numbers = json.loads((folder / f"{name}.json").read_text(encoding="utf-8"))
            text += _scale(numbers, _losses(folder / f"{name}.parquet"), folder)
    if not list(folder.glob("*.parquet")):
        text += ["Nothing is measured yet."]
    (folder / "README.md").write_text("\n".join(text).rstrip("\n") + "\n", encoding="utf-8")


def measured(folder: Path) -> dict[str, Any]:
    """What ``spice_select.results.measured`` tells of the widest scale that was run: pool (b), at least four draws.

    Args:
        folder: Holds ``SCALE.json`` and ``SCALE.parquet``.
    """
    name = next(name for name in WIDEST_FIRST if (folder / f"{name}.json").exists())
    numbers = json.loads((folder / f"{name}.json").read_text(encoding="utf-8"))
    cells = _losses(folder / f"{name}.parquet")
    arms = next(arms for (pool, _, variant), arms in cells.items() if (pool, variant) == ("dirty", ""))
    told = {}
    for arm, words in TOLD_IN_RESULTS.items():
        gains = differences(arms, arm)
        if len(gains) >= LEAST_DRAWS_TOLD:
            one = advantage(gains)
            ends = {"mean": round(one.mean, 4), "low": round(one.low, 4), "high": round(one.high, 4)}
            told[arm] = {"is": words, "draws": one.draws, **ends}
    return {"model": "SmolLM2-135M", "pool_rows": numbers["settings"]["pool_rows"], "arms": told}


def _losses(path: Path) -> dict[tuple[str, float, str], dict[str, dict[int, dict[int, dict[str, float]]]]]:
    """Mean loss by cell (pool, budget, variant), arm, draw, seed and judge."""
    table = pq.read_table(path)
    if "variant" not in table.column_names:
        table = table.append_column("variant", pa.array([""] * len(table)))
    keys = ["pool", "budget", "variant", "arm", "draw", "seed", "judge"]
    cells: dict[tuple[str, float, str], Any] = {}
    for row in table.group_by(keys).aggregate([("loss", "mean")]).to_pylist():
        arms = cells.setdefault((row["pool"], row["budget"], row["variant"]), {})
        seeds = arms.setdefault(row["arm"], {}).setdefault(row["draw"], {})
        seeds.setdefault(row["seed"], {})[row["judge"]] = row["loss_mean"]
    return cells


def _scale(numbers: dict[str, Any], cells: dict[tuple[str, float, str], Any], folder: Path) -> list[str]:
    settings, name = numbers["settings"], numbers["scale"]
    lines = [f"## Scale `{name}`", ""]
    if name.startswith("pilot"):
        lines += [*wrap(PILOT.strip(), 118, break_on_hyphens=False), ""]
    for machine in numbers["machines"]:
        versions = f"torch {machine['torch']}, transformers {machine['transformers']}, Python {machine['python']}"
        lines += [
            f"Machine: {machine['processor']}, {machine['cores']} cores, {machine['memory_gib']} GiB; {versions}."
        ]
    dates = sorted({training["date"] for training in numbers["trainings"]})
    model, finished = numbers["model"], len(numbers["trainings"])
    about = (
        f"Model: SmolLM2-135M-Instruct, weights `{model['weights_sha256'][:16]}`, {model['dtype']}. "
        f"Pools of {settings['pool_rows']:,} rows of at most {settings['max_tokens']} tokens, "
        f"{settings['target_rows']} target rows and {settings['test_rows']} test rows a task. "
        f"{finished} of {numbers['planned']} trainings are done"
    )
    lines += [
        *wrap(about + (f" ({dates[0]} to {dates[-1]})." if dates else "."), 120, break_on_hyphens=False),
        "",
        "```sh",
        f"python -m benchmarks.quality --protocol benchmarks/quality/protocol.toml --scale {name} --resume \\",
        "  --data DATA --model MODEL",
        "```",
        "",
    ]
    for (pool, budget, variant), arms in cells.items():
        name = f"{numbers['scale']}-{pool}-{100 * budget:g}" + (f"-{variant}" if variant else "")
        title = f"Pool {POOLS[pool]}, {100 * budget:g} % of its response tokens"
        lines += _cell(title + (f", {VARIANTS[variant]}" if variant else ""), name, arms, folder)
    lines += _selected(numbers)
    return lines


def _by_draw(arm: dict[int, Any]) -> dict[int, dict[str, float]]:
    """Test loss by draw: the mean over seeds, for each task and over the tasks."""
    found = {}
    for draw, seeds in arm.items():
        tasks = {task: float(np.mean([losses[task] for losses in seeds.values()])) for task in TASKS}
        found[draw] = {**tasks, "mean": sum(tasks.values()) / len(tasks)}
    return found


def differences(arms: dict[str, Any], arm: str, judge: str = "mean", reference: str = REFERENCE) -> list[float]:
    """Loss of the reference minus that of an arm for each draw that has both, over the seeds that have both.

    Args:
        arms: Losses by arm, draw, seed and judge.
        arm: The arm.
        judge: A task, or ``mean`` of all.
        reference: What it is compared with.
    """
    rows = []
    for draw, seeds in arms.get(arm, {}).items():
        against = arms.get(reference, {}).get(draw, {})
        both = {0: seeds[0]} if arm == "untuned" else seeds
        gains = []
        for seed, losses in both.items():
            if seed in against:
                tasks = TASKS if judge == "mean" else (judge,)
                gains.append(np.mean([against[seed][task] - losses[task] for task in tasks]))
        if gains:
            rows.append(float(np.mean(gains)))
    return rows


def _cell(title: str, name: str, arms: dict[str, Any], folder: Path) -> list[str]:
    gains = {arm: differences(arms, arm) for arm in arms if arm != REFERENCE}
    told = {arm: advantage(values) for arm, values in gains.items() if values}
    corrected = holm({arm: one.p for arm, one in told.items() if arm not in (PRIMARY, "untuned")})
    lines = [f"### {title}", "", *_primary(told.get(PRIMARY))]
    lines += [
        "| arm | draws | advantage | 95 % interval | p (Holm) | test loss | math | code | general |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    order = sorted(arms, key=lambda arm: -told[arm].mean if arm in told else 0.0)
    for arm in order:
        losses = _by_draw(arms[arm])
        means = [np.mean([one[judge] for one in losses.values()]) for judge in ("mean", *TASKS)]
        cells = [f"`{arm}`", str(len(losses)), "", "the measure" if arm == REFERENCE else "", ""]
        if arm in told:
            one = told[arm]
            sure = "" if math.isnan(one.low) else f"{one.low:+.4f} to {one.high:+.4f}"
            p = corrected.get(arm, one.p)
            cells = [f"`{arm}`", str(one.draws), f"{one.mean:+.4f}", sure, "" if math.isnan(p) else f"{p:.3f}"]
        lines.append(f"| {' | '.join([*cells, *(f'{mean:.4f}' for mean in means)])} |")
    each = "; ".join(_each(arm, gains[arm]) for arm in order if gains.get(arm))
    each = f"Each draw: {each}." if each else "No draw has both an arm and the random rows yet."
    lines += ["", *wrap(each, 118, break_on_hyphens=False), ""]
    shown = {arm: one for arm, one in told.items() if arm not in ("untuned", "junk") and not math.isnan(one.low)}
    if shown:
        (folder / f"{name}.svg").write_text(plot(shown), encoding="utf-8")
        lines += [f"![advantage over random rows of the same lengths]({name}.svg)", ""]
    return lines


def _each(arm: str, values: list[float]) -> str:
    return f"`{arm}` " + ", ".join(f"{value:+.4f}" for value in values)


def _primary(one: Advantage | None) -> list[str]:
    if one is None:
        return []
    if one.draws < 2:
        return [f"`{PRIMARY}` against `{REFERENCE}`: {one.mean:+.4f} in the only draw; no interval yet.", ""]
    verdict = (
        "cannot tell" if one.low <= 0 <= one.high else "beats random rows" if one.low > 0 else "loses to random rows"
    )
    smallest = detectable(one.deviation, DRAWS_PLANNED)
    return [
        f"**`{PRIMARY}` against `{REFERENCE}`: {one.mean:+.4f} ({one.low:+.4f} to {one.high:+.4f}), {one.draws} draws: "
        f"{verdict}.** Standard deviation over",
        f"draws {one.deviation:.4f}; {DRAWS_PLANNED} draws tell {smallest:.4f} from zero with a probability of 80 %.",
        "",
    ]


def _selected(numbers: dict[str, Any]) -> list[str]:
    """Shares of every kind of row, the median over draws."""
    lines = []
    cells = dict.fromkeys((entry["pool"], entry["budget"]) for entry in numbers["selections"])
    for pool, budget in cells:
        entries = [entry for entry in numbers["selections"] if (entry["pool"], entry["budget"]) == (pool, budget)]
        draws = len(entries)
        lines += [
            f"### What is selected from pool {POOLS[pool]}, {100 * budget:g} %",
            "",
            f"Share of rows, median over {draws} pool draw{'s' if draws > 1 else ''}; `pool` is all rows.",
            "",
            f"| arm | rows | {' | '.join(kind.replace('_', ' ') for kind in KINDS)} | math / code / general |",
            f"|---|---|{'---|' * len(KINDS)}---|",
        ]
        for arm in entries[0]["arms"]:
            parts = [entry["arms"][arm] for entry in entries if arm in entry["arms"]]
            kinds = [np.median([part["kinds"].get(kind, 0) / part["rows"] for part in parts]) for kind in KINDS]
            tasks = [np.median([part["tasks"].get(task, 0) / part["rows"] for part in parts]) for task in TASKS]
            rows = int(np.median([part["rows"] for part in parts]))
            shares = " | ".join(f"{share:.2f}" for share in kinds)
            lines.append(f"| `{arm}` | {rows} | {shares} | {' / '.join(f'{share:.2f}' for share in tasks)} |")
        counts = [entry["counts"]["contaminated"] for entry in entries]
        left = {task: sum(count.get(task, 0) for count in counts) for task in TASKS}
        lines += [
            "",
            "Left out because they share 8 words in a row with a target, settings or test row, all draws: "
            + ", ".join(f"{task} {count}" for task, count in left.items())
            + ".",
            "",
        ]
    return lines


def plot(shown: dict[str, Advantage]) -> str:
    """Advantages with their intervals as an SVG.

    Args:
        shown: By arm.
    """
    left, width, top, step = 150, 460, 46, 24
    arms = sorted(shown.items(), key=lambda item: -item[1].mean)
    low, high = min(0.0, *(one.low for _, one in arms)), max(0.0, *(one.high for _, one in arms))
    height = top + step * len(arms) + 24

    def place(value: float) -> float:
        return round(left + width * (value - low) / (high - low), 1)

    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{left + width + 30}" height="{height}"'
        ' font-family="sans-serif" font-size="12">',
        '<rect width="100%" height="100%" fill="#fff"/>',
        f'<text x="{left}" y="18">nats a token better than random rows of the same lengths (95 %)</text>',
        f'<line x1="{place(0)}" x2="{place(0)}" y1="{top - 12}" y2="{height - 20}" stroke="#888"/>',
        f'<text x="{place(0)}" y="{height - 6}" text-anchor="middle">0</text>',
        f'<text x="{left}" y="{height - 6}">{low:+.3f}</text>',
        f'<text x="{left + width}" y="{height - 6}" text-anchor="end">{high:+.3f}</text>',
    ]
    for number, (arm, one) in enumerate(arms):
        y = top + step * number
        colour = "#57606a" if one.low <= 0 <= one.high else "#1a7f37" if one.low > 0 else "#cf222e"
        parts += [
            f'<text x="{left - 10}" y="{y + 4}" text-anchor="end">{escape(arm)}</text>',
            f'<line x1="{place(one.low)}" x2="{place(one.high)}" y1="{y}" y2="{y}" stroke="{colour}"/>',
            f'<circle cx="{place(one.mean)}" cy="{y}" r="4" fill="{colour}"/>',
        ]
    return "\n".join([*parts, "</svg>"]) + "\n"
