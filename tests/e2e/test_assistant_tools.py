"""``spice-select mcp`` as an assistant starts it: a process on standard input and output, from file to files."""

from __future__ import annotations

import json
import shutil
import sys
import threading
from pathlib import Path
from typing import Any

import anyio
from mcp import Client, StdioServerParameters

from tests.contracts.packages import ROOT
from tests.fixtures.service import InProcessService, jsonl, sums


def test_an_assistant_goes_from_a_file_to_the_files_of_a_selection(sqlite_url: str, tmp_path: Path) -> None:
    (tmp_path / "pool.jsonl").write_bytes(jsonl([*sums(30), {**sums(1, 900)[0], "output": ""}]))
    over = threading.Event()
    with InProcessService(sqlite_url, tmp_path / "data") as service:

        def work() -> None:
            while not over.wait(0.05):
                service.drain()

        worker = threading.Thread(target=work)
        worker.start()
        try:
            anyio.run(_assist, str(service.http.base_url), tmp_path)
        finally:
            over.set()
            worker.join(60)


async def _assist(url: str, folder: Path) -> None:
    program = StdioServerParameters(
        command=sys.executable,
        args=["-m", "spice_select", "mcp"],
        env={"SPICE_API_URL": url, "PATH": str(Path(shutil.which("sh") or "/bin/sh").parent), "PYTHONPATH": str(ROOT)},
    )
    async with Client(program) as assistant:

        async def call(tool: str, **arguments: Any) -> Any:
            answer = await assistant.call_tool(tool, arguments)
            assert not answer.is_error, answer.content
            return answer.structured_content

        tools = {tool.name: tool for tool in (await assistant.list_tools()).tools}
        assert all(tool.description for tool in tools.values())
        dataset = await call("register_dataset", source=str(folder / "pool.jsonl"))
        seen = await call("preview_dataset", dataset_id=dataset["id"], rows=2)
        assert len(seen["rows"]) == 2
        assert "empty-response" in json.dumps(seen)
        wanted: dict[str, Any] = {
            "dataset_id": dataset["id"],
            "budget": "4",
            "targets": [{"name": "sums", "rows": sums(3, 500)}],
            "settings": {"gradients": {"sketch_dim": 4, "max_length": 128}, "name": "assisted"},
        }
        assert (await call("estimate_job", **wanted))["rows"] == 30
        job = await call("start_job", **wanted)
        while job["status"] in {"queued", "running"}:
            job = await call("watch_job", job_id=job["id"])
        assert (job["status"], job["name"], job["result"]["selected"]) == ("succeeded", "assisted", 4)
        picks = (await call("list_selection", job_id=job["id"]))["selected"]
        explained = await call("explain_row", job_id=job["id"], row=picks[0]["source_row"])
        assert (explained["rank"], explained["status"]) == (1, "selected")
        assert f"Row {picks[0]['source_row']} was selected as pick 1" in explained["why"]
        assert [pick["rank"] for pick in picks] == [1, 2, 3, 4]
        assert {pick["target"] for pick in picks} == {"sums"}
        files = await call("fetch_files", job_id=job["id"], folder=str(folder / "out"))
        kept = Path(files["selected.jsonl"]).read_text(encoding="utf-8").splitlines()
        assert len([json.loads(line) for line in kept]) == 4

        refused = await assistant.call_tool("start_job", {"dataset_id": dataset["id"], "budget": "400"})
        assert refused.is_error
        assert "400" in refused.content[0].text
