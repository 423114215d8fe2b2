"""Reads tasks that are written down in text files, so that code and prose stand there as they are.

A task begins with a line ``## name``, perhaps with numbers after it. Its parts begin with a line ``ask:``, ``right:``
or ``wrong:`` and run to the next such line; blank lines around a part do not count. What stands before the first task
is for the reader.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

PARTS = ("ask", "right", "wrong")


@dataclass(frozen=True)
class WrittenTask:
    """A task as it is written down.

    Attributes:
        name: What sort of task it is.
        numbers: What stands after the name.
        ask: Wordings of the question.
        right: Right answers.
        wrong: Wrong answers; may be empty.
    """

    name: str
    numbers: tuple[int, ...]
    ask: list[str] = field(default_factory=list)
    right: list[str] = field(default_factory=list)
    wrong: list[str] = field(default_factory=list)


def read_tasks(name: str) -> list[WrittenTask]:
    """Tasks of a text file beside this module."""
    text = (Path(__file__).parent / name).read_text(encoding="utf-8")
    tasks: list[WrittenTask] = []
    part: list[str] | None = None
    for line in text.split("\n"):
        if line.startswith("## "):
            kind, *numbers = line.removeprefix("## ").split()
            tasks.append(WrittenTask(kind, tuple(map(int, numbers))))
            part = None
        elif tasks and line.removesuffix(":") in PARTS and line.endswith(":"):
            part = getattr(tasks[-1], line.removesuffix(":"))
            part.append("")
        elif part is not None:
            part[-1] += line + "\n"
    for task in tasks:
        for parts in (task.ask, task.right, task.wrong):
            parts[:] = [piece.strip("\n") for piece in parts]
    return tasks
