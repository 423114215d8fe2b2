from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.fixtures.databases import fresh_database
from tests.fixtures.hooked import Hooked
from tests.fixtures.receiver import Receiver
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


@pytest.fixture
def postgres_service(database_url: str, tmp_path: Path) -> Iterator[InProcessService]:
    """The service on PostgreSQL: for what SQLite cannot do."""
    with InProcessService(database_url, tmp_path / "data") as running:
        yield running


@pytest.fixture(scope="module", params=["sqlite", "postgresql"])
def shared_service(
    request: pytest.FixtureRequest, _migrated_sqlite: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[InProcessService]:
    """One service for the tests of a module that leave nothing behind: requests that are refused."""
    folder = tmp_path_factory.mktemp("shared")
    if request.param == "sqlite":
        path = folder / "spice.db"
        path.write_bytes(_migrated_sqlite.read_bytes())
        with InProcessService(f"sqlite:///{path}", folder / "data") as running:
            yield running
        return
    template = request.getfixturevalue("_migrated_postgres")
    with (
        fresh_database(request.getfixturevalue("postgres_url"), template=template) as url,
        InProcessService(url, folder / "data") as running,
    ):
        yield running


@pytest.fixture
def hooked(any_database_url: str, tmp_path: Path) -> Iterator[Hooked]:
    with (
        Receiver() as receiver,
        InProcessService(
            any_database_url,
            tmp_path / "data",
            outbound_allowed_networks=["127.0.0.1/32"],
            outbound_ports=[receiver.port],
            webhook_retry_seconds=[0.05, 0.1, 0.1],
            poll_seconds=0.05,
        ) as service,
    ):
        yield Hooked(service, receiver)
