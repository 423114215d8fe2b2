"""Data sets fetched from where they lie, what is refused, and that nothing leads out of what is allowed."""

from __future__ import annotations

import hashlib
import os
import threading
import time
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from app.errors import ServiceError
from app.outbound import Guard, Policy
from app.settings import Settings
from spice_select.errors import Stopped
from spice_select.ingest.source_urls import FileSource, HttpsSource
from tests.fixtures.service import InProcessService, jsonl, sums
from workers.sources.fetched import Meter
from workers.sources.folders import fetch_files
from workers.sources.https import fetch_https

Service = Callable[..., InProcessService]


@pytest.fixture
def serve(any_database_url: str, tmp_path: Path) -> Iterator[Service]:
    """A service with settings of the test's own."""
    running: list[InProcessService] = []

    def start(**changes: Any) -> InProcessService:
        running.append(InProcessService(any_database_url, tmp_path / "data", **changes).__enter__())
        return running[-1]

    yield start
    for service in running:
        service.__exit__()


@pytest.fixture(scope="module")
def narrow(_migrated_sqlite: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[InProcessService]:
    """A service that reaches little, for requests that are refused."""
    folder = tmp_path_factory.mktemp("narrow")
    (folder / "spice.db").write_bytes(_migrated_sqlite.read_bytes())
    settings: dict[str, Any] = {
        "source_roots": ["/pools"],
        "source_s3_prefixes": ["bucket/folder"],
        "source_hub_repos": ["other/*"],
        "source_https_hosts": ["*"],
    }
    with InProcessService(f"sqlite:///{folder / 'spice.db'}", folder / "data", **settings) as running:
        yield running


def add(service: InProcessService, source: dict[str, Any], **more: Any) -> dict[str, Any]:
    response = service.http.post("/v1/datasets", json={"source": source, **more})
    assert response.status_code == 202, response.text
    assert response.headers["Retry-After"]
    service.drain()
    found: dict[str, Any] = service.http.get(response.headers["Location"]).json()
    return found


def refused(service: InProcessService, source: Any, **more: Any) -> tuple[int, str, str | None]:
    response = service.http.post("/v1/datasets", json={"source": source, **more})
    body = response.json()
    return response.status_code, body["code"], body["errors"][0].get("pointer") if body["errors"] else None


def test_a_file_and_a_folder_below_a_root_become_data_sets(serve: Service, tmp_path: Path) -> None:
    root = tmp_path / "pools"
    (root / "many").mkdir(parents=True)
    (root / "one.jsonl").write_bytes(jsonl(sums(9)))
    for number in range(3):
        (root / "many" / f"part-{number}.jsonl").write_bytes(jsonl(sums(4, number * 4)))
    (root / "many" / "README.md").write_text("not data")
    (root / "many" / ".hidden.jsonl").write_text("not data")
    service = serve(source_roots=[root])
    one = add(service, {"type": "file", "path": f"{root}/one.jsonl"}, metadata={"a": "b"})
    assert (one["status"], one["num_rows"], one["metadata"]) == ("ready", 9, {"a": "b"}), one["error"]
    assert one["digest"]["sha256"] == hashlib.sha256(jsonl(sums(9))).hexdigest()
    assert one["source"]["resolved"]["files"][0]["sha256"] == one["digest"]["sha256"]
    many = add(service, {"type": "file", "path": "many"}, name="many", format="alpaca")
    assert (many["status"], many["num_rows"], many["name"]) == ("ready", 12, "many"), many["error"]
    assert many["rows_digest"] == service.push(jsonl(sums(12)))["rows_digest"]
    assert [file["name"] for file in many["source"]["resolved"]["files"]] == [f"part-{n}.jsonl" for n in range(3)]
    job = service.submit(many["id"])
    service.drain()
    assert service.job(job["id"])["status"] == "succeeded"
    statement = service.http.get(f"/v1/jobs/{job['id']}/provenance").json()
    dependencies = {entry["name"]: entry for entry in statement["predicate"]["buildDefinition"]["resolvedDependencies"]}
    assert dependencies["dataset-source"]["uri"] == "file:many"
    assert dependencies["dataset-source"]["digest"] == {"sha256": many["digest"]["sha256"]}
    assert dependencies["dataset-source"]["annotations"]["num_files"] == 3
    assert service.http.delete(f"/v1/datasets/{one['id']}").status_code == 204


@pytest.mark.parametrize(
    ("path", "code"),
    [
        ("{root}/link.jsonl", "source-not-allowed"),
        ("{root}/linked/secret.jsonl", "source-not-allowed"),
        ("{root}/folder", "source-not-allowed"),
        ("{root}/pipe", "source-not-allowed"),
        ("{root}/none.jsonl", "source-not-found"),
        ("{root}/one.jsonl/x", "source-not-found"),
        ("{root}/empty", "source-not-found"),
    ],
)
def test_no_link_and_no_pipe_leads_out_of_a_root(tmp_path: Path, path: str, code: str) -> None:
    root, outside, into = tmp_path / "pools", tmp_path / "outside", tmp_path / "into"
    for folder in (root, outside, into, root / "folder", root / "empty"):
        folder.mkdir()
    (outside / "secret.jsonl").write_bytes(jsonl(sums(3)))
    (root / "one.jsonl").write_bytes(jsonl(sums(3)))
    (root / "link.jsonl").symlink_to(outside / "secret.jsonl")
    (root / "folder" / "link.jsonl").symlink_to(outside / "secret.jsonl")
    (root / "linked").symlink_to(outside)
    os.mkfifo(root / "pipe")
    settings = Settings(_env_file=None, source_roots=[root])
    source = FileSource(type="file", path=path.format(root=root))
    with pytest.raises(ServiceError) as caught:
        fetch_files(source, into, settings, Meter(10**6, 60, lambda *_: None, lambda: False))
    assert caught.value.code == code
    assert not any(b"Add" in file.read_bytes() for file in into.iterdir())


@pytest.mark.parametrize(
    ("source", "answer"),
    [
        ({"type": "file", "path": "/etc/passwd"}, (422, "source-not-allowed", "#/source/path")),
        ({"type": "file", "path": "/pools2/one.jsonl"}, (422, "source-not-allowed", "#/source/path")),
        ({"type": "file", "path": "/pools/../etc/passwd"}, (422, "validation-error", "#/source/path")),
        ({"type": "file", "path": "a/\x00b"}, (422, "validation-error", "#/source/path")),
        ({"type": "hf", "repo": "org/name"}, (422, "source-not-allowed", "#/source/repo")),
        ({"type": "hf", "repo": "../name"}, (422, "validation-error", "#/source/repo")),
        ({"type": "hf", "repo": "org/name", "split": "train[:10%]"}, (422, "validation-error", "#/source/split")),
        ({"type": "hf", "repo": "org/name", "trust_remote_code": True},
         (422, "validation-error", "#/source/trust_remote_code")),
        ({"type": "s3", "url": "s3://bucket/folder2/x"}, (422, "source-not-allowed", "#/source/url")),
        ({"type": "s3", "url": "s3://bucket/folder/../x"}, (422, "validation-error", "#/source/url")),
        ({"type": "s3", "url": "s3://other/folder/x"}, (422, "source-not-allowed", "#/source/url")),
        ({"type": "s3", "url": "https://bucket/folder/x"}, (422, "validation-error", "#/source/url")),
        ({"type": "ftp", "url": "ftp://host/x"}, (422, "validation-error", "#/source")),
        ({}, (422, "validation-error", "#/source")),
    ],
)  # fmt: skip
def test_what_the_settings_do_not_name_is_refused_at_once(
    narrow: InProcessService, source: dict[str, Any], answer: tuple[int, str, str]
) -> None:
    assert refused(narrow, source) == answer


def test_every_kind_is_off_until_the_settings_name_what_it_may_reach(service: InProcessService) -> None:
    for source in (
        {"type": "file", "path": "/etc/passwd"},
        {"type": "hf", "repo": "org/name"},
        {"type": "https", "url": "https://example.org/x.jsonl"},
        {"type": "s3", "url": "s3://bucket/x"},
    ):
        response = service.http.post("/v1/datasets", json={"source": source})
        assert (response.status_code, response.json()["code"]) == (422, "source-not-allowed")
        assert "SPICE_SOURCE_" in response.json()["detail"]


# Rows 41 to 47 and 49 of the table of bad input; 45 and 48, and redirects, are below.
URLS = [
    ("41 http", "http://example.org/x.jsonl"),
    ("41 file", "file:///etc/passwd"),
    ("41 gopher", "gopher://example.org/x"),
    ("42 short", "https://127.1/x"),
    ("42 hexadecimal", "https://0x7f000001/x"),
    ("42 one number", "https://2130706433/x"),
    ("42 IPv6 loopback", "https://[::1]/x"),
    ("42 mapped", "https://[::ffff:127.0.0.1]/x"),
    ("43 metadata", "https://169.254.169.254/latest/meta-data"),
    ("43 private", "https://10.1.2.3/x"),
    ("43 shared", "https://100.64.0.1/x"),
    ("43 unique local", "https://[fc00::1]/x"),
    ("44 a name with a private address", "https://localhost/x"),
    ("47 user and password", "https://user:pass@example.org/x"),
    ("49 ssh", "https://example.org:22/x"),
    ("49 redis", "https://example.org:6379/x"),
    ("no URL", "nonsense"),
]


@pytest.mark.parametrize("url", [row[1] for row in URLS], ids=[row[0] for row in URLS])
def test_an_address_that_leads_inside_is_refused_at_once(narrow: InProcessService, url: str) -> None:
    assert refused(narrow, {"type": "https", "url": url}) == (422, "url-not-allowed", "#/source/url")


class Web:
    """A server of the other side: what it answers, by path."""

    def __init__(self) -> None:
        self.answers: dict[str, Callable[[BaseHTTPRequestHandler], None]] = {}
        outer = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                outer.answers[self.path.partition("?")[0]](self)

            def log_message(self, *_: object) -> None:
                return

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.server.daemon_threads = True
        self.port = self.server.server_address[1]
        threading.Thread(target=self.server.serve_forever, args=(0.02,), daemon=True).start()

    def serve(self, path: str, data: bytes, status: int = 200, **headers: str) -> None:
        def answer(handler: BaseHTTPRequestHandler) -> None:
            handler.send_response(status)
            for name, value in headers.items():
                handler.send_header(name, value)
            handler.send_header("Content-Length", str(len(data)))
            handler.end_headers()
            handler.wfile.write(data)

        self.answers[path] = answer

    def drip(self, path: str, pause: float) -> None:
        def answer(handler: BaseHTTPRequestHandler) -> None:
            handler.send_response(200)
            handler.end_headers()
            try:
                while True:
                    handler.wfile.write(b"x" * 1000)
                    time.sleep(pause)
            except OSError:
                return

        self.answers[path] = answer


@pytest.fixture
def web() -> Iterator[Web]:
    running = Web()
    yield running
    running.server.shutdown()
    running.server.server_close()


def reach(web: Web, **changes: Any) -> dict[str, Any]:
    """Settings that let a test's server pass, and nothing else."""
    return {
        "source_https_hosts": ["*"],
        "outbound_allowed_networks": ["127.0.0.1/32"],
        "outbound_ports": [web.port, 443],
        **changes,
    }


def test_a_file_behind_an_address_becomes_a_data_set_and_its_query_is_shown_to_nobody(serve: Service, web: Web) -> None:
    data = jsonl(sums(8))
    web.serve("/pool.jsonl", data, ETag='"v1"')
    service = serve(**reach(web))
    url = f"http://127.0.0.1:{web.port}/pool.jsonl"
    digest = hashlib.sha256(data).hexdigest()
    dataset = add(service, {"type": "https", "url": f"{url}?signature=canary", "sha256": digest})
    assert (dataset["status"], dataset["digest"]["sha256"]) == ("ready", digest), dataset["error"]
    assert dataset["source"]["url"] == dataset["source"]["resolved"]["uri"] == url
    assert dataset["source"]["resolved"]["files"] == [
        {"name": "pool.jsonl", "bytes": len(data), "sha256": digest, "version": "v1"}
    ]
    shown = service.http.get(f"/v1/datasets/{dataset['id']}").text + service.http.get("/v1/datasets").text
    assert "canary" not in shown + service.http.get("/v1/events").text
    other = add(service, {"type": "https", "url": url, "sha256": "0" * 64})
    assert (other["status"], other["error"]["code"]) == ("invalid", "digest-mismatch")


@pytest.mark.parametrize(
    ("path", "code", "retryable"),
    [
        ("/gone", "source-not-found", False),
        ("/broken", "source-unreachable", True),
        ("/inside", "url-not-allowed", False),
        ("/endless", "download-limit", False),
        ("/packed", "download-limit", False),
        ("/page", "dataset-format-unknown", False),
    ],
)
def test_what_an_address_does_instead_is_said(serve: Service, web: Web, path: str, code: str, retryable: bool) -> None:
    web.serve("/gone", b"", 404)
    web.serve("/broken", b"", 502)
    web.serve("/inside", b"", 302, Location="http://10.0.0.1/")
    web.serve("/packed", b"x", **{"Content-Encoding": "gzip"})
    web.serve("/page", b"<html>not data</html>")
    web.drip("/endless", 0)
    service = serve(**reach(web, max_upload_bytes=200_000, max_attempts=2))
    error = add(service, {"type": "https", "url": f"http://127.0.0.1:{web.port}{path}"})["error"]
    assert (error["code"], error["retryable"]) == (code, retryable), error


def test_a_slow_stream_ends_when_its_time_is_over_and_at_a_wish(tmp_path: Path, web: Web) -> None:
    web.drip("/slow", 0.05)
    settings = Settings(_env_file=None, **reach(web))
    source = HttpsSource(type="https", url=f"http://127.0.0.1:{web.port}/slow")
    began = time.monotonic()
    with pytest.raises(ServiceError) as caught:
        fetch_https(source, tmp_path, settings, Meter(10**9, 0.6, lambda *_: None, lambda: False))
    assert caught.value.code == "download-limit"
    assert time.monotonic() - began < 50
    with pytest.raises(Stopped):
        fetch_https(source, tmp_path, settings, Meter(10**9, 60, lambda *_: None, lambda: True))


def test_a_name_that_changes_its_address_after_the_check_is_not_followed(tmp_path: Path, web: Web) -> None:
    """Row 45: the first answer is public, every later one is this machine; nothing ever reaches this machine."""
    web.serve("/x", b"{}")
    answers = iter([["93.184.215.14"]])
    guard = Guard(Policy(ports=frozenset({web.port})), lambda _name: next(answers, ["127.0.0.1"]))
    source = HttpsSource(type="https", url=f"https://rebind.example:{web.port}/x")
    assert guard.check(source.url).addresses == ("93.184.215.14",)
    with pytest.raises(ServiceError) as caught:
        fetch_https(source, tmp_path, Settings(_env_file=None), Meter(10**6, 5, lambda *_: None, lambda: False), guard)
    assert caught.value.code == "url-not-allowed"


def test_s3_objects_become_data_sets(serve: Service, monkeypatch: pytest.MonkeyPatch) -> None:
    import s3fs
    from moto.server import ThreadedMotoServer

    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    try:
        endpoint = "http://{}:{}".format(*server.get_host_and_port())
        bucket = s3fs.S3FileSystem(key="k", secret="s", endpoint_url=endpoint, skip_instance_cache=True)
        bucket.makedirs("pools", exist_ok=True)
        for name, rows in {"team/a.jsonl": 5, "team/b.jsonl": 6, "team/deep/c.jsonl": 7, "private/d.jsonl": 8}.items():
            bucket.pipe(f"pools/{name}", jsonl(sums(rows, rows)))
        bucket.pipe("pools/team/README.md", b"not data")
        settings: dict[str, Any] = {"source_s3_prefixes": ["pools/team"], "s3_endpoint": endpoint, "max_attempts": 2}
        service = serve(**settings, s3_key_id="k", s3_secret="canary-of-s3", s3_region="us-east-1")
        one = add(service, {"type": "s3", "url": "s3://pools/team/b.jsonl"})
        assert (one["status"], one["num_rows"]) == ("ready", 6), one["error"]
        assert one["source"]["resolved"]["files"][0]["version"]
        both = add(service, {"type": "s3", "url": "s3://pools/team/"})
        assert (both["status"], both["num_rows"]) == ("ready", 11), both["error"]
        assert [file["name"] for file in both["source"]["resolved"]["files"]] == ["team/a.jsonl", "team/b.jsonl"]
        assert refused(service, {"type": "s3", "url": "s3://pools/private/d.jsonl"})[1] == "source-not-allowed"
        none = add(service, {"type": "s3", "url": "s3://pools/team/none.jsonl"})
        assert none["error"]["code"] == "source-not-found"
        assert "canary-of-s3" not in service.http.get("/v1/datasets").text
    finally:
        server.stop()
    away = add(service, {"type": "s3", "url": "s3://pools/team/a.jsonl"})
    assert (away["error"]["code"], away["error"]["retryable"]) == ("source-unreachable", True)


def test_a_repeated_request_makes_one_data_set(tmp_path: Path, sqlite_url: str) -> None:
    root = tmp_path / "pools"
    root.mkdir()
    (root / "one.jsonl").write_bytes(jsonl(sums(3)))
    with InProcessService(sqlite_url, tmp_path / "more", source_roots=[root]) as other:
        body = {"source": {"type": "file", "path": "one.jsonl"}}
        headers = {"Idempotency-Key": "once"}
        first = other.http.post("/v1/datasets", json=body, headers=headers)
        second = other.http.post("/v1/datasets", json=body, headers=headers)
        assert first.json()["id"] == second.json()["id"]
        assert second.headers["Idempotency-Replayed"] == "true"
        changed = other.http.post("/v1/datasets", json={**body, "name": "x"}, headers=headers)
        assert changed.json()["code"] == "idempotency-key-reused"
