"""Files of a result: conditions, ranges, the first k picks, signed links."""

from __future__ import annotations

import hashlib
import io
import json
import os
import stat
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from app.services.access.keys import KeyService
from app.services.access.signed_links import SECRET_FILE, LinkError, LinkSigner, own_secret
from app.services.results.truncated import CUTTABLE, GRACE_SECONDS, TruncatedResults
from app.settings import Settings
from app.storage import ArtifactStore
from spice_select.cli import main
from spice_select.client import Client
from tests.fixtures.service import InProcessService, finished_behind_keys, jsonl, sums


@dataclass
class Finished:
    service: InProcessService
    job: dict[str, Any]
    secret: str

    @property
    def headers(self) -> dict[str, str]:
        return {"Authorization": f"Bearer {self.secret}"}

    def get(self, name: str, method: str = "GET", **kwargs: Any) -> httpx.Response:
        headers = {**self.headers, **kwargs.pop("headers", {})}
        url = f"/v1/jobs/{self.job['id']}/files/{name}"
        return self.service.http.request(method, url, headers=headers, **kwargs)

    def link(self, name: str, **body: Any) -> httpx.Response:
        url = f"/v1/jobs/{self.job['id']}/files/{name}/links"
        return self.service.http.post(url, json=body, headers=self.headers)

    def submit(self, **body: Any) -> dict[str, Any]:
        body = {"dataset_id": self.job["dataset_id"], "gradients": {"sketch_dim": 4}, **body}
        answer = self.service.http.post("/v1/jobs", json=body, headers=self.headers)
        assert answer.status_code == 202, answer.text
        self.service.drain()
        found: dict[str, Any] = answer.json()
        return found


@pytest.fixture(scope="module")
def finished(_migrated_sqlite: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Finished]:
    folder = tmp_path_factory.mktemp("files")
    with finished_behind_keys(_migrated_sqlite, folder, rows=24, count=9) as (service, job, secret):
        yield Finished(service, job, secret)


@pytest.mark.parametrize("name", ["selected.parquet", "selected.jsonl"])
def test_ranges_and_conditions_are_as_the_standard_has_them(finished: Finished, name: str) -> None:
    whole = finished.get(name)
    etag, size = whole.headers["ETag"], len(whole.content)
    assert etag == f'"{hashlib.sha256(whole.content).hexdigest()}"'

    def asked(**headers: str) -> httpx.Response:
        return finished.get(name, headers={key.replace("_", "-"): value for key, value in headers.items()})

    for given, first, last in [
        ("10-19", 10, 19),
        ("-7", size - 7, size - 1),
        (f"{size - 3}-{size + 99}", size - 3, size - 1),
    ]:
        part = asked(Range=f"bytes={given}")
        assert part.status_code == 206
        assert part.content == whole.content[first : last + 1]
        assert part.headers["Content-Range"] == f"bytes {first}-{last}/{size}"
        assert part.headers["ETag"] == etag
    assert asked(Range="bytes=0-0,5-6").headers["Content-Type"].startswith("multipart/byteranges")
    assert asked(Range=f"bytes=0-3,{size + 5}-").content == whole.content[:4], "the part that exists"
    for ignored in ("lines=1-2", "bytes=x", "bytes=9-5", "bytes=", "bytes=1-2,3-x", "bytes=" + ",".join(["0-1"] * 21)):
        answer = asked(Range=ignored)
        assert (answer.status_code, answer.content) == (200, whole.content), ignored
    outside = asked(Range=f"bytes={size}-")
    assert outside.status_code == 416
    assert outside.json()["code"] == "range-not-satisfiable"
    assert outside.headers["Content-Range"] == f"bytes */{size}"
    assert asked(Range="bytes=0-1", If_Range=etag).status_code == 206
    for other in ('"other"', f"W/{etag}", "Tue, 24 Nov 2026 00:00:00 GMT"):
        assert asked(Range="bytes=0-1", If_Range=other).status_code == 200, other
    for known in (etag, f"W/{etag}", f'"x", {etag}', "*"):
        fresh = asked(If_None_Match=known)
        assert (fresh.status_code, fresh.content, fresh.headers["ETag"]) == (304, b"", etag), known
    assert asked(If_None_Match='"x"').status_code == 200
    assert asked(If_Match=etag).status_code == 200
    stale = asked(If_Match='"x"')
    assert (stale.status_code, stale.json()["code"]) == (412, "precondition-failed")
    head = finished.get(name, "HEAD", headers={"Range": "bytes=0-1"})
    assert (head.status_code, head.content, head.headers["Content-Length"]) == (200, b"", str(size))


