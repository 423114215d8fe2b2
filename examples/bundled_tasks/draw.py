"""Chance that is the same on every Python, and the shape of a task."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TypeVar

Item = TypeVar("Item")


@dataclass(frozen=True)
class Task:
    """A question with its answer.

    Attributes:
        kind: What sort of question it is; part of the row's id.
        question: The instruction.
        answer: A right answer.
        wrong: A wrong answer to the same question, where one can be given.
    """

    kind: str
    question: str
    answer: str
    wrong: str | None = None


class Draw:
    """Draws from a seed. Only ``random()`` is promised to give the same numbers in every version of Python.

    Args:
        seed: The seed.
    """

    def __init__(self, seed: int) -> None:
        self._random = random.Random(seed).random

    def below(self, count: int) -> int:
        """A whole number from 0 to count - 1."""
        return int(self._random() * count)

    def between(self, first: int, last: int) -> int:
        """A whole number from first to last, both included."""
        return first + self.below(last - first + 1)

    def pick(self, items: Sequence[Item]) -> Item:
        """One of the items."""
        return items[self.below(len(items))]

    def some(self, items: Sequence[Item], count: int) -> list[Item]:
        """Several different items, in a random order."""
        left = list(items)
        return [left.pop(self.below(len(left))) for _ in range(count)]

    def shuffled(self, items: Sequence[Item]) -> list[Item]:
        """All items in a random order."""
        return self.some(items, len(items))


Maker = Callable[[Draw], Task]
