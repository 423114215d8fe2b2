"""Fixtures of every test: real servers, migrated databases, real processes, a fixed seed, no network.

All of it is lazy: a test of the mathematics starts no server. See tests/fixtures for the parts.
"""

from __future__ import annotations

import os
import random
import shutil
import sys
from collections.abc import Callable, Generator, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import pytest

from tests.fixtures.examples import draw_the_same_examples
from tests.fixtures.network import OFFLINE, refuse_network, trust_one_authority
from tests.fixtures.readers import fork_readers
from tests.fixtures.selection import mark_soak

if TYPE_CHECKING:
    from tests.fixtures.processes import LaunchedProcess

# Before anything imports a library that reads them.
os.environ.update(OFFLINE)
os.environ.setdefault("OMP_NUM_THREADS", "1")  # the tests themselves keep every core busy
for _name in [name for name in os.environ if name.startswith("SPICE_") and not name.startswith("SPICE_TEST_")]:
    del os.environ[_name]
refuse_network()
trust_one_authority()

SEED = int(os.environ.get("SPICE_TEST_SEED", "20260131"))
SEED_LINE = f"seed: {SEED} (set SPICE_TEST_SEED to repeat or to vary)"

Launched = TypeVar("Launched", bound="LaunchedProcess")


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--thorough", action="store_true", help="draw the full number of examples, as `make soak` does")


def pytest_configure(config: pytest.Config) -> None:
    thorough = bool(config.getoption("thorough"))
    draw_the_same_examples(SEED if "SPICE_TEST_SEED" in os.environ else None, thorough=thorough)


def pytest_report_header() -> str:
    return SEED_LINE


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    if terminalreporter.stats.get("failed") or terminalreporter.stats.get("error"):
        terminalreporter.write_line(SEED_LINE)


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Any:
    from tests.fixtures.schedule import Lanes

    return Lanes(config, log) if config.getoption("dist") == "load" else None


@pytest.hookimpl(tryfirst=True)  # before -m looks at the markers
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    for item in items:
        mark_soak(item, bool(config.getoption("thorough")))
    if hasattr(config, "workerinput"):
        from tests.fixtures.schedule import place

        items.sort(key=lambda item: place(item.nodeid))


@pytest.hookimpl(tryfirst=True)  # before any fixture reads a data set
def pytest_runtest_setup(item: pytest.Item) -> None:
    if "spice_select.ingest.process" in sys.modules:
        fork_readers(item.get_closest_marker("new_readers") is None)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    report = yield
    if report.failed:
        item.stash[FAILED] = True
    return report


FAILED = pytest.StashKey[bool]()


@pytest.fixture
def seed() -> int:
    """The run's seed, for every generator a test makes."""
    return SEED


@pytest.fixture(autouse=True)
def _global_seeds() -> None:
    # Only libraries that are loaded already: seeding must not make a test of the client load torch.
    random.seed(SEED)
    if "numpy" in sys.modules:
        sys.modules["numpy"].random.seed(SEED)
    if "torch" in sys.modules:
        sys.modules["torch"].manual_seed(SEED)


@pytest.fixture(scope="session")
def postgres_url() -> Iterator[str]:
    """A PostgreSQL server, as an SQLAlchemy URL of an account that may create databases."""
    from tests.fixtures.databases import sqlalchemy_url
    from tests.fixtures.servers import PostgresServer

    given = os.environ.get("TEST_DATABASE_URL")
    if given:
        yield sqlalchemy_url(given)
        return
    with PostgresServer() as server:
        yield server.url


@pytest.fixture(scope="module")
def s3() -> Iterator[str]:
    """Address of a server that speaks S3 and lets everybody in."""
    from moto.server import ThreadedMotoServer

    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    yield "http://{}:{}".format(*server.get_host_and_port())
    server.stop()


@pytest.fixture(scope="session")
def redis_url() -> Iterator[str]:
    """A Redis-protocol server; of one given as TEST_REDIS_URL the named database is emptied."""
    from tests.fixtures.servers import RedisServer

    given = os.environ.get("TEST_REDIS_URL")
    if given:
        yield given
        return
    with RedisServer() as server:
        yield server.url


@pytest.fixture
def broker_url(redis_url: str) -> str:
    """An empty broker."""
    import redis

    with redis.Redis.from_url(redis_url, socket_timeout=5) as client:
        client.flushdb()
    return redis_url


@pytest.fixture(scope="session")
def _migrated_postgres(postgres_url: str) -> Iterator[str]:
    from tests.fixtures.databases import fresh_database, migrate

    with fresh_database(postgres_url) as url:
        migrate(url)
        yield url


@pytest.fixture(scope="session")
def _migrated_sqlite(tmp_path_factory: pytest.TempPathFactory) -> Path:
    from tests.fixtures.databases import migrate

    path = tmp_path_factory.mktemp("migrated") / "spice.db"
    migrate(f"sqlite:///{path}")
    return path


@pytest.fixture
def empty_database_url(postgres_url: str) -> Iterator[str]:
    """A PostgreSQL database of this test alone with nothing in it."""
    from tests.fixtures.databases import fresh_database

    with fresh_database(postgres_url) as url:
        yield url


@pytest.fixture
def database_url(postgres_url: str, _migrated_postgres: str) -> Iterator[str]:
    """A migrated PostgreSQL database of this test alone."""
    from tests.fixtures.databases import fresh_database

    with fresh_database(postgres_url, template=_migrated_postgres) as url:
        yield url


@pytest.fixture
def sqlite_url(tmp_path: Path, _migrated_sqlite: Path) -> str:
    """A migrated SQLite database of this test alone."""
    path = tmp_path / "spice.db"
    shutil.copyfile(_migrated_sqlite, path)
    return f"sqlite:///{path}"


@pytest.fixture(params=["sqlite", "postgresql"])
def any_database_url(request: pytest.FixtureRequest) -> str:
    """A migrated database of this test alone, once of each kind."""
    return str(request.getfixturevalue("sqlite_url" if request.param == "sqlite" else "database_url"))


@pytest.fixture
def launch(request: pytest.FixtureRequest) -> Iterator[Callable[[Launched], Launched]]:
    """Start one of tests.fixtures.processes, wait until it is ready, stop it after the test.

    When the test fails, the tails of all the logs are shown.
    """
    from tests.fixtures.servers import tail

    started: list[LaunchedProcess] = []

    def start(process: Launched) -> Launched:
        started.append(process)
        process.start()
        process.wait_ready()
        return process

    yield start
    for process in reversed(started):
        process.stop()
    if request.node.stash.get(FAILED, False):
        for process in started:
            print(f"--- {process.log}\n{tail(process.log)}")
