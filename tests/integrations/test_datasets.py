"""`datasets.load_dataset` reads a result by its address, in each way to show who asks."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.integrations.conftest import Finished, Script

LOAD = """
import datasets, json, sys
rows = datasets.load_dataset("parquet", data_files={url!r}, split="train"{more})
print(json.dumps([dict(row) for row in rows]))
"""


def rows_of(output: str) -> list[dict[str, object]]:
    found: list[dict[str, object]] = json.loads(output.splitlines()[-1])
    return found


def expected(finished: Finished, k: int | None = None) -> list[dict[str, object]]:
    return [json.loads(line) for line in finished.chosen[:k]]


@pytest.mark.parametrize("streaming", [False, True], ids=["whole", "streaming"])
def test_by_a_signed_link(finished: Finished, script: Script, streaming: bool) -> None:
    link = finished.link("selected.parquet", k=7)
    more = ", streaming=True" if streaming else ""
    assert rows_of(script(LOAD.format(url=link, more=more))) == expected(finished, 7)


def test_by_a_bearer_header(finished: Finished, script: Script) -> None:
    headers = {"headers": finished.headers}
    lines = LOAD.format(url=finished.file_url("selected.parquet"), more=f", storage_options={headers!r}")
    assert rows_of(script(lines)) == expected(finished)


def test_by_netrc_with_no_argument_at_all(finished: Finished, script: Script, tmp_path: Path) -> None:
    netrc = tmp_path / ".netrc"
    netrc.write_text(f"machine 127.0.0.1 login spice password {finished.secret}\n")
    netrc.chmod(0o600)
    lines = LOAD.format(url=finished.file_url("selected.parquet"), more="")
    assert rows_of(script(lines)) == expected(finished)


def test_without_a_key_nothing_is_read(finished: Finished, script: Script) -> None:
    lines = LOAD.format(url=finished.file_url("selected.parquet"), more="")
    refused = f"try:\n    exec({lines!r})\nexcept Exception as error:\n    print('refused:', error)\n"
    output = script(refused)
    assert "refused:" in output
    assert "Unable to find" in output


def test_json_lines_by_a_signed_link(finished: Finished, script: Script) -> None:
    lines = LOAD.replace('"parquet"', '"json"').format(url=finished.link("selected.jsonl"), more="")
    assert rows_of(script(lines)) == expected(finished)
