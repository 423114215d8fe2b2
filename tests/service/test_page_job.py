"""The page of a finished job: what was selected, page by page and by target, and what a person may do with it."""

from __future__ import annotations

import hashlib
import io
import json
import re
import shutil
import zipfile
from html import unescape
from pathlib import Path
from typing import Any

import pytest

from app.ui import row_page
from tests.fixtures.service import InProcessService, jsonl, sums
from tests.service.test_page_submit import errors

WORD = "Z\u00fcrich"


@pytest.fixture(scope="module")
def shown(_migrated_sqlite: Path, tmp_path_factory: pytest.TempPathFactory) -> Any:
    """A service with a job of 45 picks for two targets; every fifth row has a word of its own, some of it escaped."""
    folder = tmp_path_factory.mktemp("job")
    (folder / "spice.db").write_bytes(_migrated_sqlite.read_bytes())
    rows = [{**row, "domain": "ab"[i % 2]} for i, row in enumerate(sums(110))]
    for row in rows[::5]:
        row["instruction"] += f" In {WORD}."
    with InProcessService(f"sqlite:///{folder / 'spice.db'}", folder / "data") as service:
        data = "".join(json.dumps(row) + "\n" for row in rows).encode()
        targets = [{"name": name, "column": "domain", "value": name, "rows": 4} for name in "ab"]
        job = service.submit(service.push(data)["id"], budget={"count": 45}, targets=targets, name="mine")
        service.drain()
        assert service.job(job["id"])["status"] == "succeeded"
        yield service, job["id"]


def picks(text: str) -> list[tuple[int, int]]:
    """Rank and row of every pick of the table."""
    table = text[text.index('id="picks"') :]
    found = re.findall(r'data-label="Pick">([\d,]+)</td>.*?Row ([\d,]+)', table, re.DOTALL)
    return [(int(rank.replace(",", "")), int(row.replace(",", ""))) for rank, row in found]


def selection(service: InProcessService, job_id: str) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = service.http.get(f"/v1/jobs/{job_id}/selection?limit=100").json()["data"]
    return found


def test_all_picks_are_reached_page_by_page(shown: tuple[InProcessService, str]) -> None:
    service, job_id = shown
    address, seen = f"/ui/jobs/{job_id}", []
    for _ in range(5):
        text = service.http.get(address).text
        seen.append(picks(text))
        following = re.search(r'rel="next" href="([^"#]+)#picks"', text)
        if following is None:
            break
        address = unescape(following[1])
    assert [len(part) for part in seen] == [20, 20, 5]
    expected = [(pick["rank"], pick["source_row"]) for pick in selection(service, job_id)]
    assert [pick for part in seen for pick in part] == expected
    assert ">First</a>" in text
    assert service.http.get(f"/ui/jobs/{job_id}?after=x").status_code == 422


def test_picks_are_found_by_target_and_words(shown: tuple[InProcessService, str]) -> None:
    service, job_id = shown
    chosen = selection(service, job_id)
    for target in "ab":
        text = service.http.get(f"/ui/jobs/{job_id}", params={"target": target}).text
        mine = [(pick["rank"], pick["source_row"]) for pick in chosen if pick["target"] == target]
        assert picks(text) == mine[:20]
        assert f"<strong>{len(mine)} <small>rows" in text, "how many were selected for it"
        assert f"target={target}&amp;after=" in text
    with_word = [(pick["rank"], pick["source_row"]) for pick in chosen if pick["source_row"] % 5 == 0]
    assert with_word
    assert picks(service.http.get(f"/ui/jobs/{job_id}", params={"words": WORD.upper()}).text) == with_word[:20]
    both = {"words": WORD, "target": "a"}
    wanted = [pick["rank"] for pick in chosen if pick["source_row"] % 5 == 0 and pick["target"] == "a"]
    assert [rank for rank, _ in picks(service.http.get(f"/ui/jobs/{job_id}", params=both).text)] == wanted[:20]
    nothing = service.http.get(f"/ui/jobs/{job_id}", params={"words": '"><script>'}).text
    assert "No selected row is like this" in nothing
    assert "<script>" not in nothing


