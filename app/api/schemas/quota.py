"""What a project holds, and may hold."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel


class UsedRead(BaseModel):
    """How much of something there is."""

    used: int
    allowed: int | None
    """The most there may be; null for any number."""


class QuotaRead(BaseModel):
    """The quotas of a project."""

    object: Literal["quota"] = "quota"
    stored_bytes: UsedRead
    """In the service's folder: data sets, gradients, results, uploads. Deleted files count until they are removed."""
    datasets: UsedRead
    queued: UsedRead
    """Jobs and evaluations that wait."""
