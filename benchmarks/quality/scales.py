"""The numbers of the protocol: what a protocol file may set, and the three scales that it names."""

from __future__ import annotations

import tomllib
from pathlib import Path
from typing import Literal

from pydantic import Field

from spice_select.config import Model

PoolKind = Literal["clean", "dirty", "source"]
TASKS = ("math", "code", "general")


class Cell(Model):
    """A pool and a budget with the arms that are trained on it."""

    pool: PoolKind
    """``clean`` (a), ``dirty`` (b) or ``source`` (c)."""
    budget: float
    """Share of the pool's response tokens."""
    arms: list[str]
    """In the order they are run."""
    draws: int
    """Pool draws, of which the first has number 0."""
    seeds: int
    """Training seeds of each."""
    variant: str = ""
    """Name of a check that trains otherwise than the scale; its cells share the settings below. Empty: as the scale."""
    rates: list[float] = Field(default_factory=list)
    """Learning rates of a variant; empty: those of the scale."""
    full_tuning: bool = False
    """Whether a variant trains every weight."""


class Scale(Model):
    """How large everything is."""

    pool_rows: int
    """Rows of a pool, n."""
    max_tokens: int
    """Longest row in tokens."""
    leave_out_longer: bool = False
    """Leave longer rows out of the pool instead of cutting them."""
    target_rows: int = 30
    """Rows a task to select with, and as many to choose settings with."""
    test_rows: int = 300
    """Rows a task to judge with."""
    rates: list[float]
    """Learning rates; of several the best on the settings rows of draw 0 is taken for each arm."""
    passes: float = 2.0
    """Passes over a selection."""
    step_rows: int = 8
    """Rows of mean length in a step."""
    rank: int = 16
    """Rank of the adapters; they are scaled by 2."""
    draw_major: bool = True
    """All arms of a draw before the next draw."""
    cells: list[Cell]
    """What is run, in this order."""

    def variant(self, name: str) -> Cell:
        """The first cell of a variant, which says how all of its cells are trained.

        Args:
            name: Of a cell of this scale.
        """
        return next(cell for cell in self.cells if cell.variant == name)


class Protocol(Model):
    """A protocol file."""

    scales: dict[str, Scale]

    @classmethod
    def read(cls, path: Path) -> Protocol:
        """The protocol of a TOML file.

        Args:
            path: The file.
        """
        return cls.model_validate(tomllib.loads(path.read_text(encoding="utf-8")))
