from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.fixtures.service import InProcessService


@pytest.fixture
def service(sqlite_url: str, tmp_path: Path) -> Iterator[InProcessService]:
    """The service on SQLite, its worker under the test's control."""
    with InProcessService(sqlite_url, tmp_path / "data") as running:
        yield running
