"""Answers about how a data set would be read and learned."""

from __future__ import annotations

from typing import Any

from pydantic import Field

from spice_select.client.models import Answer, RejectedRow


class LearnedSpan(Answer):
    """A range of the rendered text that is learned: characters from 0, ``end`` excluded."""

    start: int
    end: int
    weight: float = 1.0


class RejectedAnswer(Answer):
    """The answer of a pair that was not preferred; the weight of what is labelled is negative."""

    messages: list[dict[str, Any]] = Field(default_factory=list)
    text: str | None = None
    learned: list[LearnedSpan] = Field(default_factory=list)
    num_tokens: int | None = None
    num_learned: int | None = None


class PreviewedRow(Answer):
    """A row as it is read, as the model sees it, and what of that is learned."""

    row: int
    messages: list[dict[str, Any]] = Field(default_factory=list)
    text: str | None = None
    learned: list[LearnedSpan] = Field(default_factory=list)
    num_tokens: int | None = None
    num_learned: int | None = None
    truncated: bool = False
    excluded: dict[str, str] | None = None
    rejected_answer: RejectedAnswer | None = None


class DatasetPreview(Answer):
    """How a data set would be read. Counts are those of the rows that were read: all, where ``complete`` is true."""

    container: str | None = None
    compression: str | None = None
    format: str | None = None
    columns: dict[str, str] | None = None
    column_names: list[str] | None = None
    unused_columns: dict[str, int] | None = None
    complete: bool = True
    num_rows: int | None = None
    num_usable: int | None = None
    num_rejected: int | None = None
    rejected: dict[str, int] | None = None
    warnings: list[str] = Field(default_factory=list)
    notes: list[str] = Field(default_factory=list)
    rows: list[PreviewedRow] = Field(default_factory=list)
    rejected_rows: list[RejectedRow] = Field(default_factory=list)
