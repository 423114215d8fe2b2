"""A failing server and a client on it."""

from __future__ import annotations

import random
from collections.abc import Iterator

import pytest

from spice_select.client import Client
from tests.fixtures.flaky import FlakyServer


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
