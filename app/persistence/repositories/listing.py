"""Conditions that lists of jobs, of data sets and of evaluations share."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from sqlalchemy import JSON, Select, type_coerce

from app.persistence.tables import Dataset, Evaluation, Job


@dataclass(frozen=True)
class ListFilter:
    """Which entries are wanted; what is None or empty allows all.

    Attributes:
        status: State.
        dataset_id: Data set, of jobs.
        metadata: Key-values that all have to be there.
        created_after: Made at this time or later.
        created_before: Made before this time.
    """

    status: str | None = None
    dataset_id: str | None = None
    metadata: Mapping[str, str] = field(default_factory=dict)
    created_after: datetime | None = None
    created_before: datetime | None = None

    def applied(self, query: Select[Any], table: type[Job | Dataset | Evaluation]) -> Select[Any]:
        """The query, narrowed down."""
        if self.status is not None:
            query = query.where(table.status == self.status)
        if self.dataset_id is not None and table is Job:
            query = query.where(Job.dataset_id == self.dataset_id)
        for key, value in self.metadata.items():
            query = query.where(type_coerce(table.metadata_, JSON)[key].as_string() == value)
        if self.created_after is not None:
            query = query.where(table.created_at >= self.created_after)
        if self.created_before is not None:
            query = query.where(table.created_at < self.created_before)
        return query
