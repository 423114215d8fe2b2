"""The search for settings: trainings are kept, a run that is cut off goes on, and the same comes out."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch

from benchmarks.quality.candidates import TRIED, forms_of, rows_of
from benchmarks.quality.material import dealt
from benchmarks.quality.search import PAGE, RESULTS, arguments, measure
from benchmarks.quality.search_page import page

BUNDLED = Path(__file__).parents[2] / "examples" / "bundled.jsonl"


def search(cache: Path) -> dict[str, Any]:
    """The figures of a small search on the bundled rows."""
    given = [
        *("--pool", str(BUNDLED), "--group", "group", "--text", "100", "--rows", "60", "--tune-rows", "80"),
        *("--report-rows", "80", "--held-out", "20", "--proxy", "16,1,1,3000", "--max-length", "64"),
        *("--replicates", "2", "--settings", "spice;herding", "--cache", str(cache)),
    ]
    return measure(arguments(given))


def test_a_search_that_was_cut_off_goes_on_and_ends_alike(tmp_path: Path) -> None:
    first = search(tmp_path)
    assert {arm["name"]: arm["replicates"] for arm in first["arms"]} == {"random": 2, "spice": 2, "herding": 2}
    kept = tmp_path / "tune-proxy" / "spice-1.json"
    other = tmp_path / "tune-proxy" / "herding-0.json"
    before, untouched = json.loads(kept.read_text()), other.stat().st_mtime_ns
    kept.unlink()
    again = search(tmp_path)
    after = json.loads(kept.read_text())
    assert before["losses"] == after["losses"]
    assert other.stat().st_mtime_ns == untouched
    assert again["arms"] == first["arms"]


def test_the_page_is_written_from_the_figures() -> None:
    assert PAGE.read_text(encoding="utf-8") == page(json.loads(RESULTS.read_text(encoding="utf-8")))


def test_a_pool_is_chosen_from_in_every_setting() -> None:
    draw = torch.Generator().manual_seed(0)
    mean = torch.randn(40, 12, generator=draw)
    forms = forms_of(mean, [3 + row % 5 for row in range(40)])
    assert torch.allclose(forms["unit"].norm(dim=1), torch.ones(40))
    groups = ["a"] * 30 + ["b"] * 10
    costs = [10 + row % 7 for row in range(40)]
    for name in TRIED:
        chosen = rows_of(name, forms, costs, groups, 8)
        assert len(set(chosen)) == len(chosen)
        if "token budget" in name:
            assert sum(costs[row] for row in chosen) <= round(8 * sum(costs) / 40)
        else:
            assert len(chosen) == 8
        if "quotas" in name:
            assert sum(groups[row] == "b" for row in chosen) == 2


def test_answers_to_one_prompt_stay_together() -> None:
    rows = [{"prompt": row // 3, "answer": row} for row in range(30)]
    dealt_out = list(dealt(rows, "prompt", 1))
    assert [len(together) for together in dealt_out] == [3] * 10
    assert all(len({row["prompt"] for row in together}) == 1 for together in dealt_out)
    assert sorted(row["answer"] for together in dealt_out for row in together) == list(range(30))
    assert [len(together) for together in dealt(rows, None, 1)] == [1] * 30
