"""The migrations of the database: where they are, which is the newest, and bringing a database there.

They lie beside the package ``app``, in a checkout, an image and an installed distribution alike.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from alembic.config import Config

MIGRATIONS = Path(__file__).resolve().parents[2] / "migrations"


def alembic_config(url: str | None = None) -> Config:
    """How Alembic finds the migrations. Imports Alembic, which takes a moment, only when called.

    Args:
        url: Database to migrate; None takes that of the settings.
    """
    from alembic.config import Config

    config = Config()
    config.set_main_option("script_location", str(MIGRATIONS).replace("%", "%%"))
    config.set_main_option("path_separator", "os")
    if url is not None:
        config.attributes["url"] = url
    return config


def newest_revision() -> str | None:
    """The migration that this code is written for."""
    from alembic.script import ScriptDirectory

    return ScriptDirectory.from_config(alembic_config()).get_current_head()


def migrate(url: str | None = None) -> None:
    """Bring a database to the newest migration.

    Args:
        url: Of the database; None takes that of the settings.
    """
    from alembic import command

    command.upgrade(alembic_config(url), "head")
