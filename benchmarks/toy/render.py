"""The report: tables and a plot, written from the figures and from nothing else."""

from __future__ import annotations

from html import escape
from pathlib import Path
from textwrap import wrap
from typing import Any

LEFT, WIDTH, LINE, TOP = 190, 420, 22, 40
MODELS = {"proxy": "the proxy itself", "target": "a larger target"}


def render(found: dict[str, Any], out: Path) -> None:
    """Write ``README.md`` and one plot a model.

    Args:
        found: What ``measure`` returned.
        out: Folder to write into.
    """
    for stage in found["stages"]:
        (out / f"{stage['model']}.svg").write_text(plot(stage), encoding="utf-8")
    (out / "README.md").write_text(report(found), encoding="utf-8")


def report(found: dict[str, Any]) -> str:
    """The figures as Markdown."""
    pool, settings, machine = found["pool"], found["settings"], found["machine"]
    groups = ", ".join(f"{name} {rows:,}" for name, rows in pool["groups"].items())
    lines = [
        "# Does the chosen tenth train better?",
        "",
        "Written from `results.json` by `python -m benchmarks.toy --render --out benchmarks/toy`. An advantage",
        "is held-out loss of random rows minus that of the choice, in nats a token: more than zero is better than",
        "random. Intervals hold 95 % for each line alone and know how few seeds there are. What was run, where `POOL`",
        "is a file of rows with a column that names their group and `ANSWERS` one of `gsm8k_test`:",
        "",
        "```sh",
        *shell(f"{settings['command']} --out benchmarks/toy"),
        "```",
        "",
        f"Pool: {pool['rows']:,} rows ({groups}), {pool['tokens']:,} tokens; {pool['chosen']:,} chosen,",
        f"{pool['held_out']:,} held out before anything was chosen, near-duplicates of them left out.",
        f"{settings['seeds']} seeds, equal tokens and steps, {settings['epochs']:g} passes over the choice.",
        f"Machine: {machine['processor']}, {machine['cores']} cores, {machine['memory_gib']} GiB,",
        f"torch {machine['torch']}; {found['date']};",
        f"{found['seconds']:,.0f} seconds in all, other work on the machine. Seed {settings['seed']}.",
    ]
    for stage in found["stages"]:
        lines += _stage(stage, found["choices"])
    return "\n".join([*lines, *_limits()]) + "\n"


def _stage(stage: dict[str, Any], choices: dict[str, Any]) -> list[str]:
    made = stage["made"]
    size = f"{made['parameters']:,} weights, pre-trained on {made['tokens']:,} tokens"
    lines = [
        "",
        f"## Tuning {MODELS[stage['model']]}: {size}",
        "",
        f"Loss before tuning {stage['base']:.4f}; learning rate {stage['learning_rate']:g}, the best of three for"
        " random rows.",
        "Could it tell? " + ("Yes: " if stage["can_tell"] else "**No:** ")
        + "; ".join(f"{name} {low:+.4f} to {high:+.4f}" for name, (low, high) in stage["power"].items()) + ".",
        "",
        f"![advantage over random rows]({stage['model']}.svg)",
        "",
        "| rows | held-out loss | advantage over random | 95 % interval | verdict | tokens chosen |",
        "|---|---|---|---|---|---|",
    ]  # fmt: skip
    for arm in sorted(stage["arms"], key=lambda arm: arm["loss"]):
        gain = arm["advantage"]
        tokens = choices.get(arm["name"], {}).get("tokens")
        shown = ["", ""] if gain is None else [f"{gain['mean']:+.4f}", f"{gain['low']:+.4f} to {gain['high']:+.4f}"]
        cells = [arm["name"], f"{arm['loss']:.4f}", *shown, _verdict(arm), "" if tokens is None else f"{tokens:,}"]
        lines.append(f"| {' | '.join(cells)} |")
    return [*lines, *_by_part(stage)]