def test_the_text_of_a_pick_is_its_line_of_the_file(shown: tuple[InProcessService, str]) -> None:
    service, job_id = shown
    lines = service.http.get(f"/v1/jobs/{job_id}/files/selected.jsonl").text.splitlines()
    text = unescape(service.http.get(f"/ui/jobs/{job_id}?after=20").text)
    turns = re.findall(r'<span class="role">(\w+)</span><p>([^<]*)</p>', text)
    records = [json.loads(line) for line in lines[20:40]]
    expected = [turn for r in records for turn in (("user", r["instruction"]), ("assistant", r["output"].strip()))]
    assert turns == expected


def test_the_result_comes_first_and_what_deletes_comes_last(shown: tuple[InProcessService, str]) -> None:
    service, job_id = shown
    text = service.http.get(f"/ui/jobs/{job_id}").text
    places = [
        text.index(part)
        for part in (
            "45 of 110 rows",
            'class="tiles"',
            'selected.jsonl" download',
            'id="picks"',
            'id="clone"',
            'id="delete"',
        )
    ]
    assert places == sorted(places)
    assert "Not compared" in text, "nothing is claimed that was not measured"
    assert "of the best choice" not in text
    assert "That is about utility alone" in text
    curves = service.http.get(f"/ui/jobs/{job_id}/curves").text
    assert curves.count("data-plot=") == 3
    assert "job.succeeded" in service.http.get(f"/ui/jobs/{job_id}/history").text


def test_name_and_tags_are_changed_or_said_to_be_wrong(service: InProcessService) -> None:
    job = service.submit(service.push(jsonl(sums(9)))["id"], name="old", metadata={"team": "x", "gone": "y"})
    service.http.post(f"/v1/jobs/{job['id']}/cancel")
    origin = {"Origin": f"http://127.0.0.1:{service.port}"}
    address = f"/ui/jobs/{job['id']}/edit"
    shown = service.http.get(f"/ui/jobs/{job['id']}").text
    assert "team = x\ngone = y</textarea>" in shown
    assert "Try again" in shown

    def send(**fields: str) -> Any:
        return service.http.post(address, data={"form": "name-and-tags", **fields}, headers=origin)

    assert send(name=" new ", tags="team = a = b\r\nfresh=").headers["location"] == f"/ui/jobs/{job['id']}"
    found = service.job(job["id"])
    assert (found["name"], found["metadata"]) == ("new", {"team": "a = b", "fresh": ""})
    wrong = send(name="x" * 201, tags="nothing")
    assert wrong.status_code == 422
    assert "200" in errors(wrong.text)["name"]
    assert "name = value" in errors(wrong.text)["tags"]
    assert ">\nnothing</textarea>" in wrong.text
    many = send(name="", tags="\n".join(f"t{i} = 1" for i in range(17)))
    assert "16" in errors(many.text)["tags"]
    assert service.job(job["id"]) == found
    cut = {"Content-Type": "multipart/form-data; boundary=x", **origin}
    for answer in (
        service.http.post(address, content=b"--x\r\n", headers=cut),
        service.http.post(address, json={"name": "x"}, headers=origin),
        service.http.post(address, data={"strange": "x"}, headers=origin),
    ):
        assert answer.status_code in {400, 415, 422}, answer.text
    assert service.job(job["id"]) == found, "nothing was emptied by what is not this form"
    assert send(name="", tags="").status_code == 303
    assert (service.job(job["id"])["name"], service.job(job["id"])["metadata"]) == (None, {})
    assert service.http.post(address, data={"name": "x"}).status_code == 403


def test_two_jobs_stand_side_by_side(shown: tuple[InProcessService, str]) -> None:
    service, job_id = shown
    dataset = service.job(job_id)["dataset_id"]
    other = service.submit(dataset, budget={"count": 10}, name="<b>few</b>")["id"]
    service.drain()
    address = f"/ui/jobs/{job_id}/compare"
    form = service.http.get(address).text
    assert f'<option value="{other}">' in form
    assert f'<option value="{job_id}"' not in form
    text = service.http.get(address, params={"other": other}).text
    rows = [{pick["source_row"] for pick in selection(service, each)} for each in (job_id, other)]
    both = len(rows[0] & rows[1])
    assert f">{both}, {100 * both / 45:.3g} %<" in text
    assert f">{both}, {100 * both / 10:.3g} %<" in text
    for number, chosen in enumerate(rows):
        share = 100 * sum(row % 2 == 0 for row in chosen) / len(chosen)
        assert f"{share:.3g} %" in text[text.index(">domain</h2>") :], number
    assert "<b>" not in text
    assert service.http.get(address, params={"other": "job_nothing"}).status_code == 404


