"""Previews over HTTP and on the page: what is read, what is learned, and that nothing stays."""

from __future__ import annotations

import asyncio
import json
import sys
from pathlib import Path
from typing import Any

import pytest

from app.services.datasets import previews
from spice_select.client import AsyncClient, Client
from tests.fixtures.models import tiny_folder
from tests.fixtures.service import InProcessService, jsonl, sums

ROWS = jsonl([{**row, "id": i} for i, row in enumerate(sums(12))] + [{"instruction": "x", "output": " "}])


def learned(row: dict[str, Any]) -> list[str]:
    return [row["text"][span["start"] : span["end"]] for span in row["learned"]]


def test_a_preview_marks_what_is_learned_and_stores_nothing(service: InProcessService) -> None:
    before = sorted(service.settings.data_dir.rglob("*"))
    answer = service.http.post("/v1/datasets:preview?rows=2", files={"file": ("pool.jsonl", ROWS)})
    assert answer.status_code == 200, answer.text
    shown = answer.json()
    assert (shown["format"], shown["num_rows"], shown["num_usable"], shown["complete"]) == ("alpaca", 13, 12, True)
    assert shown["unused_columns"] == {"id": 12}
    assert shown["rejected_rows"][0]["code"] == "empty-response"
    assert [row["row"] for row in shown["rows"]] == [0, 1]
    first = shown["rows"][0]
    assert learned(first) == ["The sum is 0. <|im_end|>"]
    assert first["text"].startswith("<|im_start|>user\nAdd 0 and 0.")
    assert 0 < first["num_learned"] < first["num_tokens"]
    assert sorted(service.settings.data_dir.rglob("*")) == before
    assert service.http.get("/v1/datasets").json()["data"] == []


def test_an_array_of_records_gives_the_same_rows_as_a_file(service: InProcessService) -> None:
    dataset = service.push(ROWS)
    stored = service.http.get(f"/v1/datasets/{dataset['id']}/preview?rows=3").json()
    fresh = service.http.post(
        "/v1/datasets:preview?rows=3", json=[json.loads(line) for line in ROWS.splitlines()]
    ).json()
    for name in ("rows", "rejected_rows", "format", "columns", "num_rows", "warnings"):
        assert stored[name] == fresh[name], name


def test_the_objective_decides_what_is_learned_of_a_pair(service: InProcessService) -> None:
    pairs = jsonl([{"prompt": "Why?", "chosen": "So.", "rejected": "No."}] * 2)
    given = {"file": ("pool.jsonl", pairs)}
    chosen = service.http.post("/v1/datasets:preview?objective=sft_chosen", files=given).json()
    assert chosen["notes"] == ["shown as the objective sft_chosen learns it"]
    assert chosen["rows"][0]["rejected_answer"]["learned"] == []
    stored = service.http.get(f"/v1/datasets/{service.push(pairs)['id']}/preview?objective=dpo").json()
    assert stored["rows"][0]["rejected_answer"]["learned"] != []
    shown = service.http.post("/v1/datasets:preview?objective=dpo", files={"file": ("pool.jsonl", ROWS)}).json()
    assert {row["excluded"]["code"] for row in shown["rows"]} == {"wrong-objective"}


def test_keys_inside_of_a_column_are_named(service: InProcessService) -> None:
    turns = [{"role": "user", "content": "Why?", "cache_control": "x"}, {"role": "assistant", "content": "So."}]
    shown = service.http.post("/v1/datasets:preview", json=[{"messages": turns}] * 2).json()
    assert shown["unused_columns"] == {"messages[].cache_control": 2}
    assert shown["warnings"] == ["keys not used: 'messages[].cache_control' (2 rows)"]


def test_errors_say_what_to_send(service: InProcessService) -> None:
    unclear = jsonl([{"prompt": "a", "text": "b"}] * 3)
    answer = service.http.post("/v1/datasets:preview", files={"file": ("a.jsonl", unclear)})
    assert (answer.status_code, answer.json()["code"]) == (422, "dataset-columns-ambiguous")
    columns = json.dumps({"prompt": "prompt", "response": "text"})
    answer = service.http.post("/v1/datasets:preview", files={"file": ("a.jsonl", unclear)}, data={"columns": columns})
    assert learned(answer.json()["rows"][0]) == ["b<|im_end|>"]
    refused = service.http.post("/v1/datasets:preview", json={"source": {"type": "file", "path": "a.jsonl"}})
    assert refused.json()["code"] == "source-not-allowed"


