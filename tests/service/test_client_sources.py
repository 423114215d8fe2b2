"""Sources named by address or by fields, and that client and command line have the service fetch them."""

from __future__ import annotations

import asyncio
import json
import threading
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from spice_select.cli import main
from spice_select.client import AsyncClient, Client
from spice_select.errors import ClientError, ConfigError
from spice_select.ingest.source_urls import parse_source, shown
from tests.fixtures.service import InProcessService, jsonl, sums

COMMIT = "0123456789abcdef0123456789abcdef01234567"


@pytest.mark.parametrize(
    ("given", "fields"),
    [
        ("hf://datasets/org/name", {"type": "hf", "repo": "org/name", "revision": "main", "split": "train"}),
        (f"hf://datasets/org/name@{COMMIT}", {"type": "hf", "repo": "org/name", "revision": COMMIT}),
        ("hf://datasets/name@refs/convert/parquet", {"type": "hf", "repo": "name", "revision": "refs/convert/parquet"}),
        ("https://example.org/a@b.jsonl?x=1", {"type": "https", "url": "https://example.org/a@b.jsonl?x=1"}),
        ("s3://bucket/folder/", {"type": "s3", "url": "s3://bucket/folder/"}),
        ("file:/pools/one.jsonl", {"type": "file", "path": "/pools/one.jsonl"}),
        ("file:///pools/one.jsonl", {"type": "file", "path": "/pools/one.jsonl"}),
        ("file:many", {"type": "file", "path": "many"}),
        ({"type": "hf", "repo": "org/name", "split": "test"}, {"repo": "org/name", "split": "test"}),
    ],
)
def test_an_address_becomes_the_source_that_it_is_shown_as(given: Any, fields: dict[str, Any]) -> None:
    source = parse_source(given)
    assert fields.items() <= source.model_dump().items()
    assert parse_source(source) == source
    assert parse_source(source.model_dump()) == source
    if isinstance(given, str) and "?" not in given:
        assert parse_source(shown(source)) == source


@pytest.mark.parametrize(
    ("given", "pointer"),
    [
        ("hf://models/org/name", "#/source/repo"),
        ("hf://datasets/a/b/c", "#/source/repo"),
        ("s3://bucket", "#/source/url"),
        ("file:../etc/passwd", "#/source/path"),
        ("ftp://example.org/x", None),
        ("pool.jsonl", None),
        ({"type": "ftp"}, "#/source/"),
        ({"type": "hf", "repo": "org/name", "color": 1}, "#/source/color"),
    ],
)
def test_what_is_no_address_is_refused_with_its_place(given: Any, pointer: str | None) -> None:
    with pytest.raises(ConfigError) as refused:
        parse_source(given)
    if pointer is not None:
        assert refused.value.errors[0]["pointer"] == pointer


@contextmanager
def working(service: InProcessService) -> Generator[None]:
    """A worker beside the test."""
    over = threading.Event()

    def work() -> None:
        while not over.wait(0.05):
            service.drain()

    thread = threading.Thread(target=work)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()


def test_client_and_command_line_have_the_service_fetch(
    any_database_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    root = tmp_path / "pools"
    root.mkdir()
    (root / "one.jsonl").write_bytes(jsonl(sums(20)))
    with InProcessService(any_database_url, tmp_path / "data", source_roots=[root]) as service, working(service):
        url = str(service.http.base_url)
        with Client(url) as client:
            made = client.datasets.from_source("file:one.jsonl", name="one", metadata={"a": "b"})
            assert (made.status, made.name, made.metadata) == ("validating", "one", {"a": "b"})
            assert client.datasets.wait(made.id, max_wait=60).num_rows == 20
            with pytest.raises(ClientError) as refused:
                client.datasets.from_source({"type": "hf", "repo": "org/name"})
            assert refused.value.code == "source-not-allowed"
            selected = client.select("file:one.jsonl", 3, tmp_path / "chosen", max_wait=120)
            assert len(selected.files["selected.jsonl"].read_bytes().splitlines()) == 3

        async def awaited() -> str:
            async with AsyncClient(url) as other:
                found = await other.datasets.from_source({"type": "file", "path": f"{root}/one.jsonl"})
                return (await other.datasets.wait(found.id, max_wait=60)).status

        assert asyncio.run(awaited()) == "ready"
        monkeypatch.setenv("SPICE_API_URL", url)

        def command(*arguments: str) -> tuple[int, str]:
            with pytest.raises(SystemExit) as ended:
                main(list(arguments))
            return int(ended.value.code or 0), capsys.readouterr().out

        status, text = command("datasets", "add", "--path", "one.jsonl", "--json")
        assert (status, json.loads(text)["status"]) == (0, "ready")
        status, text = command("jobs", "submit", "-d", "file:one.jsonl", "-b", "3", "--wait", "--json")
        assert (status, json.loads(text)["result"]["selected"]) == (0, 3)
        status, text = command("jobs", "submit", "-d", "file:none.jsonl", "-b", "3", "--json")
        assert (status, json.loads(text)["error"]["code"]) == (1, "source-not-found")
        for wrong in (
            ["datasets", "add"],
            ["datasets", "add", "--path", "a", "--https", "https://example.org"],
            ["datasets", "add", "--path", "a", "--split", "test"],
            ["datasets", "add", "--s3", "bucket/key"],
        ):
            assert command(*wrong)[0] == 2, wrong
