"""The ground the other tests stand on: databases are apart, the network is out of reach, examples are the same."""

from __future__ import annotations

import importlib.util
import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import hypothesis
import pytest
from hypothesis import strategies as st
from sqlalchemy import create_engine, inspect, text

from tests.fixtures.network import NetworkAccessError
from tests.fixtures.schedule import EARLY, LANES, lane, place
from tests.fixtures.servers import PostgresServer, RedisServer

ROOT = Path(__file__).resolve().parents[2]


def test_a_fresh_database_is_migrated_and_writable(any_database_url: str) -> None:
    engine = create_engine(any_database_url)
    with engine.begin() as connection:
        assert "job" in inspect(connection).get_table_names()
        connection.execute(text("INSERT INTO project (id, name, created_at) VALUES ('p', 'p', CURRENT_TIMESTAMP)"))
    engine.dispose()


@pytest.mark.parametrize("visit", [1, 2])
def test_a_test_sees_nothing_of_another_tests_rows(any_database_url: str, visit: int) -> None:
    engine = create_engine(any_database_url)
    with engine.begin() as connection:
        assert connection.scalar(text("SELECT count(*) FROM project WHERE id = 'p'")) == 0
        connection.execute(text("INSERT INTO project (id, name, created_at) VALUES ('p', 'p', CURRENT_TIMESTAMP)"))
    engine.dispose()


def test_the_broker_answers_and_starts_empty(broker_url: str) -> None:
    import redis

    with redis.Redis.from_url(broker_url, socket_timeout=5) as client:
        assert client.ping()
        assert client.dbsize() == 0


def test_servers_come_back_after_a_kill_with_what_was_committed() -> None:
    with PostgresServer() as postgres, RedisServer() as redis_server:
        engine = create_engine(postgres.url)
        with engine.begin() as connection:
            connection.execute(text("CREATE TABLE kept (number integer)"))
            connection.execute(text("INSERT INTO kept VALUES (7)"))
        engine.dispose()
        folders = [postgres.folder, redis_server.folder]
        for server in (postgres, redis_server):
            server.kill()
            server.start()
        with engine.begin() as connection:
            assert connection.scalar(text("SELECT number FROM kept")) == 7
        engine.dispose()
        for server in (postgres, redis_server):
            server.pause()  # closing must cope with a server that does not listen
    assert not any(folder.exists() for folder in folders)


def test_servers_do_not_outlive_a_run_that_was_killed() -> None:
    code = (
        "import os, signal\n"
        "from tests.fixtures.servers import RedisServer\n"
        "server = RedisServer().__enter__()\n"
        "print(server.process.pid, server.folder, flush=True)\n"
        "os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == -signal.SIGKILL
    pid, folder = done.stdout.split()
    deadline = time.monotonic() + 60
    while (_runs(int(pid)) or Path(folder).exists()) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not _runs(int(pid))
    assert not Path(folder).exists()


def _runs(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    state = Path(f"/proc/{pid}/stat")
    # A zombie waits for a parent that will never ask; it holds nothing any more.
    return not (state.exists() and state.read_text(encoding="utf-8").rpartition(")")[2].split()[0] == "Z")


@pytest.mark.parametrize("host", ["192.0.2.1", "8.8.8.8", "example.org", "2001:db8::1"])
def test_connections_to_other_machines_are_refused(host: str) -> None:
    with pytest.raises(NetworkAccessError, match="loopback"):
        socket.create_connection((host, 80), timeout=0.2)


def test_datagrams_to_other_machines_are_refused() -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as datagram, pytest.raises(NetworkAccessError):
        datagram.sendto(b"x", ("192.0.2.1", 53))


def drawn() -> list[str]:
    seen: list[str] = []

    @hypothesis.settings(max_examples=300)
    @hypothesis.given(st.text())
    def look(text: str) -> None:
        seen.append(text)

    look()
    return seen


def test_examples_do_not_depend_on_the_modules_that_other_tests_have_loaded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = drawn()
    path = tmp_path / "loaded_later.py"
    path.write_text("".join(f"A{number} = 'a constant, no. {number}'\n" for number in range(40)))
    spec = importlib.util.spec_from_file_location("loaded_later", path)
    assert spec is not None
    assert spec.loader is not None
    monkeypatch.setitem(sys.modules, "loaded_later", importlib.util.module_from_spec(spec))
    spec.loader.exec_module(sys.modules["loaded_later"])
    assert drawn() == before


def test_services_are_started_in_lanes_and_every_other_file_is_done_by_one_worker() -> None:
    for start in (*LANES, *EARLY):
        assert (ROOT / start).exists(), f"{start} is no longer there"
    assert (
        lane("tests/soak/chaos/test_faults.py::test_x[a]") == lane("tests/soak/load/test_load.py::test_y") == "faults"
    )
    assert lane("tests/service/test_jobs.py::test_x") is None
    order = ["tests/library/test_greedy.py::test_a", "tests/service/test_jobs.py::test_b", "tests/e2e/test_demo.py::c"]
    assert sorted(order, key=place) == order[::-1]
