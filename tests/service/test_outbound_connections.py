"""The guard connects where it checked, and every answer ends: real servers on loopback, whose network is listed."""

from __future__ import annotations

import dataclasses
import io
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from hashlib import sha256
from http.server import BaseHTTPRequestHandler
from pathlib import Path

import httpx
import pytest

from app.outbound import DownloadLimitError, Guard, Policy, UrlNotAllowedError
from tests.fixtures.receiver import Received, Receiver, respond

NAMES = {"internal.example.org": ["10.0.0.7"]}


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    with Receiver(respond(200, b"rows")) as running:
        yield running


@pytest.fixture
def secure(tmp_path: Path) -> Iterator[Receiver]:
    with Receiver(respond(200, b"rows"), names=("files.example.org", "other.example.org")) as running:
        yield running


def guard_for(receiver: Receiver, folder: Path, resolver: Callable[[str], Sequence[str]] | None = None) -> Guard:
    """Loopback listed, as a deployment lists its own network."""
    ca_file = receiver.authority_file(folder) if receiver.names else None
    policy = Policy(allowed_networks=("127.0.0.1/32",), ports=frozenset({receiver.port}), ca_file=ca_file)
    return Guard(policy, resolver or (lambda _: ["127.0.0.1"]))


def fetch(guard: Guard, url: str, *, max_bytes: int = 10**6, max_seconds: float = 10) -> bytes:
    into = io.BytesIO()
    done = guard.download(url, into, max_bytes=max_bytes, max_seconds=max_seconds)
    assert (done.bytes, done.sha256) == (len(into.getvalue()), sha256(into.getvalue()).hexdigest())
    return into.getvalue()


def test_the_connection_goes_to_the_checked_address_under_the_name(secure: Receiver, tmp_path: Path) -> None:
    guard = guard_for(secure, tmp_path)
    assert fetch(guard, f"{secure.url}/data.jsonl?x=1") == b"rows"
    (request,) = secure.requests
    assert (request.path, request.server_name) == ("/data.jsonl?x=1", "files.example.org")
    assert request.headers["Host"] == f"files.example.org:{secure.port}"


def test_a_certificate_of_another_name_is_refused(secure: Receiver, tmp_path: Path) -> None:
    guard = guard_for(secure, tmp_path)
    with pytest.raises(httpx.ConnectError, match="certificate"):
        fetch(guard, f"https://evil.example.org:{secure.port}/")
    without_ca = Guard(dataclasses.replace(guard.policy, ca_file=None), lambda _: ["127.0.0.1"])
    with pytest.raises(httpx.ConnectError, match="certificate"):
        fetch(without_ca, f"{secure.url}/")
    assert not secure.requests


class Rebinding:
    """A name server that answers a listed address first and another one from then on."""

    def __init__(self, first: str, then: str) -> None:
        self.answers = [first]
        self.then = then
        self.asked = 0

    def __call__(self, host: str) -> list[str]:
        self.asked += 1
        return [self.answers.pop()] if self.answers else [self.then]


def test_a_name_that_moves_after_the_check_gains_nothing(receiver: Receiver, tmp_path: Path) -> None:
    """One resolution for check and connection: were there a second, the request would miss the receiver."""
    rebinding = Rebinding("127.0.0.1", "127.0.0.2")
    guard = guard_for(receiver, tmp_path, rebinding)
    assert fetch(guard, f"http://moves.example.org:{receiver.port}/") == b"rows"
    assert rebinding.asked == 1
    with pytest.raises(UrlNotAllowedError):
        fetch(guard, f"http://moves.example.org:{receiver.port}/")
    assert len(receiver.requests) == 1


def test_the_next_checked_address_is_tried_when_one_is_down(receiver: Receiver, tmp_path: Path) -> None:
    policy = Policy(allowed_networks=("127.0.0.0/8", "::1"), ports=frozenset({receiver.port}))
    guard = Guard(policy, lambda _: ["::1", "127.0.0.1"])
    assert fetch(guard, f"http://two.example.org:{receiver.port}/") == b"rows"


def redirect(to: str) -> Callable[[Received, BaseHTTPRequestHandler], None]:
    return lambda request, handler: respond(302, Location=to)(request, handler)


@pytest.mark.parametrize(
    "to",
    [
        "http://10.0.0.1/",
        "https://169.254.169.254/",
        "http://internal.example.org/",
        "file:///etc/passwd",
        "ftp://x.org/",
        "http://user:secret@127.0.0.1:{port}/",
        "http://127.0.0.1:6379/",
        "http://127.1:{port}/",
        "//[::1]:{port}/",
    ],
)
def test_a_redirect_is_checked_like_a_first_request(receiver: Receiver, tmp_path: Path, to: str) -> None:
    receiver.answer = redirect(to.format(port=receiver.port))
    with pytest.raises(UrlNotAllowedError):
        fetch(guard_for(receiver, tmp_path, lambda host: NAMES.get(host, ["127.0.0.1"])), f"{receiver.url}/start")
    assert [request.path for request in receiver.requests] == ["/start"]