def _by_part(stage: dict[str, Any]) -> list[str]:
    """Loss by each group of held-out rows and by the answers of another source."""
    base = stage["base_parts"]
    judges = "By group of the held-out rows"
    if "final answer" in base:
        judges += (
            ", and on answers of another source (`gsm8k_test`: the worked answer, and the number at its end alone)"
        )
    lines = [
        "",
        *wrap(
            f"{judges}: held-out loss, and the advantage over random rows where its own 95 % interval leaves zero out.",
            120,
        ),
        "",
        f"| rows | {' | '.join(base)} |",
        f"|---{'|---' * len(base)}|",
        f"| before tuning | {' | '.join(f'{loss:.4f}' for loss in base.values())} |",
    ]
    for arm in sorted(stage["arms"], key=lambda arm: arm["loss"]):
        cells = [arm["name"]]
        for name in base:
            gain = arm["parts"][name]["advantage"]
            told = "" if gain is None or gain["low"] <= 0 <= gain["high"] else f" ({gain['mean']:+.4f})"
            cells.append(f"{arm['parts'][name]['loss']:.4f}{told}")
        lines.append(f"| {' | '.join(cells)} |")
    return lines


def shell(command: str) -> list[str]:
    """A command over several lines."""
    whole = command.replace(" ", "\N{NO-BREAK SPACE}").replace(
        "\N{NO-BREAK SPACE}--", " --"
    )  # an option with its value
    lines = [
        line.replace("\N{NO-BREAK SPACE}", " ")
        for line in wrap(whole, 110, break_on_hyphens=False, subsequent_indent="  ")
    ]
    return [*(f"{line} \\" for line in lines[:-1]), lines[-1]]


def _verdict(arm: dict[str, Any]) -> str:
    if arm["advantage"] is None:
        return "the measure"
    if arm["sign"] == 0:
        return "cannot tell"
    word = "better than random" if arm["sign"] > 0 else "random did better"
    return f"**{word}**" if arm["sign_all"] == arm["sign"] else word


def _limits() -> list[str]:
    return [
        "",
        "**Bold** verdicts also hold for all lines of a table together (Bonferroni). `full` draws from all",
        "rows of the pool for as many steps and tokens; `junk` and `one_group` are planted to lose.",
        "",
        "## Limits",
        "",
        "One pool, two very small models, all weights tuned; the learning rate was picked with random rows,",
        "which may favour them. A stop ratio (omega) of 0.5 that never stops early repeats the line of `spice` and is",
        "no evidence of its own. None of this says anything about large models.",
    ]


def plot(stage: dict[str, Any]) -> str:
    """Advantages with their intervals as an SVG."""
    arms = sorted(
        (arm for arm in stage["arms"] if arm["advantage"] is not None and arm["role"] != "planting"),
        key=lambda arm: -arm["advantage"]["mean"],
    )
    low = min(0.0, *(arm["advantage"]["low"] for arm in arms))
    high = max(0.0, *(arm["advantage"]["high"] for arm in arms))
    height = TOP + LINE * len(arms) + 24

    def place(value: float) -> float:
        return round(LEFT + WIDTH * (value - low) / (high - low), 1)

    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{LEFT + WIDTH + 30}" height="{height}"'
        ' font-family="sans-serif" font-size="12">',
        '<rect width="100%" height="100%" fill="#fff"/>',
        f'<text x="{LEFT}" y="18">nats a token better than random rows, {escape(MODELS[stage["model"]])}</text>',
        f'<line x1="{place(0)}" x2="{place(0)}" y1="{TOP - 12}" y2="{height - 20}" stroke="#888"/>',
        f'<text x="{place(0)}" y="{height - 6}" text-anchor="middle">0</text>',
        f'<text x="{LEFT}" y="{height - 6}">{low:+.3f}</text>',
    ]
    for line, arm in enumerate(arms):
        y, gain = TOP + LINE * line, arm["advantage"]
        colour = {1: "#1a7f37", 0: "#57606a", -1: "#cf222e"}[arm["sign"]]
        parts.append(f'<text x="{LEFT - 10}" y="{y + 4}" text-anchor="end">{escape(arm["name"])}</text>')
        bar = f'x1="{place(gain["low"])}" x2="{place(gain["high"])}" y1="{y}" y2="{y}"'
        parts.append(f'<line {bar} stroke="{colour}" stroke-width="2"/>')
        parts.append(f'<circle cx="{place(gain["mean"])}" cy="{y}" r="4" fill="{colour}"/>')
    return "\n".join([*parts, "</svg>"]) + "\n"
