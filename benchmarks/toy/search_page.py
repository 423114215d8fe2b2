"""The page of the search for settings, written from its figures and from nothing else."""

from __future__ import annotations

from typing import Any

STAGES = {
    "tune": "Tuning split: every setting that was tried",
    "report": "Report split: rows that no setting was picked by",
    "report, a larger target": "Report split: a larger model trained on what the small one chose",
    "report, another pool": "Another pool: documentation of Python functions",
}
NOTES = {
    "tune": [
        "Gradients of length one where nothing else is said; mean and summed loss leave them as long as they are.",
        "Warm-up: gradients after 25 steps of 2,048 tokens on rows drawn at random. Periodic: the paper's loop,",
        "windows of 100 rows and a step of all weights on the choice after every two. Adam: each weight's gradient",
        "over the root of its mean square in the pool. Every setting of `candidates.py` and `loops.py` is here.",
        "None was told to be better than random rows in four draws. The settings of the tables below were picked by",
        "an earlier search on this split (see the end), not by this table.",
    ],
    "report": [
        "The split had been looked at before, by models that read text otherwise than they were trained to (below); no",
        "setting was picked by it, then or now.",
    ],
    "report, a larger target": [
        "Selections, pools and held-out rows are those of the first 12 replicates above; the model that is trained is",
        "larger, pre-trained apart on more text, and had its learning rate found anew on the tuning split, with random",
        "rows. At 0.001, the lowest rate of an earlier search, the same trial gave matching 3 +0.0061 (-0.0005 to",
        "+0.0127), herding +0.0021 (-0.0035 to +0.0076) and spice -0.0128 (-0.0204 to -0.0052).",
    ],
    "report, another pool": [
        "Rows made in code from the installed packages (`python -m benchmarks.toy.docstrings FILE`): a function",
        "asks for its documentation. The model was pre-trained on text of this pool; the settings are those that were",
        "leading before, and only the learning rate was found anew. A third of the rows have no answer left at",
        "192 tokens, so that the pools share most of their rows.",
    ],
}
COMMANDS = """
## Withdrawn

Figures of this page and of [README.md](README.md) from before 2026-11-26, 09:00 UTC are withdrawn (default `spice`
0.113 worse than random rows, matching 3 better by 0.014): transformers cuts text for a Qwen2 model by rules of its
own, whatever tokenizer was saved beside it, so those models were pre-trained on other tokens than they were tuned and
judged by. Much of what tuning taught them was the other cut. Making a model now fails if what is loaded reads text
otherwise than in training.

## The commands

`POOL` is a file of rows with a column that names their group, `CACHE` a folder that keeps models, gradients and
trainings, so that a stage that was cut off goes on. The figures of a stage are what `--json` prints.

```sh
search="python -m benchmarks.toy.search --epochs 1 --json"
rows="--pool POOL --group domain --cache CACHE"
$search $rows --stage tune --answers ANSWERS  # all settings; --settings names some
$search $rows --stage report --replicates 24 --settings "matching 3;herding;spice" \\
  --controls "full;junk;one_group" --answers ANSWERS
$search $rows --model target --stage tune --replicates 1 --settings "matching 3"  # its learning rate
$search $rows --model target --stage report --replicates 12 --settings "matching 3;herding;spice" \\
  --controls "full;junk;one_group"

python -m benchmarks.toy.docstrings OTHER.jsonl
other="--pool OTHER.jsonl --group package --cache OTHER --proxy 64,3,2,700000"
$search $other --stage tune --replicates 1 --settings "matching 3"  # its learning rate
$search $other --stage report --replicates 12 --settings "matching 3;herding;spice" \\
  --controls "full;junk;one_group"
```
"""