def test_a_preview_is_bounded(sqlite_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with InProcessService(sqlite_url, tmp_path / "data", preview_bytes=len(ROWS) - 1) as service:
        answer = service.http.post("/v1/datasets:preview", files={"file": ("pool.jsonl", ROWS)})
        assert (answer.status_code, answer.json()["code"]) == (413, "payload-too-large")
        assert "first rows" in answer.json()["detail"]
        monkeypatch.setattr(previews, "FIRST_ROWS", 3)
        some = service.http.post("/v1/datasets:preview", files={"file": ("pool.jsonl", ROWS[:-40])}).json()
        assert (some["num_rows"], some["complete"]) == (3, False)
        for _ in range(previews.AT_ONCE):
            service.app.state.services.dataset_previews._free.acquire()
        busy = service.http.post("/v1/datasets:preview", files={"file": ("pool.jsonl", ROWS[:-40])})
        assert (busy.status_code, busy.json()["code"], busy.headers["Retry-After"]) == (429, "too-many-previews", "2")


def test_a_source_is_fetched_by_the_child(sqlite_url: str, tmp_path: Path) -> None:
    (tmp_path / "pools").mkdir()
    (tmp_path / "pools" / "pool.jsonl").write_bytes(ROWS)
    with InProcessService(sqlite_url, tmp_path / "data", source_roots=[tmp_path / "pools"]) as service:
        client = Client(base_url=str(service.http.base_url))
        shown = client.datasets.preview("file:pool.jsonl", rows=1)
        client.close()
        assert (shown.num_rows, len(shown.rows)) == (13, 1)


def test_a_template_that_eats_memory_or_time_is_stopped(sqlite_url: str, tmp_path: Path) -> None:
    doubled = "{% set x = namespace(s='a') %}{% for i in range(60) %}{% set x.s = x.s ~ x.s %}{% endfor %}"
    memory = tiny_folder(tmp_path / "models" / "memory", doubled)
    spin = "{% for i in range(99999) %}{% for j in range(99999) %}{% endfor %}{% endfor %}"
    time = tiny_folder(tmp_path / "models" / "time", spin)
    with InProcessService(
        sqlite_url,
        tmp_path / "data",
        proxy_root=tmp_path / "models",
        preview_seconds=300,
        template_memory_bytes=2**30,
        template_seconds=2,
    ) as service:
        for folder in (memory, time):
            answer = service.http.post(
                "/v1/datasets:preview", params={"proxy": str(folder)}, files={"file": ("pool.jsonl", ROWS)}
            )
            assert (answer.status_code, answer.json()["code"]) == (422, "template-limit"), answer.text


def test_the_page_marks_learned_tokens_of_a_file_and_of_a_data_set(service: InProcessService) -> None:
    form = service.http.get("/ui/datasets/preview")
    assert 'type="file"' in form.text
    assert "/ui/datasets/preview" in service.http.get("/ui/datasets").text
    origin = {"Origin": str(service.http.base_url).rstrip("/")}
    hostile = jsonl([{"instruction": "<script>alert(1)</script>", "output": "<b>no</b>"}])
    made = service.http.post("/ui/datasets/preview", files={"file": ("a.jsonl", hostile)}, headers=origin)
    assert made.status_code == 200
    assert '<mark class="learned">&lt;b&gt;no&lt;/b&gt;&lt;|im_end|&gt;</mark>' in made.text
    assert "<script>alert" not in made.text
    dataset = service.push(ROWS)
    assert f"/ui/datasets/{dataset['id']}/preview" in service.http.get(f"/ui/datasets/{dataset['id']}").text
    shown = service.http.get(f"/ui/datasets/{dataset['id']}/preview").text
    assert '<mark class="learned">The sum is 0. &lt;|im_end|&gt;</mark>' in shown
    assert "empty-response" in shown


def test_the_api_process_imports_no_tokenizer() -> None:
    assert "app.services.datasets.previews" in sys.modules
    source = Path(previews.__file__).read_text()
    assert "import workers" not in source
    assert "from workers" not in source


def test_the_asynchronous_client_asks_for_the_same(service: InProcessService) -> None:
    dataset = service.push(ROWS)

    async def ask() -> list[int]:
        async with AsyncClient(base_url=str(service.http.base_url)) as client:
            return [row.row for row in (await client.datasets.preview_stored(dataset["id"], rows=2)).rows]

    assert asyncio.run(ask()) == [0, 1]
