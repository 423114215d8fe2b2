"""Makes the bundled data set, its target, rows to judge by and pairs: ``python -m examples.make_bundled``.

600 rows, seeded and written by this project: arithmetic word problems, small programming tasks and general questions,
with duplicates, contradictions and junk planted among them and labelled, so that anybody can see what a selection did
with each. The same bytes come out on every machine.
"""

from __future__ import annotations

import json
import string
from collections import Counter
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from examples.bundled_tasks import code_tasks, everyday_tasks, general_tasks, number_tasks
from examples.bundled_tasks.draw import Draw, Maker, Task

MATH_MAKERS = everyday_tasks.MAKERS + number_tasks.MAKERS
SEED = 20260123
PATH = Path(__file__).parent / "bundled.jsonl"
TARGET_PATH = Path(__file__).parent / "target.jsonl"
TARGET_SEED, TARGET_ROWS = 20260124, 10
HELD_OUT_PATH = Path(__file__).parent / "held_out.jsonl"
HELD_OUT_SEED, HELD_OUT_ROWS = 20260125, 40
PREFERENCES_PATH = Path(__file__).parent / "preferences.jsonl"
PREFERENCE_TARGET_PATH = Path(__file__).parent / "preference_target.jsonl"
PREFERENCE_TARGET_ROWS = 12

CLEAN_MATH, CLEAN_CODE = 150, 120
EXACT_DUPLICATES, NEAR_DUPLICATES, CONTRADICTIONS = 32, 40, 48
NOISE, OFF_TOPIC, TRUNCATED, REPETITION = 12, 14, 14, 6

Row = dict[str, Any]

BOILERPLATE = (
    "As a language model I am unable to help with that request.",
    "Lorem ipsum dolor sit amet, consectetur adipiscing elit, sed do eiusmod tempor incididunt ut labore.",
    "This site uses cookies. By continuing to browse you agree to our use of cookies. Accept all | Settings",
    "Subscribe to our newsletter and never miss an offer! Click here to unsubscribe.",
    '<div class="content"><p>&nbsp;</p></div><script>track();</script>',
    "404 Not Found",
    "[insert answer here]",
    "TODO",
    "Copyright (c) All rights reserved. No part of this page may be reproduced.",
    "Great question! There are many aspects to consider, and it depends on many factors in many ways.",
    "See above.",
    "I'm sorry, but I cannot continue this conversation.",
)
EMPTY = ("", " \n")
"""Answers that the intake rejects."""


def make_rows(seed: int = SEED) -> list[Row]:
    """All rows, in the order of the file.

    Args:
        seed: Decides every draw.
    """
    draw = Draw(seed)
    seen: set[str] = set()
    clean = _clean(draw, seen)
    chosen = draw.shuffled(clean)
    twice, chosen = chosen[: EXACT_DUPLICATES + NEAR_DUPLICATES], chosen[EXACT_DUPLICATES + NEAR_DUPLICATES :]
    disputed = [pair for pair in chosen if pair[1].wrong is not None][:CONTRADICTIONS]
    rows = [row for row, _ in clean]
    for position, (row, _) in enumerate(twice):
        question, answer = row["instruction"], row["output"]
        if position >= EXACT_DUPLICATES:
            question, answer = _reworded(draw, question, answer, is_code=row["group"] == "code")
        rows.append(_row(f"duplicate-{position:03d}", question, answer, row["group"], "duplicate", row["id"]))
    for position, (row, task) in enumerate(disputed):
        rows.append(
            _row(f"contradiction-{position:03d}", task.question, task.wrong, row["group"], "contradiction", row["id"])
        )
    for position, (question, answer, group) in enumerate(_junk(draw, seen)):
        rows.append(_row(f"junk-{position:03d}", question, answer, group, "junk", None))
    return draw.shuffled(rows)


def make_target(seed: int = TARGET_SEED) -> list[Row]:
    """What the model should get better at: good answers to other questions of each group, ten of each.

    Args:
        seed: Decides every draw.
    """
    return _wanted("target", Draw(seed), TARGET_ROWS, make_rows())


def make_held_out(seed: int = HELD_OUT_SEED) -> list[Row]:
    """What a training is judged by: good answers to questions that neither the rows nor the target ask, by group.

    Args:
        seed: Decides every draw.
    """
    return _wanted("held-out", Draw(seed), HELD_OUT_ROWS, make_rows() + make_target())


def make_preferences() -> tuple[list[Row], list[Row]]:
    """Pairs of a right and a wrong answer to questions of the bundled rows: pairs to choose from, and a target."""
    rows = {row["id"]: row for row in make_rows()}
    pairs = [
        {"prompt": row["instruction"], "chosen": rows[row["of"]]["output"], "rejected": row["output"]}
        for _, row in sorted(rows.items())
        if row["label"] == "contradiction"
    ]
    return pairs[PREFERENCE_TARGET_ROWS:], pairs[:PREFERENCE_TARGET_ROWS]


def _wanted(name: str, draw: Draw, count: int, others: list[Row]) -> list[Row]:
    seen = {text for row in others for text in (row["instruction"], row["output"]) if text}
    groups = (
        ("math", _made(draw, MATH_MAKERS, count, seen)),
        ("code", _made(draw, code_tasks.MAKERS, count, seen)),
        ("general", _fresh(draw, general_tasks.all_tasks(draw), seen)[:count]),
    )
    return [
        {"id": f"{name}-{group}-{number:03d}", "instruction": task.question, "output": task.answer, "group": group}
        for group, tasks in groups
        for number, task in enumerate(tasks)
    ]


