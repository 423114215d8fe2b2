"""Which data folder the records belong to."""

from __future__ import annotations

from datetime import datetime

from sqlalchemy.orm import Mapped, mapped_column

from app.persistence.tables.base import Base, Sha256


class DataFolder(Base):
    """The name of the data folder that the API keeps its files in: one row. Of no project."""

    __tablename__ = "data_folder"

    number: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    name: Mapped[str] = mapped_column(Sha256)
    recorded_at: Mapped[datetime]
