"""The page for people, as HTML; what only a browser can tell is in ``tests/e2e/page``."""

from __future__ import annotations

import hashlib
import re
from datetime import UTC, datetime, timedelta
from html.parser import HTMLParser

import pytest

from app.ui import forms, jobs, labels
from app.ui.statics import FOLDER
from tests.fixtures.service import InProcessService, jsonl, sums

NOON = datetime(2026, 11, 24, 12, tzinfo=UTC)
ATTACK = "<script>alert('x')</script>"


class Elements(HTMLParser):
    """Tags of a page with their attributes."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.found: list[tuple[str, dict[str, str | None]]] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found.append((tag, dict(attrs)))


@pytest.fixture
def finished(service: InProcessService) -> str:
    """A finished job whose every name and text tries to be markup."""
    rows = [
        {**row, "instruction": f"{ATTACK} {row['instruction']}", "domain": ATTACK if i % 2 else "b"}
        for i, row in enumerate(sums(24))
    ]
    dataset = service.push(jsonl(rows), name=ATTACK)
    job = service.submit(dataset["id"], name=ATTACK, metadata={ATTACK: ATTACK})
    service.drain()
    return str(job["id"])


def pages(service: InProcessService, job_id: str) -> dict[str, str]:
    found = {}
    for path in (
        "/ui",
        "/ui/datasets",
        f"/ui/jobs/{job_id}",
        f"/ui/jobs/{job_id}/live",
        "/ui/jobs/%3Cscript%3Ealert('x')",
        "/ui/nothing",
    ):
        response = service.http.get(path)
        assert response.headers["content-type"].startswith("text/html"), path
        found[path] = response.text
    return found


def test_the_settings_of_a_job_are_shown_with_the_preset_that_filled_them_in(service: InProcessService) -> None:
    dataset = service.push(jsonl(sums(8)))
    body = {"dataset_id": dataset["id"], "budget": {"tokens": 5000}, "preset": "paper"}
    job = service.http.post("/v1/jobs", json=body).json()
    shown = service.http.get(f"/ui/jobs/{job['id']}")
    assert shown.status_code == 200
    for line in ("<dt>preset</dt><dd><code>&#34;paper&#34;", "<dt>selection.budget</dt>", "SPICE, 5,000 tokens"):
        assert line in shown.text, line
    clone = service.http.get("/ui/new", params={"like": job["id"]})
    assert 'value="5000"' in clone.text


def test_nothing_of_a_data_set_or_a_client_becomes_markup(service: InProcessService, finished: str) -> None:
    for path, text in pages(service, finished).items():
        assert "<script>" not in text, path
        for tag, attributes in Elements(text).found:
            assert not [name for name in attributes if name.startswith("on") or name == "style"], (path, tag)
            if tag == "script":
                assert str(attributes["src"]).startswith("/ui/static/"), path
    assert "&lt;script&gt;alert" in pages(service, finished)["/ui"]


def test_pages_allow_no_inline_script_and_no_other_host(service: InProcessService, finished: str) -> None:
    for path, text in pages(service, finished).items():
        response = service.http.get(path)
        policy = response.headers["content-security-policy"]
        assert "default-src 'none'" in policy
        assert "unsafe" not in policy
        assert response.headers["x-content-type-options"] == "nosniff"
        for _, attributes in Elements(text).found:
            for name in ("src", "href", "action"):
                assert not str(attributes.get(name) or "/").startswith(("http:", "https:", "//")), (path, attributes)


def test_the_live_part_asks_again_until_the_job_has_ended(service: InProcessService) -> None:
    dataset = service.push(jsonl(sums(20)))
    job = service.submit(dataset["id"])
    address = f"/ui/jobs/{job['id']}/live"
    waiting = service.http.get(address).text
    assert f'hx-get="{address}"' in waiting
    assert 'aria-current="step"' in waiting
    assert "Waiting for a worker, number 1 in the queue" in waiting
    assert "Next of this project" in waiting
    service.drain()
    done = service.http.get(address).text
    assert 'hx-trigger="every' not in done, "nothing moves any more"
    assert "Done: 3 of 20 rows selected" in done


def test_jobs_are_listed_by_status_and_in_pages(service: InProcessService) -> None:
    dataset = service.push(jsonl(sums(20)))
    made = [service.submit(dataset["id"], name=f"number {i}")["id"] for i in range(23)]
    service.http.post(f"/v1/jobs/{made[0]}/cancel")
    first = service.http.get("/ui").text
    older = re.search(r'rel="next" href="([^"]+)"', first)
    assert older is not None
    second = service.http.get(older[1].replace("&amp;", "&")).text
    shown = [re.findall(r'href="/ui/jobs/(\w+)"', text) for text in (first, second)]
    assert [*shown[0], *shown[1]] == list(reversed(made))
    assert 'rel="next"' not in second
    cancelled = service.http.get("/ui", params={"status": "cancelled"}).text
    assert re.findall(r'href="/ui/jobs/(\w+)"', cancelled) == [made[0]]
    assert service.http.get("/ui", params={"status": "nonsense"}).status_code == 200
    assert service.http.get("/ui", params={"after": "nonsense"}).status_code == 422


def _jobs_in(text: str) -> list[str]:
    """Jobs listed, in order."""
    return re.findall(r'<a href="/ui/jobs/(\w+)"', text)


def test_jobs_are_looked_for_by_data_set_and_state_through_pages_and_renewals(
    any_service: InProcessService, monkeypatch: pytest.MonkeyPatch
) -> None:
    http = any_service.http
    first = any_service.push(jsonl(sums(20)), name=ATTACK)["id"]
    other = any_service.push(jsonl(sums(9)), name="other")["id"]
    made = [any_service.submit(first)["id"] for _ in range(3)]
    on_other = any_service.submit(other)["id"]
    for job in (made[0], made[1], on_other):
        http.post(f"/v1/jobs/{job}/cancel")
    monkeypatch.setattr(jobs, "PAGE_SIZE", 2)
    listed = http.get("/ui/datasets").text
    assert re.findall(r'<a href="(/ui\?dataset_id=\w+)">(\d)', listed) == [
        (f"/ui?dataset_id={other}", "1"),
        (f"/ui?dataset_id={first}", "3"),
    ]
    shown = http.get(f"/ui?dataset_id={first}").text
    assert f'hx-get="/ui?dataset_id={first}"' in shown, "what renews itself stays narrowed down"
    assert f'<option value="{first}" selected>' in shown
    assert f'href="/ui?status=cancelled&amp;dataset_id={first}"' in shown
    older = re.search(r'rel="next" href="([^"]+)"', shown)
    assert older is not None
    second = http.get(older[1].replace("&amp;", "&")).text
    assert [*_jobs_in(shown), *_jobs_in(second)] == made[::-1]
    assert f'href="/ui?dataset_id={first}">Newest' in second
    both = http.get("/ui", params={"status": "cancelled", "dataset_id": first}).text
    assert _jobs_in(both) == [made[1], made[0]]
    assert '<input type="hidden" name="status" value="cancelled">' in both, "the form keeps the state"
    assert _jobs_in(http.get("/ui?status=&dataset_id=").text) == [on_other, made[2]], "an empty form narrows nothing"
    nothing = http.get("/ui", params={"status": "failed", "dataset_id": other}).text
    assert "No job on this data set is failed." in nothing
    unknown = http.get("/ui", params={"dataset_id": '"><script>'}).text
    assert "No job on this data set." in unknown
    assert "<script>" not in unknown + shown
    assert http.get("/ui", params={"dataset_id": "x" * 41}).status_code == 422


def test_an_old_data_set_is_still_offered_where_it_was_asked_for(
    service: InProcessService, monkeypatch: pytest.MonkeyPatch
) -> None:
    old, new = (service.push(jsonl(sums(9)), name=name)["id"] for name in ("old", "new"))
    monkeypatch.setattr(jobs, "MOST_DATASETS", 1)
    monkeypatch.setattr(forms, "MOST_DATASETS", 1)
    for path in ("/ui", "/ui/new"):
        assert f'value="{old}"' not in service.http.get(path).text
        found = service.http.get(f"{path}?dataset_id={old}").text
        assert f'<option value="{old}" selected>old' in found
        assert f'<option value="{new}">new' in found
    assert service.http.get("/ui/new?dataset_id=ds_nothing").status_code == 200


def test_data_sets_are_listed_with_their_jobs_and_in_pages(
    any_service: InProcessService, monkeypatch: pytest.MonkeyPatch
) -> None:
    http = any_service.http
    empty = http.get("/ui/datasets").text
    assert "No data set yet" in empty
    assert "<table" not in empty
    assert http.post("/v1/datasets", files={"file": ("plain.jsonl", jsonl(sums(9)))}).status_code == 202
    assert 'hx-get="/ui/datasets"' in http.get("/ui/datasets").text, "it is being checked"
    rows = [*sums(9), {"instruction": "empty", "output": ""}]
    used = any_service.push(jsonl(rows), name=ATTACK)["id"]
    broken = any_service.push(b'{"text": \n', name="broken")["id"]
    for _ in range(2):
        any_service.submit(used)
    monkeypatch.setattr(jobs, "PAGE_SIZE", 2)
    first = http.get("/ui/datasets").text
    assert "hx-get" not in first, "nothing is being checked any more"
    older = re.search(r'rel="next" href="([^"]+)"', first)
    assert older is not None
    second = http.get(older[1].replace("&amp;", "&")).text
    assert 'rel="next"' not in second
    listed = [_listed(text) for text in (first, second)]
    plain = http.get("/v1/datasets").json()["data"][-1]["id"]
    assert [list(entries) for entries in listed] == [[broken[-8:], used[-8:]], [plain[-8:]]]
    assert [listed[0][used[-8:]], listed[1][plain[-8:]]] == [["9 of 10", "2"], ["9", "0"]]
    assert '<span class="small reason">' in first, "why it cannot be used"
    assert "<script>" not in first
    assert f'href="/ui/new?dataset_id={used}"' in first
    assert f'<option value="{used}" selected' in http.get(f"/ui/new?dataset_id={used}").text
    assert f"/ui/new?dataset_id={broken}" not in first, "nothing can be selected from it"
    assert http.get("/ui/datasets", params={"after": "nonsense"}).status_code == 422


def _listed(text: str) -> dict[str, list[str]]:
    """Usable rows and jobs as shown, by the end of the data set's id."""
    cell = re.compile(r'<td data-label="(?:Usable rows|Jobs)"[^>]*>(.*?)</td>', re.DOTALL)
    rows = re.findall(r"<code>\N{HORIZONTAL ELLIPSIS}(\w+)</code>(.*?)</tr>", text, re.DOTALL)
    return {
        end: [re.sub(r'<span class="unseen">.*?</span>|<[^>]+>', "", found) for found in cell.findall(rest)]
        for end, rest in rows
    }