@pytest.mark.parametrize("k", [1, 4, 9])
def test_the_first_k_picks_are_what_a_smaller_budget_chooses(finished: Finished, k: int) -> None:
    smaller = finished.submit(budget={"count": k})
    for name in CUTTABLE:
        cut = finished.get(name, params={"k": k})
        assert cut.status_code == 200, cut.text
        assert cut.headers["ETag"] == f'"{hashlib.sha256(cut.content).hexdigest()}"'
        assert cut.headers["Content-Length"] == str(len(cut.content))
        url = f"/v1/jobs/{smaller['id']}/files/{name}"
        twin = finished.service.http.get(url, headers=finished.headers).content
        if name.endswith(".jsonl"):
            assert cut.content == twin
            assert len(cut.content.splitlines()) == k
        else:
            table, other = (pq.read_table(io.BytesIO(data)) for data in (cut.content, twin))
            assert table.num_rows == k
            assert table.equals(other)
        part = finished.get(name, params={"k": k}, headers={"Range": "bytes=3-8"})
        assert (part.status_code, part.content) == (206, cut.content[3:9])
        head = finished.get(name, "HEAD", params={"k": k})
        assert head.headers["ETag"] == cut.headers["ETag"]
        same = finished.get(name, params={"k": k}, headers={"If-None-Match": cut.headers["ETag"]})
        assert same.status_code == 304
    whole = finished.get("selected.jsonl").headers["ETag"]
    assert (finished.get("selected.jsonl", params={"k": k}).headers["ETag"] == whole) is (k == 9)


def test_a_cut_that_means_nothing_is_refused(finished: Finished) -> None:
    def code(job: dict[str, Any], name: str, k: object) -> tuple[int, str]:
        url = f"/v1/jobs/{job['id']}/files/{name}"
        answer = finished.service.http.get(url, params={"k": str(k)}, headers=finished.headers)
        return answer.status_code, answer.json()["code"]

    for k in (0, -1, 10, "x", 2**31):
        assert code(finished.job, "selected.jsonl", k) == (422, "validation-error"), k
    for name in ("README.md", "SHA256SUMS", "provenance.intoto.jsonl"):
        assert code(finished.job, name, 2) == (422, "validation-error")
    for body in (
        {"budget": {"count": 6}, "selection": {"scope": {"kind": "windows", "size": 12}}},
        {"budget": {"count": 6}, "selection": {"scope": {"kind": "partitioned", "parts": 2}}},
        {"budget": {"tokens": 400}},
        {"budget": {"count": 6}, "selection": {"quotas": {"column": "output", "floors": {sums(1)[0]["output"]: 1}}}},
    ):
        assert code(finished.submit(**body), "selected.jsonl", 2) == (422, "prefix-undefined"), body


def test_a_cut_is_made_once_and_the_oldest_is_dropped(tmp_path: Path) -> None:
    store = ArtifactStore(tmp_path)
    source = tmp_path / "lines"
    source.write_bytes(b"".join(b"%03d\n" % i for i in range(100)))
    prefixes = TruncatedResults(store, limit=100)
    first = prefixes.cut("proj", source, "aa", 10, parquet=False)
    assert first.read_bytes() == source.read_bytes()[:40]
    made = first.stat().st_ino
    assert prefixes.cut("proj", source, "aa", 10, parquet=False).stat().st_ino == made
    long_ago = time.time() - GRACE_SECONDS - 5
    os.utime(first, (long_ago, long_ago))
    second = prefixes.cut("proj", source, "aa", 20, parquet=False)
    assert not first.exists(), "120 bytes are over the limit of 100"
    assert second.exists(), "in use: never dropped at once"


