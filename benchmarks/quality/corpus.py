"""The rows of the protocol: read from the files of a folder, split into pool, target, settings and test rows."""

from __future__ import annotations

import gzip
import json
import random
import string
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeAlias

from benchmarks.quality.scales import TASKS, PoolKind, Scale

FILES = {
    "math": "gsm8k_train.jsonl.gz",
    "math_test": "gsm8k_test.jsonl.gz",
    "code": "code_alpaca.jsonl.gz",
    "chat": "alpaca_eval_chat.jsonl.gz",
}
STRONG = ("gpt4_1106_preview", "Meta-Llama-3-70B-Instruct")
"""Models whose answers are the targets of pool (c)."""
NOISE = ("duplicate", "mismatched", "cut_short", "random", "refusal")
NOISE_SHARE = 0.06
"""Share of a dirty pool for each kind of noise."""
MINORITY = 0.1
"""Share of the target's domain in a clean pool."""
TESTED = 300
"""Rows of each task that only test rows are taken from."""
RESERVED_CODE, RESERVED_PROMPTS = 400, 105
"""Rows and prompts beside the test rows that target and settings rows are drawn from."""
NGRAM = 8
"""Words in a row that no pool row shares with a target, settings or test row."""
REFUSALS = (
    "I'm sorry, but I can't help with that request.",
    "As an AI language model, I am unable to answer this question.",
    "I apologize, but I cannot assist with that.",
    "Unfortunately, I do not have enough information to respond.",
    "I'm sorry, I cannot provide that information at this time.",
)


@dataclass(frozen=True)
class Row:
    """A prompt and its response.

    Attributes:
        prompt: What is asked.
        response: What is answered.
        task: ``math``, ``code`` or ``general``.
        source: Which file or model it is from.
        kind: ``clean`` or the kind of noise.
    """

    prompt: str
    response: str
    task: str
    source: str
    kind: str = "clean"

    @property
    def record(self) -> dict[str, str]:
        """The row in a form that the library reads."""
        return {"instruction": self.prompt, "output": self.response}


@dataclass(frozen=True)
class Corpus:
    """All rows, before any pool is drawn.

    Attributes:
        pool: Rows by task that pools are drawn from.
        reserve: Rows by task that target and settings rows are drawn from.
        strong: Rows of the strong models on the reserved prompts.
        test: Test rows by task, and those of the strong models under ``strong``.
    """

    pool: dict[str, list[Row]]
    reserve: dict[str, list[Row]]
    strong: list[Row]
    test: dict[str, list[Row]]


@dataclass(frozen=True)
class Draw:
    """One pool with its target rows.

    Attributes:
        pool: Rows to select from.
        targets: Target rows by task, each task that is selected for.
        settings: Settings rows by the same tasks.
        test: Test rows by task; every task, targets or not.
        others: Rows like target rows of the tasks that are not selected for.
        counts: What was left out, and what the pool holds.
    """

    pool: list[Row]
    targets: dict[str, list[Row]]
    settings: dict[str, list[Row]]
    test: dict[str, list[Row]]
    others: dict[str, list[Row]]
    counts: dict[str, Any] = field(default_factory=dict)


Fits: TypeAlias = Callable[[Sequence[Row]], list[Row]]
"""Gives those of some rows that are short enough."""


def read_corpus(folder: Path, scale: Scale, fits: Fits) -> Corpus:
    """The rows of the files, split in the same way for every draw.

    Args:
        folder: Holds the files of ``FILES``.
        scale: Says how many test rows there are.
        fits: Gives those of some rows that are short enough.
    """
    shuffle = random.Random(0).shuffle  # one split for all draws
    math_pool = [Row(row["question"], row["answer"], "math", "gsm8k") for row in _read(folder / FILES["math"])]
    math_test = [Row(row["question"], row["answer"], "math", "gsm8k") for row in _read(folder / FILES["math_test"])]
    code = [
        Row("\n".join(part for part in (row["instruction"], row["input"]) if part), row["output"], "code", "code")
        for row in _read(folder / FILES["code"])
    ]
    prompts: dict[str, list[Row]] = {}
    for row in _read(folder / FILES["chat"]):
        asked, answered = (message["content"] for message in row["messages"])
        prompts.setdefault(asked, []).append(Row(asked, answered, "general", row["source"]))
    names = sorted(prompts)
    for rows in (math_pool, math_test, code, names):
        shuffle(rows)
    tested, reserved = names[:TESTED], names[TESTED : TESTED + RESERVED_PROMPTS]
    answers = {True: {}, False: {}}  # by whether they are those of strong models
    for name in (*tested, *reserved):
        shuffle(prompts[name])
        answers[False][name] = fits(prompts[name])
        answers[True][name] = fits([row for row in prompts[name] if row.source in STRONG])
    n = scale.test_rows
    return Corpus(
        pool={
            "math": math_pool,
            "code": code[TESTED + RESERVED_CODE :],
            "general": [row for name in names[TESTED + RESERVED_PROMPTS :] for row in prompts[name]],
        },
        reserve={
            "math": math_test[TESTED:],
            "code": code[TESTED : TESTED + RESERVED_CODE],
            "general": [answers[False][name][0] for name in reserved if answers[False][name]],
        },
        strong=[answers[True][name][0] for name in reserved if answers[True][name]],
        test={
            "math": fits(math_test[:TESTED])[:n],
            "code": fits(code[:TESTED])[:n],
            "general": [answers[False][name][0] for name in tested if answers[False][name]][:n],
            "strong": [answers[True][name][0] for name in tested if answers[True][name]][:n],
        },
    )