def _clean(draw: Draw, seen: set[str]) -> list[tuple[Row, Task]]:
    code = _fresh(draw, code_tasks.once(draw), seen)
    code += _made(draw, code_tasks.MAKERS, CLEAN_CODE - len(code), seen)
    groups = (
        ("math", _made(draw, MATH_MAKERS, CLEAN_MATH, seen)),
        ("code", code),
        ("general", _fresh(draw, general_tasks.all_tasks(draw), seen)),
    )
    numbers: Counter[str] = Counter()
    clean: list[tuple[Row, Task]] = []
    for group, tasks in groups:
        for task in tasks:
            identifier = f"{task.kind}-{numbers[task.kind]:03d}"
            numbers[task.kind] += 1
            clean.append((_row(identifier, task.question, task.answer, group, "clean", None), task))
    return clean


def _fresh(draw: Draw, tasks: Iterable[Task], seen: set[str]) -> list[Task]:
    kept = [task for task in tasks if _is_new(task, seen)]
    return draw.shuffled(kept)


def _made(draw: Draw, makers: tuple[Maker, ...], count: int, seen: set[str]) -> list[Task]:
    """So many tasks that nobody has asked yet, from all makers in turn."""
    tasks: list[Task] = []
    turn = 0
    while len(tasks) < count:
        task = makers[turn % len(makers)](draw)
        turn += 1
        if _is_new(task, seen):
            tasks.append(task)
    return tasks


def _is_new(task: Task, seen: set[str]) -> bool:
    # Two wordings of one question show in equal answers, but short answers may well be equal.
    marks = {task.question} | ({task.answer} if len(task.answer) >= 60 else set())
    if marks & seen:
        return False
    seen |= marks
    return True


def _reworded(draw: Draw, question: str, answer: str, *, is_code: bool) -> tuple[str, str]:
    """Nearly the same row: the question dressed up, and the answer too where it is not code."""
    lowered = question[0].lower() + question[1:]
    ways: tuple[Callable[[], str], ...] = (
        lambda: f"Please help me with this: {lowered}",
        lambda: f"{question} Thank you!",
        lambda: f"Question: {question}",
        lambda: question.rstrip("?.") + " ?",
        lambda: f"Hi, {lowered}",
        lambda: f"{question}\n\nAnswer as well as you can.",
    )
    dressed = draw.pick(ways)()
    if is_code:
        return dressed, answer
    return dressed, draw.pick((answer, f"Sure! {answer}", f"{answer}\n\nI hope this helps."))


def _junk(draw: Draw, seen: set[str]) -> list[tuple[str, str, str]]:
    """Question, answer and group of every junk row."""
    signs = string.ascii_letters + string.digits + "#$%&*+<>?@^~|"
    junk: list[tuple[str, str, str]] = []

    def add(answer: str) -> None:
        group, task = _asked(draw, seen)
        junk.append((task.question, answer, group))

    for _ in range(NOISE):
        asked = "".join(draw.pick(signs) for _ in range(draw.between(8, 40)))
        junk.append((asked, "".join(draw.pick(signs) for _ in range(draw.between(20, 160))), "general"))
    for text in BOILERPLATE:
        add(text)
    for _ in range(OFF_TOPIC):
        (group, task), (other_group, other) = _asked(draw, seen), _asked(draw, seen)
        while other_group == group:
            other_group, other = _asked(draw, seen)
        junk.append((task.question, other.answer, group))
    for _ in range(TRUNCATED):
        group, task = _asked(draw, seen)
        while len(task.answer) < 40:
            group, task = _asked(draw, seen)
        junk.append((task.question, task.answer[: len(task.answer) // draw.between(3, 6)].rstrip(), group))
    for _ in range(REPETITION):
        add(" ".join([draw.pick(("the", "very", "data", "yes", "and so", "money"))] * draw.between(12, 60)))
    for empty in EMPTY:
        add(empty)
    return junk


def _asked(draw: Draw, seen: set[str]) -> tuple[str, Task]:
    """A question that nobody has asked yet, and its group."""
    group, makers = draw.pick((("math", MATH_MAKERS), ("code", code_tasks.MAKERS)))
    task = draw.pick(makers)(draw)
    while not _is_new(task, seen):
        task = draw.pick(makers)(draw)
    return group, task


def _row(identifier: str, question: str, answer: str | None, group: str, label: str, of: str | None) -> Row:
    return {"id": identifier, "instruction": question, "output": answer, "group": group, "label": label, "of": of}


def as_bytes(rows: list[Row]) -> bytes:
    """The rows as JSON Lines."""
    return "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows).encode()


if __name__ == "__main__":
    made = make_rows()
    PATH.write_bytes(as_bytes(made))
    TARGET_PATH.write_bytes(as_bytes(make_target()))
    HELD_OUT_PATH.write_bytes(as_bytes(make_held_out()))
    for path, pairs in zip((PREFERENCES_PATH, PREFERENCE_TARGET_PATH), make_preferences(), strict=True):
        path.write_bytes(as_bytes(pairs))
    print(f"{len(made)} rows:", dict(sorted(Counter(row["label"] for row in made).items())))
