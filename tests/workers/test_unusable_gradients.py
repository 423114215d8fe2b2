"""Samples without a usable gradient, as a job's result and history show them."""

from __future__ import annotations

from pathlib import Path

from tests.fixtures.dead_proxy import save_dead_proxy
from tests.fixtures.service import InProcessService, jsonl
from tests.library.test_unusable_gradients import RECORDS


def test_a_job_counts_lists_and_tells_them(sqlite_url: str, tmp_path: Path) -> None:
    folder = save_dead_proxy(tmp_path / "proxies" / "dead")
    with InProcessService(sqlite_url, tmp_path / "data", proxy_root=tmp_path / "proxies") as service:
        dataset = service.push(jsonl(RECORDS))
        job = service.submit(dataset["id"], proxy={"model": str(folder)}, budget={"fraction": 1.0})
        service.drain()
        result = service.job(job["id"])["result"]
        assert result["excluded_by_code"] == {"gradient-not-finite": 1, "gradient-zero": 2}
        assert [(item["source_row"], item["code"]) for item in result["excluded_samples"]] == [
            (2, "gradient-zero"), (5, "gradient-not-finite"), (7, "gradient-zero"),
        ]  # fmt: skip
        chosen = service.http.get(f"/v1/jobs/{job['id']}/selection").json()["data"]
        assert sorted(row["source_row"] for row in chosen) == [0, 1, 3, 4, 6]
        events = service.http.get(f"/v1/jobs/{job['id']}/events").json()["data"]
        (ended,) = [event["data"] for event in events if event["type"] == "job.succeeded"]
        assert ended["excluded_by_code"] == result["excluded_by_code"]