def test_cutting_holds_little_in_memory(tmp_path: Path) -> None:
    whole = tmp_path / "whole.parquet"
    text = "x" * 2000
    schema = pa.schema([("n", pa.int64()), ("text", pa.string())])
    with pq.ParquetWriter(whole, schema) as writer:
        for start in range(0, 40_000, 1000):
            rows = {"n": list(range(start, start + 1000)), "text": [f"{n}{text}" for n in range(start, start + 1000)]}
            writer.write_table(pa.table(rows, schema=schema))
    before, peak = pa.total_allocated_bytes(), 0
    done = threading.Event()

    def watch() -> None:
        nonlocal peak
        while not done.is_set():
            peak = max(peak, pa.total_allocated_bytes() - before)
            time.sleep(0.001)

    watcher = threading.Thread(target=watch)
    watcher.start()
    cut = TruncatedResults(ArtifactStore(tmp_path), 2**30).cut("proj", whole, "bb", 39_500, parquet=True)
    done.set()
    watcher.join()
    table = pq.read_table(cut, columns=["n"])
    assert table.column("n").to_pylist() == list(range(39_500))
    assert peak < 30e6, f"{peak / 1e6:.0f} MB for 80 MB of rows"


def test_a_link_opens_its_file_and_nothing_else(finished: Finished) -> None:
    http = finished.service.http
    made = finished.link("selected.parquet", expires_in_seconds=600, k=4)
    assert made.status_code == 201, made.text
    link = made.json()
    assert made.headers["Location"] == link["url"]
    assert made.headers["Cache-Control"] == "no-store"
    assert link["url"].endswith("/selected.parquet")
    opened = http.get(link["url"])
    assert opened.status_code == 200
    assert hashlib.sha256(opened.content).hexdigest() == link["digest"]["sha256"]
    assert opened.content == finished.get("selected.parquet", params={"k": 4}).content
    assert http.get(link["url"], headers={"Range": "bytes=0-3"}).content == b"PAR1"
    assert http.head(link["url"]).headers["Content-Length"] == str(link["bytes"])
    assert http.get(link["url"], params={"k": 1}).content == opened.content, "k is part of what was signed"

    token = link["url"].split("/")[-2]
    payload, _, signature = token.partition(".")
    flipped = ("B" if signature[0] == "A" else "A") + signature[1:]
    for path in (
        f"{token}/selected.jsonl",
        f"{payload}.{flipped}/selected.parquet",
        f"{payload[:-1]}.{signature}/selected.parquet",
        "x.y/selected.parquet",
    ):
        refused = http.get(f"/v1/links/{path}")
        assert (refused.status_code, refused.json()["code"]) == (403, "link-invalid"), path
    for path in ("x/selected.parquet", "é.%00/selected.parquet", f"{payload}/selected.parquet"):
        assert http.get(f"/v1/links/{path}").status_code == 422, path
    assert http.get(f"/v1/jobs/{finished.job['id']}/files/selected.parquet").status_code == 401


def test_a_k_that_means_nothing_is_named_where_it_was_said(finished: Finished) -> None:
    for name, k in (("selected.jsonl", 10), ("README.md", 1)):
        assert finished.link(name, k=k).json()["errors"][0]["pointer"] == "#/k"
        assert finished.get(name, params={"k": k}).json()["errors"][0]["parameter"] == "k"
    url = finished.link("selected.jsonl").json()["url"]
    assert finished.service.http.get(url, params={"utm_source": "mail"}).status_code == 200, (
        "they go through many hands"
    )


def test_a_link_is_made_only_for_what_its_maker_may_see(finished: Finished) -> None:
    keys = KeyService(finished.service.runner.database)
    other = keys.create(keys.create_project("links").id, "other")[1]
    url = f"/v1/jobs/{finished.job['id']}/files/selected.parquet/links"
    post = finished.service.http.post
    assert post(url, json={}, headers={"Authorization": f"Bearer {other}"}).status_code == 404
    assert post(url, json={}).status_code == 401
    assert finished.link("nothing").status_code == 404
    assert finished.link("selected.parquet", k=100).status_code == 422
    assert finished.link("selected.parquet", expires_in_seconds=0).status_code == 422
    longest = finished.link("selected.parquet", expires_in_seconds=366 * 86400).json()["expires_at"]
    limit = time.time() + finished.service.settings.link_seconds
    assert longest <= time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(limit + 1))


