"""Columns named by clicking, rows searched, and files in parts from the page."""

from __future__ import annotations

import hashlib
import json
import re
from html import unescape
from pathlib import Path

import pytest

from app.ui import dataset_page
from tests.fixtures.service import InProcessService, jsonl, sums
from tests.service.test_page_settings import Page

ODD = jsonl([{"Frage": f"What is {i} + 1?", "Antwort": f"{i + 1}", "<b>": "x"} for i in range(9)])


def send(page: Page, data: bytes, **fields: str) -> str:
    answer = page.post("/ui/datasets/preview", files={"file": ("odd.jsonl", data)}, **fields)
    assert answer.headers["content-type"].startswith("text/html")
    return answer.text


def chosen(text: str) -> dict[str, str]:
    """The form of the columns as it would be sent."""
    fields = {
        name: unescape(value) for name, value in re.findall(r'type="hidden" name="([^"]+)" value="([^"]*)"', text)
    }
    for number, options in re.findall(r'<select id="role-\d+" name="role-(\d+)">(.*?)</select>', text, re.DOTALL):
        picked = re.search(r'value="(\w+)" selected', options)
        fields[f"role-{number}"] = picked[1] if picked else ""
    return fields


def test_columns_that_no_form_fits_are_named_by_clicking_and_kept(service: InProcessService) -> None:
    page = Page(service)
    text = send(page, ODD)
    assert "It cannot be read like this" in text
    assert "Keep it as a data set" not in text
    fields = chosen(text)
    assert [fields[f"column-{number}"] for number in range(3)] == ["Frage", "Antwort", "<b>"]
    twice = send(page, ODD, **{**fields, "role-0": "prompt", "role-1": "prompt"})
    assert "cannot both be the prompt" in twice
    text = send(page, ODD, **{**fields, "role-0": "prompt", "role-1": "response"})
    assert "9 of 9 rows can be used" in " ".join(text.split())
    assert chosen(text)["role-1"] == "response"
    assert page.get("/v1/datasets").json()["data"] == [], "nothing is kept by a preview"
    kept = page.post("/ui/datasets/preview", files={"file": ("odd.jsonl", ODD)}, **chosen(text), do="keep")
    assert kept.status_code == 303
    service.drain()
    dataset = page.get(f"/v1/datasets/{kept.headers['location'].rsplit('/', 1)[1]}").json()
    assert (dataset["status"], dataset["name"]) == ("ready", "odd.jsonl")
    assert dataset["columns"] == {"prompt": "Frage", "response": "Antwort"}


def test_a_mapping_that_was_found_is_only_sent_once_it_is_changed(service: InProcessService) -> None:
    page = Page(service)
    noted = jsonl([{**row, "note": "n"} for row in sums(5)])
    fields = chosen(send(page, noted))
    assert (fields["columns"], json.loads(fields["as_read"])) == (
        "", {"prompt": "instruction", "response": "output"}
    )  # fmt: skip
    same = chosen(send(page, noted, **fields))
    assert same["columns"] == "", "as it was read"
    number = next(name for name, value in fields.items() if value == "note").removeprefix("column-")
    changed = chosen(
        send(page, jsonl([{**row, "note": "n"} for row in sums(5)]), **{**fields, f"role-{number}": "system"})
    )
    assert json.loads(changed["columns"])["system"] == "note"
    for odd in ("[]", "{", '"x"', '{"prompt": 3}'):
        assert page.post("/ui/datasets/preview", files={"file": ("a.jsonl", ODD)}, as_read=odd).status_code == 422
        assert page.post("/ui/datasets/preview", files={"file": ("a.jsonl", ODD)}, columns=odd).status_code == 422


def test_rows_are_searched_in_any_case_page_by_page(service: InProcessService, monkeypatch: pytest.MonkeyPatch) -> None:
    rows = [{**row, "note": "Z\u00dcRICH" if i % 2 else "<script>"} for i, row in enumerate(sums(60))]
    dataset = service.push(jsonl(rows))["id"]
    page = Page(service)
    for most in (20_000, 7):
        monkeypatch.setattr(dataset_page, "MOST_SEARCHED", most)
        address, seen = f"/ui/datasets/{dataset}/rows?words=z%C3%BCrich", []
        while address:
            text = page.get(address).text
            assert "<script>alert" not in text
            seen += [int(row) for row in re.findall(r'row-number">Row (\d+)<', text)]
            following = re.search(r'rel="next" href="([^"]+)"', text)
            address = unescape(following[1]) if following else ""
        assert seen == list(range(1, 60, 2))
    assert "No row is like this" in page.get(f"/ui/datasets/{dataset}/rows?words=nowhere").text.replace("so far ", "")
    assert page.get(f"/ui/datasets/{dataset}/rows?after=x").status_code == 422
    assert page.get("/ui/datasets/ds_0/rows").status_code == 404


def test_a_file_in_parts_goes_on_where_it_broke(service: InProcessService, tmp_path: Path) -> None:
    page, data = Page(service), jsonl(sums(50))
    sha256 = hashlib.sha256(data).hexdigest()
    body = {"name": "pool.jsonl", "bytes": len(data), "sha256": sha256, "part_bytes": 2048}
    at = "/ui/datasets/uploads"
    begun = page.post(at, json=body)
    assert begun.status_code == 201, begun.text
    upload = begun.json()
    parts = [data[start : start + 2048] for start in range(0, len(data), 2048)]
    assert page.put(f"{at}/{upload['id']}/parts/1", parts[0]).status_code == 200
    found = page.get(f"{at}?sha256={sha256}").json()["data"]
    assert [each["id"] for each in found] == [upload["id"]]
    assert [part["number"] for part in page.get(f"{at}/{upload['id']}").json()["parts"]] == [1]
    for number, part in enumerate(parts[1:], 2):
        assert page.put(f"{at}/{upload['id']}/parts/{number}", part).status_code == 200
    done = page.post(f"{at}/{upload['id']}/complete")
    assert (done.status_code, done.json()["name"]) == (202, "pool.jsonl")
    refused = page.post(at, json={**body, "bytes": 2**50})
    assert (refused.status_code, "at most" in refused.json()["detail"]) == (413, True), "the script shows the detail"
    page.headers["Origin"] = "https://elsewhere.example"
    assert page.post(at, json=body).status_code == 403
    assert page.put(f"{at}/{upload['id']}/parts/1", parts[0]).status_code == 403
