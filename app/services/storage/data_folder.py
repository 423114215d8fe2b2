"""Whether a process sees the data folder that the records belong to, and not one of its own beside it."""

from __future__ import annotations

import time

from sqlalchemy.exc import DBAPIError

from app.logs import get_logger
from app.persistence.repositories import Artifacts
from app.persistence.session import Database
from app.services.access.signed_links import own_secret
from app.settings import Settings

NAME_FILE = "folder-name"
LOG_SECONDS = 60.0
"""Least time between two lines of the log about a foreign folder."""


class ForeignFolderError(RuntimeError):
    """The records belong to another data folder."""


class SharedFolder:
    """The data folder of this process, held against the one that the API wrote down.

    Without this, a worker with a folder of its own (a volume that was not mounted, a path that is local to a pod)
    would fail the units it takes, and compute again for ever what others have computed.

    Args:
        settings: For the folder. One that holds the database itself needs no comparing.
        database: Where the name is written down.
    """

    def __init__(self, settings: Settings, database: Database) -> None:
        self._settings, self._database = settings, database
        self._known = not settings.database_url
        self._logged_at = -LOG_SECONDS

    def take(self) -> None:
        """Write down this folder, where none is yet; for the API, before it serves.

        Raises:
            ForeignFolderError: The records belong to another one.
        """
        if self._known:
            return
        try:
            recorded = self._record(replace=False)
        except DBAPIError as error:
            # Requests answer 503 until the database is there and migrated.
            get_logger().warning("data_folder_not_checked", error=str(error))
            return
        if recorded != self._name():
            raise ForeignFolderError(
                f"{self._foreign}: mount that one as SPICE_DATA_DIR; where it is lost or was moved without its "
                f"{NAME_FILE}, write this one down with `python -m app folder adopt`"
            )

    def adopt(self) -> str:
        """Write down this folder in place of another; its name."""
        return self._record(replace=True)

    def is_here(self) -> bool:
        """Whether this process may touch records that name files; once it may, it may for good.

        False, which the log explains, where another folder is written down. As long as none is, no API has started that
        could have, and there is nothing to compare with.
        """
        if self._known:
            return True
        with self._database.read() as session:
            recorded = Artifacts(session).data_folder()
        self._known = recorded == self._name()
        if self._known or recorded is None:
            return True
        if time.monotonic() - self._logged_at >= LOG_SECONDS:
            self._logged_at = time.monotonic()
            get_logger().error("data_folder_foreign", detail=f"{self._foreign}; nothing is taken or removed here")
        return False

    def _record(self, *, replace: bool) -> str:
        with self._database.write() as session:
            Artifacts(session).record_data_folder(self._name(), replace=replace)
            return Artifacts(session).data_folder() or ""

    def _name(self) -> str:
        # No secret: workers may run as another user than the API.
        return own_secret(self._settings.data_dir, NAME_FILE, mode=0o644).decode()

    @property
    def _foreign(self) -> str:
        return f"the records belong to another data folder than {self._settings.data_dir.absolute()}"