def test_a_link_expires(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    signer = LinkSigner(Settings(data_dir=tmp_path, link_seconds=50))
    token, link = signer.sign("proj", "job", "a.parquet", None, 100)
    assert signer.open(token, "a.parquet") == link
    now = time.time()
    monkeypatch.setattr(time, "time", lambda: now + 52)
    with pytest.raises(LinkError, match="expired"):
        signer.open(token, "a.parquet")


def test_replicas_on_one_folder_share_a_secret_and_another_secret_ends_every_link(tmp_path: Path) -> None:
    found: list[bytes] = []
    threads = [threading.Thread(target=lambda: found.append(own_secret(tmp_path))) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(set(found)) == 1
    assert len(found[0]) == 64
    assert stat.S_IMODE((tmp_path / SECRET_FILE).stat().st_mode) == 0o600
    assert [path.name for path in tmp_path.iterdir()] == [SECRET_FILE]
    token, _ = LinkSigner(Settings(data_dir=tmp_path)).sign("proj", "job", "a", None, 60)
    assert LinkSigner(Settings(data_dir=tmp_path)).open(token, "a").job_id == "job"
    with pytest.raises(LinkError):
        LinkSigner(Settings(data_dir=tmp_path, link_secret="another")).open(token, "a")


def test_the_client_makes_links(finished: Finished) -> None:
    address = f"http://127.0.0.1:{finished.service.port}"
    with Client(address, api_key=finished.secret) as spice:
        link = spice.jobs.link(finished.job["id"], "ranking.parquet", expires_in_seconds=60, k=3)
        assert spice.jobs.link(finished.job["id"]).name == "selected.parquet"
    assert link.digest is not None
    assert hashlib.sha256(httpx.get(link.url).content).hexdigest() == link.digest.sha256
    assert (link.k, link.name) == (3, "ranking.parquet")
    assert 50 < link.expires_at.timestamp() - time.time() <= 60


def test_the_command_prints_a_link(
    finished: Finished, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("SPICE_API_URL", f"http://127.0.0.1:{finished.service.port}")
    monkeypatch.setenv("SPICE_API_KEY", finished.secret)
    with pytest.raises(SystemExit) as ended:
        main(["jobs", "link", finished.job["id"], "selected.jsonl", "-k", "2"])
    assert ended.value.code == 0
    (url,) = capsys.readouterr().out.split()
    assert len(httpx.get(url).content.splitlines()) == 2


def test_selected_rows_can_be_read_as_conversations(service: InProcessService) -> None:
    dataset = service.push(jsonl(sums(8)))
    job = service.submit(dataset["id"], budget={"count": 3})
    service.drain()
    address = f"/v1/jobs/{job['id']}/files/selected.jsonl"
    rows = [json.loads(line) for line in service.http.get(address).text.splitlines()]
    answer = service.http.get(f"{address}?form=messages")
    wanted = [
        {
            "messages": [
                {"role": "user", "content": row["instruction"]},
                {"role": "assistant", "content": row["output"]},
            ]
        }
        for row in rows
    ]
    assert [json.loads(line) for line in answer.text.splitlines()] == wanted
    assert answer.headers["ETag"] == f'"{hashlib.sha256(answer.content).hexdigest()}"'
    first = service.http.get(f"{address}?form=messages&k=1")
    assert [json.loads(line) for line in first.text.splitlines()] == wanted[:1]
    refused = service.http.get(f"/v1/jobs/{job['id']}/files/ranking.parquet?form=messages")
    assert (refused.status_code, refused.json()["errors"][0]["parameter"]) == (422, "form")
    assert service.http.get(f"{address}?form=alpaca").status_code == 422