def draw_pool(corpus: Corpus, kind: PoolKind, number: int, scale: Scale, fits: Fits) -> Draw:
    """One pool and its target rows.

    Args:
        corpus: All rows.
        kind: Which pool.
        number: Number of the draw; with the kind it decides every choice made here.
        scale: How many rows.
        fits: Gives those of some rows that are short enough.
    """
    draw = random.Random(f"{kind} {number}")
    tasks = TASKS if kind == "dirty" else (TASKS[number % 3],) if kind == "clean" else ("general",)
    test = {task: corpus.test["strong" if kind == "source" and task == "general" else task] for task in TASKS}
    targets, settings = {}, {}
    for task in tasks:
        reserve = corpus.strong if kind == "source" else corpus.reserve[task]
        drawn = fits(draw.sample(reserve, len(reserve)))[: 2 * scale.target_rows]
        targets[task], settings[task] = drawn[: scale.target_rows], drawn[scale.target_rows :]
    others = {
        task: fits(draw.sample(corpus.reserve[task], len(corpus.reserve[task])))[: scale.target_rows]
        for task in TASKS
        if task not in tasks
    }
    parts = (targets, settings, test, others)
    judging = [row for part in parts for rows in part.values() for row in rows]
    forbidden = set().union(*(_ngrams(row) for row in judging))
    wanted = _wanted(kind, tasks, scale.pool_rows)
    pool: list[Row] = []
    counts: dict[str, Any] = {"contaminated": {}, "too_long": {}}
    spare: list[Row] = []
    for task, count in wanted.items():
        shuffled = draw.sample(corpus.pool[task], len(corpus.pool[task]))
        fitting = fits(shuffled[: 12 * count])
        counts["too_long"][task] = len(shuffled[: 12 * count]) - len(fitting)
        kept, left_out = _until(fitting, count, forbidden)
        counts["contaminated"][task] = left_out
        clean = count if kind != "dirty" else round(count * (1 - NOISE_SHARE * len(NOISE)))
        pool += kept[:clean]
        spare += kept[clean:]
    if kind == "dirty":
        pool += _noise(pool, spare, draw)
    draw.shuffle(pool)
    counts["rows"] = dict(Counter(f"{row.task} {row.kind}" for row in pool))
    return Draw(pool, targets, settings, test, others, counts)


class ShortEnough:
    """Leaves out rows that are longer than a scale allows, where it says so.

    Args:
        tokenizer: Of the model.
        scale: Longest row, and whether longer ones are left out.
    """

    def __init__(self, tokenizer: Any, scale: Scale) -> None:
        self._tokenizer, self._scale = tokenizer, scale

    def __call__(self, rows: Sequence[Row]) -> list[Row]:
        """The rows that are short enough, in order.

        Args:
            rows: Rows.
        """
        if not self._scale.leave_out_longer or not rows:
            return list(rows)
        messages = [
            [{"role": "user", "content": row.prompt}, {"role": "assistant", "content": row.response}] for row in rows
        ]
        texts = self._tokenizer.apply_chat_template(messages, tokenize=False)
        lengths = [len(ids) for ids in self._tokenizer(texts, add_special_tokens=False).input_ids]
        return [row for row, length in zip(rows, lengths, strict=True) if length <= self._scale.max_tokens]


def _read(path: Path) -> list[dict[str, Any]]:
    with gzip.open(path, "rt", encoding="utf-8") as file:
        return [json.loads(line) for line in file]


def _wanted(kind: PoolKind, tasks: Sequence[str], rows: int) -> dict[str, int]:
    if kind == "source":
        return {"general": rows}
    if kind == "clean":
        shares = {task: MINORITY if task in tasks else (1 - MINORITY) / 2 for task in TASKS}
    else:
        shares = dict.fromkeys(TASKS, 1 / 3)
    return {task: round(rows * share) for task, share in shares.items()}


def _until(rows: Iterable[Row], count: int, forbidden: set[str]) -> tuple[list[Row], int]:
    """The first rows that share no words with what judges, and how many were passed over on the way."""
    kept: list[Row] = []
    left_out = 0
    for row in rows:
        if len(kept) == count:
            break
        if forbidden.isdisjoint(_ngrams(row)):
            kept.append(row)
        else:
            left_out += 1
    return kept, left_out


def _ngrams(row: Row) -> set[str]:
    words = f"{row.prompt} {row.response}".lower().split()
    return {" ".join(words[start : start + NGRAM]) for start in range(len(words) - NGRAM + 1)}


def _noise(clean: Sequence[Row], spare: Sequence[Row], draw: random.Random) -> list[Row]:
    """Noise rows, a fifth of each kind, made from rows that are in the pool only as noise (copies: of clean ones)."""
    made: list[Row] = []
    mixed = draw.sample(spare, len(spare))
    parts = {kind: mixed[place :: len(NOISE)] for place, kind in enumerate(NOISE)}
    for row in draw.sample(clean, len(parts["duplicate"])):
        made.append(Row(row.prompt, row.response, row.task, row.source, "duplicate"))
    strangers = parts["mismatched"]
    for row, other in zip(strangers, [*strangers[1:], strangers[0]], strict=True):
        made.append(Row(row.prompt, other.response, row.task, row.source, "mismatched"))
    for row in parts["cut_short"]:
        most = max(1, int(len(row.response) * draw.uniform(0.1, 0.3)))
        made.append(Row(row.prompt, row.response[:most], row.task, row.source, "cut_short"))
    for row in parts["random"]:
        letters = "".join(draw.choice(string.ascii_letters + " " * 10) for _ in row.response)
        made.append(Row(row.prompt, letters, row.task, row.source, "random"))
    for row in parts["refusal"]:
        made.append(Row(row.prompt, draw.choice(REFUSALS), row.task, row.source, "refusal"))
    return made
