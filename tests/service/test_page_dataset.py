"""The page of a data set: what was read and what was not, what its rows are like, its jobs, versions, deleting it."""

from __future__ import annotations

import re
from collections import Counter
from html import unescape

import pytest

from app.services.datasets import statistics
from tests.fixtures.service import InProcessService, jsonl, sums

ATTACK = "<script>alert('x')</script>"
ROWS = [{**row, "domain": "aab"[i % 3]} for i, row in enumerate(sums(30))]


def counts(text: str, heading: str) -> dict[str, int]:
    """Rows by name, as a table of the page has them."""
    table = text[text.index(f'id="{heading}"') :].split("</table>")[0]
    found = re.findall(r'<th scope="row">([^<]*)</th><td class="num" data-label="rows">([\d,]+)', table)
    return {name: int(count.replace(",", "")) for name, count in found}


def test_rows_are_counted_by_group_and_length(service: InProcessService) -> None:
    dataset = service.push(jsonl(ROWS), name=ATTACK)
    text = service.http.get(f"/ui/datasets/{dataset['id']}").text
    assert "<script>" not in text
    assert counts(text, "by-group") == Counter(row["domain"] for row in ROWS)
    lengths = counts(text, "by-length")
    obvious: Counter[str] = Counter()
    for row in ROWS:
        size = len(row["instruction"]) + len(" ") + len(row["output"].strip())
        low = 1 << (size.bit_length() - 1)
        obvious[f"{low} to {2 * low - 1}"] += 1
    assert lengths == obvious
    assert "Of the first" not in text


def test_of_a_long_data_set_the_first_rows_are_looked_at(
    service: InProcessService, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(statistics, "MOST_ROWS", 9)
    dataset = service.push(jsonl(ROWS))
    text = service.http.get(f"/ui/datasets/{dataset['id']}").text
    assert sum(counts(text, "by-length").values()) == 9
    assert "Of the first 9 rows" in text


def test_rejected_rows_are_listed_with_reasons_page_by_page(service: InProcessService) -> None:
    rows = [*sums(5), *({"instruction": f"n{i}", "output": ""} for i in range(45))]
    dataset = service.push(jsonl(rows))
    address, seen = f"/ui/datasets/{dataset['id']}", []
    assert "45 empty-response" in service.http.get(address).text
    for _ in range(4):
        text = service.http.get(address).text
        seen.append([int(row) for row in re.findall(r'<th scope="row">Row (\d+)</th>', text)])
        assert "is empty" in text
        following = re.search(r'rel="next" href="([^"#]+)#rejected"', text)
        if following is None:
            break
        address = unescape(following[1])
    assert [len(part) for part in seen] == [20, 20, 5]
    assert [row for part in seen for row in part] == list(range(5, 50))
    invalid = service.push(b'{"text": \n', name="broken")
    text = service.http.get(f"/ui/datasets/{invalid['id']}").text
    assert "It cannot be used" in text
    assert f"/ui/new?dataset_id={invalid['id']}" not in text


def test_jobs_and_versions_are_named_and_deleting_takes_it_away(service: InProcessService) -> None:
    first, second = (service.push(jsonl(ROWS[:9]), name="pool")["id"] for _ in range(2))
    other = service.push(jsonl(sums(4)), name="other")["id"]
    job = service.submit(first, name="on the first")["id"]
    text = service.http.get(f"/ui/datasets/{first}").text
    assert f'<a href="/ui/jobs/{job}">on the first</a>' in text
    assert f'href="/ui/datasets/{second}"' in text
    assert "the same rows" in text
    assert other not in text
    assert f'href="/ui/datasets/{first}"' in service.http.get(f"/ui/jobs/{job}").text
    assert f'href="/ui/datasets/{first}"' in service.http.get("/ui/datasets").text
    origin = {"Origin": f"http://127.0.0.1:{service.port}"}
    address = f"/ui/datasets/{first}/delete"
    assert service.http.post(address).status_code == 403
    assert service.http.post(address, headers=origin).status_code == 409, "a job needs it"
    service.http.post(f"/v1/jobs/{job}/cancel")
    answer = service.http.post(address, headers=origin)
    assert (answer.status_code, answer.headers["location"]) == (303, "/ui/datasets")
    assert service.http.get(f"/ui/datasets/{first}").status_code == 404
    swapped = service.http.post(f"/ui/datasets/{second}/delete", headers={**origin, "HX-Request": "true"})
    assert swapped.headers["hx-redirect"] == "/ui/datasets"
    assert service.http.get(f"/ui/jobs/{job}").status_code == 200, "what was selected stays"
    longer = service.http.post(f"/v1/datasets/{other}/append", files={"file": ("more.jsonl", jsonl(sums(3, 50)))})
    service.drain()
    pages = [service.http.get(f"/ui/datasets/{each}").text for each in (other, longer.json()["id"])]
    assert f'href="/ui/datasets/{longer.json()["id"]}"' in pages[0]
    assert "this one with rows appended" in pages[0]
    assert "this one without the rows appended last" in pages[1]


def test_a_data_set_that_is_being_checked_asks_again(service: InProcessService) -> None:
    made = service.http.post("/v1/datasets", files={"file": ("plain.jsonl", jsonl(sums(9)))}).json()
    address = f"/ui/datasets/{made['id']}"
    assert f'hx-get="{address}" hx-trigger="every' in service.http.get(address).text
    service.drain()
    text = service.http.get(address).text
    assert 'hx-trigger="every' not in text
    assert f'hx-get="{address}/preview"' in text
    assert 'id="preview"' in service.http.get(f"{address}/preview").text
