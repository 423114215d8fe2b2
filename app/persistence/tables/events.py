"""Tables of the history."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from sqlalchemy import ForeignKey, Index
from sqlalchemy.orm import Mapped, mapped_column

from app.persistence.tables.core import Base, Big, Id, Word


class Event(Base):
    """One line of history; append-only."""

    __tablename__ = "event"
    __table_args__ = (
        Index("ix_event_job_id_id", "job_id", "id"),
        Index("ix_event_dataset_id_id", "dataset_id", "id"),
        Index("ix_event_evaluation_id_id", "evaluation_id", "id"),
    )

    project_id: Mapped[str] = mapped_column(ForeignKey("project.id"), primary_key=True)
    id: Mapped[int] = mapped_column(Big, primary_key=True, autoincrement=False)
    """Counted within the project, without gaps: it tells nothing of what others do."""
    job_id: Mapped[str | None] = mapped_column(ForeignKey("job.id"))
    dataset_id: Mapped[str | None] = mapped_column(ForeignKey("dataset.id"))
    # No foreign key: writing the row then locks nothing in the other table.
    evaluation_id: Mapped[str | None] = mapped_column(Id)
    type: Mapped[str] = mapped_column(Word)
    data: Mapped[dict[str, Any]]
    created_at: Mapped[datetime]