def test_a_failed_job_says_why(service: InProcessService) -> None:
    dataset = service.push(jsonl(sums(20)))
    job = service.submit(dataset["id"])
    for path in (service.settings.data_dir).rglob("*"):
        if path.is_file() and path.suffix != ".db":
            path.write_bytes(b"rotten")
    service.drain()
    text = service.http.get(f"/ui/jobs/{job['id']}").text
    assert "A stored file is corrupt" in text
    assert "artifact-corrupt" in text


def test_errors_are_pages_for_people_and_problems_for_programs(service: InProcessService) -> None:
    for path, accept, kind in (
        ("/ui/nothing", "*/*", "text/html"),
        ("/ui/jobs/job_0", "application/json", "text/html"),
        ("/nothing", "text/html,*/*;q=0.8", "text/html"),
        ("/nothing", "*/*", "application/problem+json"),
        ("/v1/jobs/job_" + "0" * 26, "text/html", "application/problem+json"),
    ):
        response = service.http.get(path, headers={"accept": accept})
        assert response.status_code == 404
        assert response.headers["content-type"].startswith(kind), path
        assert response.headers["x-request-id"] in response.text
    assert service.http.post("/ui").headers["content-type"].startswith("text/html")


def test_files_are_saved_and_never_shown(service: InProcessService, finished: str) -> None:
    response = service.http.get(f"/ui/jobs/{finished}/files/selected.jsonl")
    assert response.headers["content-disposition"].startswith("attachment")
    assert "default-src 'none'" in response.headers["content-security-policy"]
    assert response.content == service.http.get(f"/v1/jobs/{finished}/files/selected.jsonl").content


