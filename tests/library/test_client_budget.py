"""A budget as a person writes it, and targets as a person names them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from spice_select.client import parse_budget
from spice_select.client.request_bodies import job_body
from spice_select.config import Budget
from spice_select.errors import ConfigError


@pytest.mark.parametrize(
    ("given", "budget"),
    [
        ("10%", Budget(fraction=0.1)),
        (" 12.5 % ", Budget(fraction=0.125)),
        ("100%", Budget(fraction=1.0)),
        ("100", Budget(count=100)),
        (7, Budget(count=7)),
        ("50000 tokens", Budget(tokens=50000)),
        ("50000t", Budget(tokens=50000)),
        ("1 Token", Budget(tokens=1)),
        ({"fraction": 0.5}, Budget(fraction=0.5)),
        (Budget(count=3), Budget(count=3)),
    ],
)
def test_budgets_are_understood(given: Any, budget: Budget) -> None:
    assert parse_budget(given) == budget


@pytest.mark.parametrize(
    "given",
    [
        "",
        "0",
        "0%",
        "-5",
        "101%",
        "-1%",
        "0t",
        "0.1",
        "ten",
        "10%%",
        "nan%",
        "inf",
        "1e3",
        "10 % tokens",
        True,
        0.1,
        {"count": 1, "tokens": 2},
        {"count": "7"},
        {},
        2**40,
    ],
)
def test_what_is_no_budget_is_refused(given: Any) -> None:
    with pytest.raises(ConfigError, match="10%") as caught:
        parse_budget(given)
    assert caught.value.errors[0]["pointer"] == "#/budget"


def test_targets_may_be_files_rows_or_data_sets_under_names(tmp_path: Path) -> None:
    rows = [{"instruction": "Add 1 and 2.", "output": "3"}, {"instruction": "Add 2 and 2.", "output": "4"}]
    lines, array = tmp_path / "lines.jsonl", tmp_path / "array.json"
    lines.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    array.write_text(json.dumps(rows), encoding="utf-8")
    given = {"a": str(lines), "b": array, "c": rows, "d": "ds_1", "e": {"column": "domain", "value": "math"}}
    asked = {"targets": given, "protect": {"f": lines}}
    body = job_body("10%", asked)
    assert body["targets"] == [
        {"name": "a", "rows": rows},
        {"name": "b", "rows": rows},
        {"name": "c", "rows": rows},
        {"name": "d", "dataset_id": "ds_1"},
        {"name": "e", "column": "domain", "value": "math"},
    ]
    assert body["protect"] == [{"name": "f", "rows": rows}]
    assert asked["targets"] is given, "the caller's own mapping is left alone"
    assert job_body("10%", {"targets": body["targets"]})["targets"] == body["targets"]


@pytest.mark.parametrize("content", [None, "no json", '{"a": 1}\n{'])
def test_a_target_file_that_cannot_be_read_is_named(tmp_path: Path, content: str | None) -> None:
    file = tmp_path / "wanted.jsonl"
    if content is not None:
        file.write_text(content, encoding="utf-8")
    with pytest.raises(ConfigError, match=r"'wanted'.*wanted\.jsonl") as refused:
        job_body("10%", {"targets": {"wanted": file}})
    assert refused.value.errors[0]["pointer"] == "#/targets"
