"""What is trained on and judged by: rows as they were read, encoded for one model."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Any

from spice_select.errors import ConfigError
from spice_select.ingest import PoolRow
from spice_select.records.conversation import shown
from spice_select.records.objectives import training_objective
from spice_select.records.tokenize import Example, encode
from spice_select.selection.validation import group_of


@dataclass(frozen=True)
class EvaluationDataset:
    """Everything an experiment needs but its settings.

    Attributes:
        pool: Rows that may be trained on.
        chosen: Places of the chosen rows in the pool, in the order of the choice.
        held_out: Rows to judge by.
        pool_groups: Group of every row of the pool; None without a column.
        held_out_groups: Group of every held-out row; None without a column.
        left_out: Chosen rows that are not in the pool: near-duplicates of held-out rows, and rows that cannot be
            encoded for this model.
    """

    pool: list[Example]
    chosen: list[int]
    held_out: list[Example]
    pool_groups: list[str] | None
    held_out_groups: list[str] | None
    left_out: int

    @property
    def tokens(self) -> list[int]:
        """Tokens of every row of the pool."""
        return [len(example.input_ids) for example in self.pool]


def evaluation_dataset(
    rows: Sequence[PoolRow],
    chosen: Sequence[int],
    judges: Sequence[PoolRow],
    *,
    taken: Collection[int],
    tokenizer: Any,
    max_length: int,
    group: str | None,
    tasks: Sequence[str] | None = None,
) -> EvaluationDataset:
    """Encode a pool and the rows that judge it.

    Args:
        rows: The rows that were chosen from.
        chosen: Places of the chosen ones among them, in the order of the choice.
        judges: The held-out rows.
        taken: Places of rows that may not be trained on.
        tokenizer: A fast tokenizer of transformers.
        max_length: Longest sequence in tokens; longer ones are cut.
        group: Column that names a row's group.
        tasks: Task of every held-out row, which then takes the place of its group.

    Raises:
        ConfigError: No chosen row is left, or fewer than two rows to judge by.
    """
    away = set(taken)
    left = [place for place in range(len(rows)) if place not in away]
    pool, judging = (
        encode(conversations, tokenizer, max_length=max_length, objective=training_objective(conversations))
        for conversations in ([rows[place].messages for place in left], [row.messages for row in judges])
    )
    candidate_of = {left[kept]: number for number, kept in enumerate(pool.kept)}
    here = [candidate_of[place] for place in chosen if place in candidate_of]
    if not here:
        raise ConfigError("no chosen row is left to train on: each is a near-duplicate of a held-out row or unusable")
    if len(judging.examples) < 2:
        raise ConfigError("fewer than two held-out rows can be used; an interval needs two")
    return EvaluationDataset(
        pool=pool.examples,
        chosen=here,
        held_out=judging.examples,
        pool_groups=groups_of([rows[left[kept]] for kept in pool.kept], group),
        held_out_groups=groups_of([judges[kept] for kept in judging.kept], group)
        if tasks is None
        else [tasks[kept] for kept in judging.kept],
        left_out=len(chosen) - len(here),
    )


def text_of(row: PoolRow) -> str:
    """Everything a row says, one message a line."""
    return "\n".join(shown(message) for message in row.messages)


def groups_of(rows: Sequence[PoolRow], column: str | None) -> list[str] | None:
    """Group of every row; None without a column.

    Args:
        rows: The rows.
        column: Column of the records.
    """
    return None if column is None else [group_of(row.record, column) for row in rows]
