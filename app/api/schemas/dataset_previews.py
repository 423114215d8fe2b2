"""How a data set would be read, and what would be learned of its first rows."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import BaseModel

from app.api.schemas.datasets import RejectedRead
from spice_select.config import ProxyConfig


class LearnedSpanRead(BaseModel):
    """A range of ``text``, in characters from 0, ``end`` excluded; ``weight`` is the factor of its loss."""

    start: int
    end: int
    weight: float


class ExcludedRead(BaseModel):
    """Why a usable row would be left out all the same."""

    code: str
    detail: str


class RejectedAnswerRead(BaseModel):
    """The answer of a pair that was not preferred: what is labelled in it has a negative weight.

    ``text`` is null where only the chosen answer is learned.
    """

    messages: list[dict[str, Any]]
    text: str | None
    learned: list[LearnedSpanRead]
    num_tokens: int | None
    num_learned: int | None


class PreviewedRowRead(BaseModel):
    """A row as it is read, as the model sees it, and what of that is learned."""

    row: int
    messages: list[dict[str, Any]]
    text: str | None
    learned: list[LearnedSpanRead]
    num_tokens: int | None
    num_learned: int | None
    truncated: bool
    excluded: ExcludedRead | None
    rejected_answer: RejectedAnswerRead | None


class DatasetPreviewRead(BaseModel):
    """A preview. Counts are those of the rows that were read: all, where ``complete`` is true."""

    object: Literal["dataset_preview"] = "dataset_preview"
    container: str | None
    compression: str | None
    format: str | None
    columns: dict[str, str] | None
    column_names: list[str] | None
    unused_columns: dict[str, int] | None = None
    complete: bool
    num_rows: int | None
    num_usable: int | None
    num_rejected: int | None
    rejected: dict[str, int] | None
    warnings: list[str]
    notes: list[str]
    rows: list[PreviewedRowRead]
    rejected_rows: list[RejectedRead]
    proxy: ProxyConfig
