from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.fixtures.service import InProcessService


@pytest.fixture
def service(sqlite_url: str, tmp_path: Path) -> Iterator[InProcessService]:
    """The service on SQLite: for what does not depend on the database."""
    with InProcessService(sqlite_url, tmp_path / "data") as running:
        yield running


@pytest.fixture
def any_service(any_database_url: str, tmp_path: Path) -> Iterator[InProcessService]:
    """The service, once on SQLite and once on PostgreSQL."""
    with InProcessService(any_database_url, tmp_path / "data") as running:
        yield running
