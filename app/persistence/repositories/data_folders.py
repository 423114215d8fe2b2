"""Queries on the data folder that the records belong to."""

from __future__ import annotations

from sqlalchemy import select
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.orm import Session

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
        dialect = postgresql if self.session.get_bind().dialect.name == "postgresql" else sqlite
        statement = dialect.insert(DataFolder).values(number=ONLY, name=name, recorded_at=clock())
        if instead:
            again = {word: statement.excluded[word] for word in ("name", "recorded_at")}
            self.session.execute(statement.on_conflict_do_update(index_elements=["number"], set_=again))
        else:
            self.session.execute(statement.on_conflict_do_nothing(index_elements=["number"]))
