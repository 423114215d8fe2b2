"""The search for settings: trainings are kept, a run that is cut off goes on, and the same comes out."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch

import spice_select as ss
from benchmarks.toy import other_forms
from benchmarks.toy.candidates import TRIED, forms_of, rows_of
from benchmarks.toy.docstrings import functions
from benchmarks.toy.loops import LOOPS
from benchmarks.toy.material import dealt, encoded, read
from benchmarks.toy.search import PAGE, RESULTS, arguments, measure
from benchmarks.toy.search_page import page

BUNDLED = Path(__file__).parents[3] / "examples" / "bundled.jsonl"


def search(cache: Path, *settings: str) -> dict[str, Any]:
    """The figures of a small search on the bundled rows."""
    given = [
        *("--pool", str(BUNDLED), "--group", "group", "--text", "100", "--rows", "60", "--tune-rows", "80"),
        *("--report-rows", "80", "--held-out", "20", "--proxy", "16,1,1,3000", "--max-length", "64"),
        *("--replicates", "2", "--settings", ";".join(settings), "--cache", str(cache)),
    ]
    return measure(arguments(given))


def test_a_search_that_was_cut_off_goes_on_and_ends_alike(tmp_path: Path) -> None:
    first = search(tmp_path, "spice", "herding")
    assert {arm["name"]: arm["replicates"] for arm in first["arms"]} == {"random": 2, "spice": 2, "herding": 2}
    kept = tmp_path / "tune-proxy" / "spice-1.json"
    other = tmp_path / "tune-proxy" / "herding-0.json"
    before, untouched = json.loads(kept.read_text()), other.stat().st_mtime_ns
    kept.unlink()
    again = search(tmp_path, "spice", "herding")
    after = json.loads(kept.read_text())
    assert before["losses"] == after["losses"]
    assert other.stat().st_mtime_ns == untouched
    assert again["arms"] == first["arms"]
    # Settings that need more than the gradients of the proxy as it is, from the same cache.
    names = ["spice, Adam", "spice, warm-up", "matching 3, periodic"]
    more = {arm["name"]: arm for arm in search(tmp_path, *names)["arms"]}
    assert set(more) == {"random", *names}
    assert all(more[name]["replicates"] == 2 and more[name]["loss"] > 0 for name in names)
    kept_rows = json.loads((tmp_path / "tune-proxy" / "matching_3_periodic-0.json").read_text())["rows"]
    assert kept_rows == 6
    check_preconditioning(tmp_path / "proxy")


def check_preconditioning(folder: Path) -> None:
    """Adam's directions against their definition: exact gradients, weight by weight, without a sketch."""
    proxy = ss.load_proxy(ss.ProxyConfig(model=str(folder)), ss.GradientConfig())
    examples = [example for example, _ in encoded(read(BUNDLED)[:40], proxy.tokenizer, 64)]
    exact = ss.collect_gradients(proxy.model, examples, ss.GradientConfig(normalize="none", sketch_dim=None)).double()
    mean_square = sum(gradient**2 for gradient in exact) / len(exact)
    wanted = torch.stack([gradient / (mean_square.sqrt() + 1e-8) for gradient in exact])
    wanted = wanted / wanted.norm(dim=1, keepdim=True)
    found = other_forms.preconditioned(folder, examples, seed=3).double()
    assert torch.allclose(found.norm(dim=1), torch.ones(len(examples), dtype=torch.float64), atol=1e-6)
    off = found @ found.T - wanted @ wanted.T
    # A sketch of m numbers errs by about 1 / sqrt(m) in an inner product of vectors of length one.
    assert off.abs().mean() < 1.5 / other_forms.BUCKETS**0.5
    plain = torch.nn.functional.normalize(exact, dim=1)
    assert off.abs().mean() < (found @ found.T - plain @ plain.T).abs().mean(), "the division changes nothing"


def test_the_page_is_written_from_the_figures() -> None:
    assert PAGE.read_text(encoding="utf-8") == page(json.loads(RESULTS.read_text(encoding="utf-8")))


def test_a_pool_is_chosen_from_in_every_setting() -> None:
    draw = torch.Generator().manual_seed(0)
    mean = torch.randn(40, 12, generator=draw)
    forms = forms_of(mean, [3 + row % 5 for row in range(40)])
    forms |= {form: torch.randn(40, 12, generator=draw) for form in other_forms.OTHER_FORMS}
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


def test_names_of_settings_are_files_of_their_own() -> None:
    names = [*TRIED, *LOOPS]
    assert len({name.replace(" ", "_").replace(",", "") for name in names}) == len(names)


def test_a_function_asks_for_its_documentation() -> None:
    told = "Add two numbers that are given as words, such as three and four, and answer with a word.\n\nTwo paragraphs."
    source = f'''
class Sums:
    @property
    def short(self):
        """Too short."""

    async def add(self, one: str, other: str = "four") -> str:
        """{told}"""
        return one + other


def undocumented(): ...


def only_told():
    """{told}"""
'''
    asked = [
        ("def only_told():\n    pass", told),
        ("async def add(self, one: str, other: str='four') -> str:\n    return one + other", told),
    ]
    assert sorted(functions(source)) == sorted(asked)


def test_answers_to_one_prompt_stay_together() -> None:
    rows = [{"prompt": row // 3, "answer": row} for row in range(30)]
    dealt_out = list(dealt(rows, "prompt", 1))
    assert [len(together) for together in dealt_out] == [3] * 10
    assert all(len({row["prompt"] for row in together}) == 1 for together in dealt_out)
    assert sorted(row["answer"] for together in dealt_out for row in together) == list(range(30))
    assert [len(together) for together in dealt(rows, None, 1)] == [1] * 30
