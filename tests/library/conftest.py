"""A failing server, a client and a command line on it, and a small result for it to serve."""

from __future__ import annotations

import random
from collections.abc import Iterator
from typing import TYPE_CHECKING

import pytest

from spice_select.client import Client
from tests.conftest import SEED
from tests.fixtures.commands import JOB, RESULT, Command, commands
from tests.fixtures.flaky import FlakyServer

if TYPE_CHECKING:
    from tests.fixtures.results import MadeResult


@pytest.fixture
def server() -> Iterator[FlakyServer]:
    with FlakyServer() as running:
        yield running


@pytest.fixture
def client(server: FlakyServer, monkeypatch: pytest.MonkeyPatch) -> Iterator[Client]:
    # Pauses are counted in test_pauses_grow; elsewhere they only cost time.
    monkeypatch.setattr("spice_select.client.retry.FIRST_BACKOFF_SECONDS", 0.01)
    monkeypatch.setattr("spice_select.client.retry.LONGEST_BACKOFF_SECONDS", 0.05)
    with Client(server.url) as made:
        yield made


@pytest.fixture
def content(seed: int) -> bytes:
    return random.Random(seed).randbytes(300_000)


@pytest.fixture
def spice(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Command:
    monkeypatch.setattr("spice_select.client.retry.FIRST_BACKOFF_SECONDS", 0.01)
    return commands(capsys)


@pytest.fixture
def service(server: FlakyServer, monkeypatch: pytest.MonkeyPatch) -> FlakyServer:
    monkeypatch.setenv("SPICE_API_URL", server.url)
    return server


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> MadeResult:
    # Imported late: a test of the client must not load torch.
    from tests.fixtures.results import alpaca, jsonl, make_result

    return make_result(tmp_path_factory.mktemp("made"), jsonl(alpaca(40)), count=4, seed=SEED)


@pytest.fixture
def job_files(service: FlakyServer, made: MadeResult) -> FlakyServer:
    service.files = {path.name: path.read_bytes() for path in sorted(made.out.iterdir())}
    service.states[0] = {"id": JOB, "status": "succeeded", "result": RESULT}
    return service