def page(found: dict[str, Any]) -> str:
    """The stages as Markdown, in the order they were run.

    Args:
        found: Figures of each stage by its name, as ``benchmarks.toy.search`` prints them.
    """
    first = next(iter(found.values()))
    settings, machine = first["settings"], first["machine"]
    lines = [
        "# Which settings train better than random rows?",
        "",
        "Written by `python -m benchmarks.toy.search --render` from `search.json`, which holds what the command",
        "printed for each stage. In every replicate a pool of its own is drawn from the rows of the split; every",
        "setting chooses from it, random rows are drawn twice, and each is trained on from the same start for the same",
        "steps and tokens. Advantage: held-out loss of random rows (mean of two draws) minus that of the choice, nats",
        "a token, with a 95 % interval over replicates and held-out rows, for each line alone. The pools of a split",
        "overlap, so that an interval speaks for other draws from these rows more than for other data. **Bold**",
        "verdicts also hold for all settings of a table together (Bonferroni).",
        "",
        f"{machine['processor']}, torch {machine['torch']}, seed {settings['seed']}, other work on the machine. A",
        f"training takes {settings['steps']} steps, one pass of the choice, at the best of five learning rates",
        "(0.0001 to 0.01) for random rows on the tuning split; in no table is it the lowest or the highest.",
    ]
    for name, stage in found.items():
        lines += _stage(name, stage)
    return "\n".join(lines) + "\n" + COMMANDS


def _stage(name: str, found: dict[str, Any]) -> list[str]:
    pool, made = found["pool"], found["made"]
    groups = ", ".join(f"{group} {count:,}" for group, count in pool["groups"].items())
    lines = [
        "",
        f"## {STAGES[name]}",
        "",
        *([*NOTES[name], ""] if name in NOTES else []),
        f"Pools of {pool['rows']:,} rows from {pool['drawn_from']:,} ({groups}), {pool['chosen']} chosen,",
        f"{pool['held_out']} held out; model of {made['parameters']:,} weights, pre-trained on {made['tokens']:,}",
        f"tokens; learning rate {found['settings']['learning_rate']:g}; {found['date']}.",
        f"Held-out loss before tuning {found['base']:.4f}.",
        "",
        "| rows | replicates | held-out loss | advantage over random | 95 % interval | verdict | tokens chosen |",
        "|---|---|---|---|---|---|---|",
    ]
    for arm in found["arms"]:
        gain = arm["advantage"]
        shown = ["", ""] if gain is None else [f"{gain['mean']:+.4f}", f"{gain['low']:+.4f} to {gain['high']:+.4f}"]
        cells = [arm["name"], str(arm["replicates"]), f"{arm['loss']:.4f}", *shown, verdict(arm), f"{arm['tokens']:,}"]
        lines.append(f"| {' | '.join(cells)} |")
    if found["base_answers"]:
        labels = list(found["base_answers"])
        lines += [
            "",
            "Loss on rows of `gsm8k_test`: of the worked answer, and of the final number alone. Before tuning "
            + ", ".join(f"{label} {found['base_answers'][label]:.4f}" for label in labels)
            + ".",
            "",
            f"| rows | {' | '.join(f'{label} | advantage, 95 % interval' for label in labels)} |",
            f"|---|{'---|---|' * len(labels)}",
        ]
        for arm in found["arms"]:
            cells = [arm["name"]]
            for label in labels:
                gain = arm["answers"][label]["advantage"]
                told = "" if gain is None else f"{gain['mean']:+.4f} ({gain['low']:+.4f} to {gain['high']:+.4f})"
                cells += [f"{arm['answers'][label]['loss']:.4f}", told]
            lines.append(f"| {' | '.join(cells)} |")
    return lines


def verdict(arm: dict[str, Any]) -> str:
    """What follows from the interval of an arm."""
    if arm["name"] == "random":
        return "the measure"
    gain = arm["advantage"]
    if gain is None:
        return "one replicate"
    said = "better than random" if gain["low"] > 0 else "random did better" if gain["high"] < 0 else "cannot tell"
    strict = arm["advantage_all"]
    return f"**{said}**" if strict["low"] > 0 or strict["high"] < 0 else said