def test_redirects_to_allowed_places_are_followed_up_to_a_limit(receiver: Receiver, tmp_path: Path) -> None:
    def hop(request: Received, handler: BaseHTTPRequestHandler) -> None:
        step = int(request.path.rpartition("/")[2])
        (respond(200, b"there") if step == 3 else redirect(f"/{step + 1}"))(request, handler)

    receiver.answer = hop
    guard = guard_for(receiver, tmp_path)
    assert fetch(guard, f"{receiver.url}/0") == b"there"
    with pytest.raises(DownloadLimitError, match="redirects"):
        fetch(guard, f"{receiver.url}/-1")


def test_a_token_does_not_follow_a_redirect_to_another_host(receiver: Receiver, tmp_path: Path) -> None:
    receiver.answer = lambda request, handler: (
        redirect(f"http://other.example.org:{receiver.port}/end")(request, handler)
        if request.path == "/start"
        else respond(200)(request, handler)
    )
    headers = {"Authorization": "Bearer secret"}
    guard_for(receiver, tmp_path).download(
        f"{receiver.url}/start", io.BytesIO(), max_bytes=10, max_seconds=5, headers=headers
    )
    assert ["Authorization" in request.headers for request in receiver.requests] == [True, False]


def endless(request: Received, handler: BaseHTTPRequestHandler) -> None:
    handler.send_response(200)
    handler.end_headers()
    while True:
        handler.wfile.write(b"x" * 65536)


def dripping_body(request: Received, handler: BaseHTTPRequestHandler) -> None:
    handler.send_response(200)
    handler.end_headers()
    while True:
        handler.wfile.write(b"x")
        time.sleep(0.05)


def dripping_head(request: Received, handler: BaseHTTPRequestHandler) -> None:
    handler.wfile.write(b"HTTP/1.1 200 OK\r\n")
    for number in range(10**6):
        handler.wfile.write(b"X-Header-%d: x\r\n" % number)
        time.sleep(0.05)


def silent(request: Received, handler: BaseHTTPRequestHandler) -> None:
    time.sleep(12)


def test_an_endless_answer_ends_at_the_byte_limit(receiver: Receiver, tmp_path: Path) -> None:
    receiver.answer = endless
    into = io.BytesIO()
    with pytest.raises(DownloadLimitError, match="1000000 bytes") as refused:
        guard_for(receiver, tmp_path).download(f"{receiver.url}/", into, max_bytes=10**6, max_seconds=30)
    assert refused.value.code == "download-limit"
    assert len(into.getvalue()) <= 10**6


@pytest.mark.parametrize("slow", [dripping_body, dripping_head, silent])
@pytest.mark.parametrize("tls", [False, True], ids=["http", "https"])
def test_a_slow_answer_ends_at_the_time_limit(
    slow: Callable[[Received, BaseHTTPRequestHandler], None], tls: bool, tmp_path: Path
) -> None:
    with Receiver(slow, names=("files.example.org",) if tls else ()) as receiver:
        began = time.monotonic()
        with pytest.raises(DownloadLimitError, match="longer"):
            fetch(guard_for(receiver, tmp_path), f"{receiver.url}/", max_seconds=0.5)
        assert time.monotonic() - began < 10


def test_a_compressed_answer_is_refused(receiver: Receiver, tmp_path: Path) -> None:
    """A small body that swells is never unpacked: it was asked for as it is."""
    receiver.answer = respond(200, b"\x1f\x8b" + bytes(100), Content_Encoding="gzip")
    with pytest.raises(DownloadLimitError, match="compressed"):
        fetch(guard_for(receiver, tmp_path), f"{receiver.url}/")
    assert receiver.requests[0].headers["Accept-Encoding"] == "identity"


def test_a_name_server_that_does_not_answer_ends_at_the_time_limit(receiver: Receiver, tmp_path: Path) -> None:
    end = threading.Event()

    def stuck(host: str) -> list[str]:
        end.wait(60)
        return ["127.0.0.1"]

    began = time.monotonic()
    with pytest.raises(httpx.ConnectTimeout):
        fetch(guard_for(receiver, tmp_path, stuck), f"http://stuck.example.org:{receiver.port}/", max_seconds=0.3)
    end.set()
    assert time.monotonic() - began < 30


def test_proxies_and_credentials_of_the_environment_are_not_used(
    receiver: Receiver, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / ".netrc").write_text("machine 127.0.0.1 login me password secret")
    monkeypatch.setenv("NETRC", str(tmp_path / ".netrc"))
    for name in ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "http_proxy", "all_proxy"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    assert fetch(guard_for(receiver, tmp_path), f"{receiver.url}/") == b"rows"
    assert "Authorization" not in receiver.requests[0].headers


def test_an_error_answer_and_a_server_that_is_down_are_told_apart(receiver: Receiver, tmp_path: Path) -> None:
    receiver.answer = respond(404)
    guard = guard_for(receiver, tmp_path)
    with pytest.raises(httpx.HTTPStatusError):
        fetch(guard, f"{receiver.url}/")
    receiver.__exit__()
    with pytest.raises(httpx.ConnectError):
        fetch(guard, f"{receiver.url}/")