def test_vendored_files_are_the_ones_that_are_written_down(service: InProcessService) -> None:
    rows = re.findall(r"^\| `([^`]+)` \|.*`([0-9a-f]{64})` \|$", (FOLDER / "VENDORED.md").read_text(), re.MULTILINE)
    assert len(rows) == 5
    for name, digest in rows:
        assert hashlib.sha256((FOLDER / name).read_bytes()).hexdigest() == digest
    own = {"page.css", "page.js", "upload.js", "sha256.js", "reference.js", "icon.svg"}
    assert {path.name for path in FOLDER.iterdir() if path.suffix in {".js", ".css", ".svg"}} == own | {
        name for name, _ in rows
    }
    sent = service.http.get("/ui/static/page.js")
    again = service.http.get("/ui/static/page.js", headers={"If-None-Match": sent.headers["etag"]})
    assert (sent.status_code, again.status_code) == (200, 304)
    assert service.http.get("/ui/static/..%2Fpages.py").status_code == 404


@pytest.mark.parametrize(
    ("shown", "expected"),
    [
        (labels.number(1234567), "1,234,567"),
        (labels.number(0.012345), "0.0123"),
        (labels.number(0.0000123), "1.2e-05"),
        (labels.number(float("nan")), "\N{EN DASH}"),
        (labels.percent(1, 3), "33.3 %"),
        (labels.percent(1, 3000), "0.03 %"),
        (labels.percent(1, 0), "\N{EN DASH}"),
        (labels.size(999), "999 B"),
        (labels.size(1_234_567), "1.23 MB"),
        (labels.duration(3.21), "3.2 s"),
        (labels.duration(7500), "2 h 5 min"),
        (labels.budget({"tokens": 5000}), "5,000 tokens"),
        (labels.phase("something_new"), "Something new"),
        (labels.until(NOON + timedelta(seconds=42), NOON), "in about 42 s"),
        (labels.until(NOON - timedelta(seconds=42), NOON), "any moment"),
        (labels.ago(NOON, NOON + timedelta(hours=3)), "3 h 0 min ago"),
    ],
    ids=lambda value: str(value).encode("ascii", "replace").decode(),
)
def test_numbers_read_well(shown: str, expected: str) -> None:
    assert shown == expected