def test_the_page_lists_and_gives_every_file_of_the_result(shown: tuple[InProcessService, str]) -> None:
    service, job_id = shown
    listed = [file["name"] for file in service.http.get(f"/v1/jobs/{job_id}/files").json()["data"]]
    text = service.http.get(f"/ui/jobs/{job_id}").text
    table = text[text.index('id="files-heading"') :]
    assert re.findall(r'<th scope="row"><a href="[^"]*" download>([^<]*)</a>', table) == listed
    assert "provenance.dsse.json" in listed
    for name in listed:
        sent = service.http.get(f"/ui/jobs/{job_id}/files/{name}")
        assert sent.content == service.http.get(f"/v1/jobs/{job_id}/files/{name}").content
        assert name in sent.headers["Content-Disposition"]


def test_the_rows_just_not_selected_come_nearest_first_with_their_reasons(shown: tuple[InProcessService, str]) -> None:
    service, job_id = shown
    chosen = {pick["source_row"] for pick in selection(service, job_id)}
    everything = [service.http.get(f"/v1/jobs/{job_id}/rows/{row}").json() for row in range(110)]
    expected: dict[str, list[dict[str, Any]]] = {"not_selected": [], "excluded": []}
    for row in everything:
        if row["source_row"] not in chosen:
            expected[row["status"]].append(row)
    if expected["not_selected"][0]["score"] is not None:
        expected["not_selected"].sort(key=lambda row: (-row["score"], row["source_row"]))
    else:
        expected["not_selected"].sort(key=lambda row: (row["relevance_rank"], row["source_row"]))
    for status, rows in expected.items():
        assert rows, status
        for after in range(0, len(rows), row_page.ROWS):
            address = f"/ui/jobs/{job_id}/rows/not-selected?status={status}&after={after}"
            text = unescape(service.http.get(address).text)
            here = rows[after : after + row_page.ROWS]
            assert re.findall(r'row-number">Row (\d+) ', text) == [str(row["source_row"]) for row in here]
            for row in here:
                assert row["why"] in text
                assert row["messages"][0]["content"][:40] in text
            assert ('rel="next"' in text) is (after + row_page.ROWS < len(rows))
    assert "No further row" in service.http.get(f"/ui/jobs/{job_id}/rows/not-selected?after=900").text
    assert service.http.get(f"/ui/jobs/{job_id}/rows/not-selected?status=selected").status_code == 422
    text = service.http.get(f"/ui/jobs/{job_id}").text
    assert f'hx-get="/ui/jobs/{job_id}/rows/not-selected"' in text
    assert text.index('id="actions"') > text.index("<h2>History</h2>"), "actions come last"


def test_one_archive_has_every_file_and_is_the_same_each_time(shown: tuple[InProcessService, str]) -> None:
    service, job_id = shown
    assert f'href="/ui/jobs/{job_id}/files/archive.zip"' in service.http.get(f"/ui/jobs/{job_id}").text
    page, first = (
        service.http.get(f"/ui/jobs/{job_id}/files/archive.zip"),
        service.http.get(f"/v1/jobs/{job_id}/files/archive.zip"),
    )
    assert page.content == first.content
    assert f'filename="{job_id}.zip"' in page.headers["content-disposition"]
    assert first.headers["etag"] == f'"{hashlib.sha256(first.content).hexdigest()}"'
    with zipfile.ZipFile(io.BytesIO(first.content)) as archive:
        assert archive.testzip() is None
        for file in service.http.get(f"/v1/jobs/{job_id}/files").json()["data"]:
            held = archive.read(f"{job_id}/{file['name']}")
            assert hashlib.sha256(held).hexdigest() == file["sha256"], file["name"]
        assert len(archive.namelist()) == len(service.http.get(f"/v1/jobs/{job_id}/files").json()["data"])
    shutil.rmtree(service.settings.data_dir / "prefixes")
    assert service.http.get(f"/v1/jobs/{job_id}/files/archive.zip").content == first.content
    assert service.http.get(f"/v1/jobs/{job_id}/files/archive.zip?k=3").status_code == 422
