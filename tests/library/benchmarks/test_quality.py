"""The runner of the evaluation protocol: pools as it says, units made once, results that follow from the losses."""

from __future__ import annotations

import gzip
import json
import multiprocessing
import random
import re
from pathlib import Path

import numpy as np
import pytest
import torch
from scipy.stats import ttest_1samp

from benchmarks.quality.arms import ARMS, Pool
from benchmarks.quality.cache import BusyError, Cache
from benchmarks.quality.claims import in_their_span
from benchmarks.quality.comparisons import advantage, detectable, holm
from benchmarks.quality.corpus import FILES, NGRAM, STRONG, Row, ShortEnough, draw_pool, read_corpus
from benchmarks.quality.features import Features
from benchmarks.quality.pages import differences, measured, page
from benchmarks.quality.published import restore
from benchmarks.quality.report import write_report
from benchmarks.quality.runner import Runner
from benchmarks.quality.scales import TASKS, Cell, Protocol, Scale

FOLDER = Path(__file__).parents[3] / "benchmarks" / "quality"
WORDS = [a + b for a in "bdfglmnprst" for b in ("ala", "eno", "iri", "oka", "uta", "emi", "ane", "olu")]


def _text(draw: random.Random, words: int) -> str:
    return " ".join(draw.choice(WORDS) for _ in range(words))


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Files of the shape that the protocol reads, in words of no language."""
    folder, draw = tmp_path_factory.mktemp("data"), random.Random(5)
    rows: dict[str, list[dict[str, object]]] = {
        "math": [{"question": _text(draw, 9), "answer": _text(draw, 12)} for _ in range(120)],
        "math_test": [{"question": _text(draw, 9), "answer": _text(draw, 12)} for _ in range(360)],
        "code": [{"instruction": _text(draw, 9), "input": "", "output": _text(draw, 12)} for _ in range(820)],
        "chat": [
            {
                "messages": [
                    {"role": "user", "content": prompt},
                    {"role": "assistant", "content": _text(draw, 12)},
                ],
                "source": source,
            }
            for prompt in (_text(draw, 9) for _ in range(440))
            for source in (*STRONG, "weak")
        ],
    }
    # One pool row says what a test row says.
    rows["math"][0] = dict(rows["math_test"][0])
    for name, file in FILES.items():
        with gzip.open(folder / file, "wt", encoding="utf-8") as out:
            out.writelines(json.dumps(row) + "\n" for row in rows[name])
    return folder


SMALL = Scale(
    pool_rows=60,
    max_tokens=128,
    target_rows=4,
    test_rows=4,
    rates=[1e-3, 3e-3],
    cells=[
        Cell(pool="dirty", budget=0.2, arms=["untuned", "targeted_a", "random_length", "junk"], draws=2, seeds=1),
        Cell(pool="clean", budget=0.2, arms=["wrong_target", "embedding", "bm25"], draws=1, seeds=1),
        Cell(
            pool="dirty",
            budget=0.2,
            arms=["targeted_a", "random_length"],
            draws=1,
            seeds=1,
            variant="full",
            rates=[1e-3],
            full_tuning=True,
        ),
    ],
)


@pytest.fixture(scope="module")
def runner(data: Path, tmp_path_factory: pytest.TempPathFactory) -> Runner:
    work = Cache(tmp_path_factory.mktemp("work"))
    made = Runner(SMALL, data, "builtin:tiny", work, "cpu", "float32")
    assert made.run(None)
    return made


def test_a_dirty_pool_has_the_noise_and_the_thirds_of_the_protocol(runner: Runner) -> None:
    draw = runner.draw("dirty", 0)
    kinds = [row.kind for row in draw.pool]
    assert kinds.count("clean") == 42
    assert sorted(kinds.count(kind) for kind in set(kinds) - {"clean"}) == [3, 3, 4, 4, 4]
    clean = [row for row in draw.pool if row.kind == "clean"]
    assert {task: sum(row.task == task for row in clean) for task in TASKS} == dict.fromkeys(TASKS, 14)
    copied = {(row.prompt, row.response) for row in clean}
    assert all((row.prompt, row.response) in copied for row in draw.pool if row.kind == "duplicate")
    assert all((row.prompt, row.response) not in copied for row in draw.pool if row.kind not in ("clean", "duplicate"))


def test_no_row_that_judges_is_in_the_pool_nor_shares_eight_words_with_it(runner: Runner) -> None:
    def ngrams(row: Row) -> set[tuple[str, ...]]:
        words = f"{row.prompt} {row.response}".lower().split()
        return {tuple(words[start : start + NGRAM]) for start in range(len(words) - NGRAM + 1)}

    for kind in ("dirty", "clean", "source"):
        draw = runner.draw(kind, 0)
        target, settings = ([r for rows in part.values() for r in rows] for part in (draw.targets, draw.settings))
        test = [row for rows in draw.test.values() for row in rows]
        prompts = [{row.prompt for row in rows} for rows in (draw.pool, target, settings, test)]
        assert not any(prompts[a] & prompts[b] for a in range(4) for b in range(a))
        judging = set().union(*(ngrams(row) for row in (*target, *settings, *test)))
        assert not any(judging & ngrams(row) for row in draw.pool)


def test_a_contaminated_row_is_counted(data: Path) -> None:
    scale = SMALL.model_copy(update={"pool_rows": 330, "test_rows": 300})
    plain = ShortEnough(None, scale)
    draw = draw_pool(read_corpus(data, scale, plain), "dirty", 0, scale, plain)
    assert draw.counts["contaminated"]["math"] == 1


def test_another_draw_has_other_rows_and_the_same_test_rows(runner: Runner) -> None:
    one, two = runner.draw("dirty", 0), runner.draw("dirty", 1)
    assert one.test == two.test
    assert {row.prompt for row in one.pool} != {row.prompt for row in two.pool}
    assert one.targets != two.targets


def test_arms_take_the_budget_and_the_control_the_lengths(runner: Runner) -> None:
    for line in runner.plan():
        if line.arm == "untuned":
            continue
        pool = runner.pool(line.pool, line.draw, line.budget)
        rows = runner.selected(line)
        assert len(set(rows)) == len(rows)
        taken = sum(pool.response_tokens[row] for row in rows)
        assert abs(taken - pool.budget_tokens) <= max(pool.response_tokens) / 2
    junk = next(line for line in runner.plan() if line.arm == "junk")
    kinds = {runner.draw("dirty", 0).pool[row].kind for row in runner.selected(junk)}
    assert kinds <= {"mismatched", "cut_short", "random", "refusal"}


def test_what_is_finished_is_not_done_again(runner: Runner, monkeypatch: pytest.MonkeyPatch) -> None:
    def never(*_: object) -> None:
        raise AssertionError("trained or measured again")

    monkeypatch.setattr("benchmarks.quality.runner.trained", never)
    monkeypatch.setattr(Features, "_take", never)
    monkeypatch.setattr(Pool, "rows_of", never)
    assert runner.run(None)


def test_a_second_process_with_the_same_folder_gets_the_same_losses(data: Path, runner: Runner, tmp_path: Path) -> None:
    cells = [SMALL.cells[0].model_copy(update={"arms": ["targeted_a"], "draws": 1})]
    other = Runner(SMALL.model_copy(update={"cells": cells}), data, "builtin:tiny", Cache(tmp_path), "cpu", "float32")
    assert not other.run(-1.0)  # no time at all: nothing is begun
    assert other.run(None)
    line = next(other.plan())
    assert other.result(line)["losses"] == runner.result(line)["losses"]
    assert other.result(line)["rate"] in SMALL.rates


def test_the_report_is_written_from_the_losses(runner: Runner, tmp_path: Path) -> None:
    write_report(runner, "cpu", tmp_path)
    text = (tmp_path / "README.md").read_text(encoding="utf-8")
    lines = [line for line in runner.plan() if (line.pool, line.arm, line.variant) == ("dirty", "targeted_a", "")]
    gains = []
    for line in lines:
        tests = 3 * SMALL.test_rows
        control = next(o for o in runner.plan() if (o.pool, o.arm, o.draw) == ("dirty", "random_length", line.draw))
        losses = (np.mean(runner.result(one)["losses"][:tests]) for one in (control, line))
        gains.append(float(np.subtract(*losses)))
    assert f"against `random_length`: {np.mean(gains):+.4f}" in text
    checked = next(line for line in runner.plan() if line.variant)
    assert runner.result(checked)["losses"] != runner.result(lines[0])["losses"]
    assert "every weight trained" in text
    (tmp_path / "README.md").unlink()
    page(tmp_path)
    assert (tmp_path / "README.md").read_text(encoding="utf-8") == text


def test_published_trainings_are_taken_on_another_machine_and_published_again(
    data: Path, runner: Runner, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_report(runner, "cpu", tmp_path)
    before = [(tmp_path / name).read_bytes() for name in ("cpu.json", "cpu.parquet", "README.md")]
    other = Runner(SMALL, data, "builtin:tiny", Cache(tmp_path / "cache"), "cpu", "float32")
    assert restore(other, "cpu", tmp_path) == sum(1 for _ in runner.plan())
    monkeypatch.setattr("benchmarks.quality.runner.trained", None)
    monkeypatch.setattr(Features, "_take", None)
    assert other.run(None)
    write_report(other, "cpu", tmp_path)
    assert [(tmp_path / name).read_bytes() for name in ("cpu.json", "cpu.parquet", "README.md")] == before


def test_trainings_of_other_numbers_are_not_taken(data: Path, runner: Runner, tmp_path: Path) -> None:
    write_report(runner, "cpu", tmp_path)
    other = SMALL.model_copy(update={"test_rows": 5})
    assert restore(Runner(other, data, "builtin:tiny", Cache(tmp_path / "a"), "cpu", "float32"), "cpu", tmp_path) == 0
    assert restore(Runner(SMALL, data, "builtin:tiny", Cache(tmp_path / "b"), "cpu", "bfloat16"), "cpu", tmp_path) == 0


def test_the_published_page_is_written_from_the_published_results(tmp_path: Path) -> None:
    for file in (*FOLDER.glob("*.json"), *FOLDER.glob("*.parquet")):
        (tmp_path / file.name).write_bytes(file.read_bytes())
    page(tmp_path)
    for file in (*tmp_path.glob("*.md"), *tmp_path.glob("*.svg")):
        assert (FOLDER / file.name).read_text(encoding="utf-8") == file.read_text(encoding="utf-8")
    assert sum(file.stat().st_size for file in FOLDER.glob("*.[jp]*")) < 5_000_000


def test_the_protocol_file_can_be_read() -> None:
    scales = Protocol.read(FOLDER / "protocol.toml").scales
    primary = scales["cpu"].cells[0]
    assert (primary.pool, primary.budget, primary.draws, primary.seeds) == ("dirty", 0.05, 8, 2)
    assert scales["cpu"].pool_rows >= 4000
    assert len(scales["cpu"].rates) == 4
    named = {arm for scale in scales.values() for cell in scale.cells for arm in cell.arms}
    assert named == set(ARMS) | {"untuned", "full"}
    for scale in (scales["cpu"], scales["large"]):
        assert scale.variant("full").full_tuning
        assert scale.variant("small_rate").rates == [1e-6]
    assert {(cell.pool, cell.budget) for cell in scales["large"].cells} == {
        (pool, budget) for pool in ("dirty", "clean", "source") for budget in (0.02, 0.05, 0.1)
    }


def _make_slowly(folder: str, started: object, go: object) -> None:
    def make() -> int:
        started.set()  # type: ignore[attr-defined]
        go.wait(60)  # type: ignore[attr-defined]
        return 1

    Cache(Path(folder)).facts("kind", "key", make)


def test_a_unit_in_the_making_is_busy_and_a_killed_process_leaves_nothing(tmp_path: Path) -> None:
    context = multiprocessing.get_context("spawn")
    started, go = context.Event(), context.Event()
    process = context.Process(target=_make_slowly, args=(str(tmp_path), started, go))
    process.start()
    assert started.wait(60)
    cache = Cache(tmp_path)
    with pytest.raises(BusyError):
        cache.facts("kind", "key", lambda: 2)
    assert cache.facts("kind", "other key", lambda: 3) == 3
    process.kill()
    process.join()
    assert cache.facts("kind", "key", lambda: 4) == 4
    assert cache.facts("kind", "key", lambda: 5) == 4


def test_the_interval_is_students_and_holm_corrects() -> None:
    values = [0.011, 0.004, 0.018, 0.009]
    one, other = advantage(values), ttest_1samp(values, 0.0)
    assert one.p == pytest.approx(other.pvalue)
    assert (one.low, one.high) == pytest.approx(tuple(other.confidence_interval(0.95)))
    assert holm({"a": 0.01, "b": 0.04, "c": 0.03}) == pytest.approx({"a": 0.03, "b": 0.06, "c": 0.06})


def test_the_detectable_difference_is_detected_with_that_probability() -> None:
    drawn = np.random.default_rng(0)
    shift = detectable(2.0, 8)
    samples = drawn.normal(shift, 2.0, size=(20_000, 8))
    p_values = ttest_1samp(samples, 0.0, axis=1).pvalue
    assert float((p_values < 0.05).mean()) == pytest.approx(0.8, abs=0.01)


def test_differences_pair_draws_and_seeds() -> None:
    def losses(value: float) -> dict[str, float]:
        return dict.fromkeys(TASKS, value)

    arms = {
        "random_length": {0: {0: losses(2.0), 1: losses(4.0)}, 1: {0: losses(3.0)}},
        "a": {0: {0: losses(1.0), 1: losses(1.0)}, 1: {1: losses(9.0)}, 2: {0: losses(0.0)}},
    }
    assert differences(arms, "a") == [2.0]


def test_rows_in_their_span_have_the_same_products() -> None:
    rows = torch.randn(9, 40, dtype=torch.float64, generator=torch.Generator().manual_seed(3))
    small = in_their_span(rows)
    assert small.shape == (9, 9)
    assert torch.allclose(small @ small.T, rows @ rows.T)
    assert in_their_span(small) is small


def test_readme_says_what_the_committed_results_say() -> None:
    """The table of the first page has the medians over the pools that are committed, and the primary comparison."""
    results = (FOLDER / "README.md").read_text(encoding="utf-8")
    readme = (FOLDER.parents[1] / "README.md").read_text(encoding="utf-8")
    arms = {
        "the pool": "pool",
        "rule `matching`": "targeted_a",
        "rule `relevance`": "targeted_b",
        "no examples: loss screen": "untargeted",
        "preset `paper`": "paper",
    }
    composition = results[results.index("### What is selected") :]
    for words, arm in arms.items():
        row = re.search(rf"^\| `{arm}` \| \d+ \| ([\d.]+) \|.*\| ([\d. /]+) \|$", composition, re.MULTILINE)
        shown = re.search(rf"^\| [^|]*{re.escape(words)}[^|]* \| \**([\d.]+)\** \| ([\d. /]+) \|", readme, re.MULTILINE)
        assert row is not None
        assert shown is not None
        assert shown.groups() == row.groups(), arm
    found = re.search(r"`random_length`: \+([\d.]+) \(\+([\d.]+) to \+([\d.]+)\), (\d) draws", results)
    assert found is not None
    mean, low, high = (f"{float(number):.3f}" for number in found.groups()[:3])
    assert f"{mean} nats lower ({low} to {high})" in readme
    assert {"4": "four", "5": "five", "8": "eight"}[found[4]] + " pool draws" in readme


def test_results_say_what_the_committed_results_say() -> None:
    told = json.loads((FOLDER.parents[1] / "spice_select" / "results" / "measured.json").read_text(encoding="utf-8"))
    assert told == measured(FOLDER)
    results = (FOLDER / "README.md").read_text(encoding="utf-8")
    results = results[results.index("## Scale `pilot_bfloat16`") :]
    for arm, one in told["arms"].items():
        assert f"| `{arm}` | {one['draws']} | {one['mean']:+.4f} | {one['low']:+.4f} to {one['high']:+.4f} |" in results


def test_readme_says_what_the_pilot_in_bfloat16_says() -> None:
    """It shows half of the gain of the first pilot, and the first page must not hide that."""
    results = (FOLDER / "README.md").read_text(encoding="utf-8")
    results = results[results.index("## Scale `pilot_bfloat16`") :]
    readme = (FOLDER.parents[1] / "README.md").read_text(encoding="utf-8")
    for words, arm in {
        "rule `matching`": "targeted_a",
        "rule `relevance`": "targeted_b",
        "no examples: loss": "untargeted",
    }.items():
        row = re.search(
            rf"^\| `{arm}` \| (\d) \| ([+-][\d.]+) \| ([+-][\d.]+) to ([+-][\d.]+) \|", results, re.MULTILINE
        )
        assert row is not None
        mean, low, high = (float(number) for number in row.groups()[1:])
        way = "lower" if mean >= 0 else "higher"
        line = next(line for line in readme.splitlines() if line.startswith("|") and words in line)
        assert line.endswith(f"| {abs(mean):.3f} {way} ({low:.3f} to {high:.3f}) |"), arm
        assert {"4": "four", "5": "five", "6": "six", "7": "seven", "8": "eight"}[row[1]] + " draws |" in readme
