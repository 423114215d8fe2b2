"""Queries on the data folder that the records belong to."""

from __future__ import annotations

from sqlalchemy import select
from sqlalchemy.orm import Session

from app.persistence.repositories.rows import insert_or_change, insert_unless_there
from app.persistence.tables import DataFolder
from app.persistence.types import clock

ONLY = 1


class DataFolders:
    """The one row that names the data folder."""

    def __init__(self, session: Session) -> None:
        self.session = session

    def name(self) -> str | None:
        """Name of the folder; None as long as no API has started."""
        return self.session.scalar(select(DataFolder.name).where(DataFolder.number == ONLY))

    def record(self, name: str, *, instead: bool) -> None:
        """Write down the name of the folder.

        Args:
            name: The name.
            instead: Whether it takes the place of another; otherwise the first one stays.
        """
        row = {"number": ONLY, "name": name, "recorded_at": clock()}
        if instead:
            insert_or_change(self.session, DataFolder, row, ["number"])
        else:
            insert_unless_there(self.session, DataFolder, row)
