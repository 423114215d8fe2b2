"""Downloads over connections that break and from services that lie: resumed, checked, never half there."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest

from spice_select.client import Client
from spice_select.errors import ClientError
from tests.fixtures.flaky import Answer, Drop, FlakyServer, Twist

UNAVAILABLE = Answer(503, {"Retry-After": "0"})
FILE = "GET /v1/jobs/job_1/files/big.bin"


@pytest.fixture
def big(server: FlakyServer, content: bytes) -> bytes:
    server.files["big.bin"] = content
    return content


def ranges(server: FlakyServer) -> list[str | None]:
    return [seen.headers.get("range") for seen in server.asked(FILE)]


def test_a_broken_download_goes_on_where_it_broke(
    server: FlakyServer, client: Client, big: bytes, tmp_path: Path
) -> None:
    server.fail(FILE, Drop(100_000), Drop(50_000), UNAVAILABLE)
    told: list[int] = []
    files = client.jobs.download("job_1", tmp_path / "new" / "folder", on_bytes=lambda _file, done: told.append(done))
    assert files["big.bin"].read_bytes() == big
    assert ranges(server) == [None, "bytes=100000-", "bytes=150000-", "bytes=150000-"]
    assert told == sorted(told)
    assert told[-1] == len(big)
    assert [path.name for path in (tmp_path / "new" / "folder").iterdir()] == ["big.bin"]


def test_progress_counts_more_than_failures(server: FlakyServer, big: bytes, tmp_path: Path) -> None:
    server.fail(FILE, *[Drop(10_000)] * 12)
    with Client(server.url, retries=1) as client:
        assert client.jobs.download("job_1", tmp_path)["big.bin"].read_bytes() == big


def test_a_later_call_goes_on_with_what_an_earlier_one_left(
    server: FlakyServer, client: Client, big: bytes, tmp_path: Path
) -> None:
    server.fail(FILE, Drop(70_000), Answer(403))
    with pytest.raises(ClientError):
        client.jobs.download("job_1", tmp_path)
    assert not (tmp_path / "big.bin").exists()
    assert client.jobs.download("job_1", tmp_path)["big.bin"].read_bytes() == big
    assert ranges(server)[-1] == "bytes=70000-"


@pytest.mark.parametrize("left", [b"x" * 1000, b"x" * 300_000, b"x" * 300_001])
def test_wrong_bytes_left_by_an_earlier_call_are_thrown_away(
    server: FlakyServer, client: Client, big: bytes, tmp_path: Path, left: bytes
) -> None:
    digest = hashlib.sha256(big).hexdigest()
    (tmp_path / f".big.bin.{digest[:16]}.partial").write_bytes(left)
    assert client.jobs.download("job_1", tmp_path)["big.bin"].read_bytes() == big


def test_a_service_without_ranges_starts_the_file_again(
    server: FlakyServer, client: Client, big: bytes, tmp_path: Path
) -> None:
    server.fail(FILE, Drop(70_000), Twist(ranges=False))
    assert client.jobs.download("job_1", tmp_path)["big.bin"].read_bytes() == big


def test_wrong_bytes_never_get_the_name_of_the_file(
    server: FlakyServer, client: Client, big: bytes, tmp_path: Path
) -> None:
    (tmp_path / "big.bin").write_bytes(b"older")
    for wrong in (big[:-1] + b"!", big[:-5], big + b"more"):
        server.fail(FILE, Twist(body=wrong))
        with pytest.raises(ClientError) as caught:
            client.jobs.download("job_1", tmp_path)
        assert caught.value.code == "digest-mismatch"
        assert (tmp_path / "big.bin").read_bytes() == b"older"
        assert len(list(tmp_path.iterdir())) == 1


def test_a_file_that_is_there_is_not_fetched_again(
    server: FlakyServer, client: Client, big: bytes, tmp_path: Path
) -> None:
    client.jobs.download("job_1", tmp_path)
    client.jobs.download("job_1", tmp_path)
    assert len(server.asked(FILE)) == 1
    server.files["empty"] = b""
    assert client.jobs.download("job_1", tmp_path, names=["empty"])["empty"].read_bytes() == b""


@pytest.mark.parametrize("name", ["../escape", "/etc/x", "a/b", "..", "a\\b"])
def test_a_file_name_that_leaves_the_folder_is_refused(
    server: FlakyServer, client: Client, tmp_path: Path, name: str
) -> None:
    server.files[name] = b"x"
    with pytest.raises(ClientError) as caught:
        client.jobs.download("job_1", tmp_path / "out")
    assert caught.value.code == "unsafe-name"
    assert list(tmp_path.iterdir()) == []
