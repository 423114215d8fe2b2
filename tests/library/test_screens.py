"""Screens: what leaves the pool before the selection, with what reason, and what the result says about it."""

import json
import random
import re
from pathlib import Path

import numpy as np
import pytest

import spice_select as ss
from spice_select.errors import BudgetError, ConfigError
from spice_select.pipeline.run import run
from spice_select.records.contamination import Benchmark, contaminated
from spice_select.records.unrelated_responses import unrelated_responses
from spice_select.storage.shards import read_shard
from tests.fixtures.results import alpaca, jsonl

TOPICS = ["rivers", "engines", "bread", "stars", "ledgers", "violins", "glaciers", "beetles", "harbours", "looms"]


def stories(count, seed=0):
    """Texts of a few sentences that have nothing but common words in common."""
    draw = random.Random(seed)
    letters = "abcdefghijklmnoprstuvw"
    vocabulary = ["".join(draw.choices(letters, k=draw.randint(3, 9))) for _ in range(3000)]
    return [
        " ".join(
            " ".join([f"The {draw.choice(TOPICS)}", *draw.choices(vocabulary, k=draw.randint(9, 16))]).capitalize()
            + "."
            for _ in range(draw.randint(2, 5))
        )
        for _ in range(count)
    ]


def test_planted_rows_are_found_verbatim_reordered_and_changed_without_false_alarms():
    draw = random.Random(3)
    texts = stories(1500)
    benchmark, others = texts[:300], texts[300:]
    vocabulary = sorted({word for text in others for word in text.split()})
    reordered, changed = [], []
    for text in benchmark[100:200]:
        sentences = re.split(r"(?<=\.)\s", text)
        reordered.append(" ".join(sentences[1:] + sentences[:1]))
    for text in benchmark[200:]:
        words = text.split()
        for place in draw.sample(range(len(words)), max(1, len(words) // 10)):
            words[place] = draw.choice(vocabulary)
        changed.append(" ".join(words))
    hits = contaminated([*benchmark[:100], *reordered, *changed, *others], [Benchmark("held", benchmark)], 8)
    found = {hit.place: hit.row for hit in hits}
    assert all(found.get(place) == place for place in range(200))
    assert sum(found.get(place) == place for place in range(200, 300)) >= 95
    assert sum(place >= 300 for place in found) <= 0.005 * len(others)


def test_the_same_common_task_in_other_words_is_no_contamination():
    draw = random.Random(5)
    task = stories(1, 9)[0].split() + stories(1, 10)[0].split()
    choices = {place: stories(1, place)[0].split()[:5] for place in draw.sample(range(len(task)), len(task) // 4)}

    def told():
        return " ".join(
            draw.choice([word, *choices[place]]) if place in choices else word for place, word in enumerate(task)
        )

    rows = [told() for _ in range(200)]
    own = stories(40, 11)
    copies = []
    for text in own:
        words = text.split()
        words[len(words) // 2] = "replaced"
        copies.append(" ".join(words))
    hits = contaminated([*rows[:190], *copies], [Benchmark("held", [*rows[190:], *own])], 8)
    assert sum(hit.place < 190 for hit in hits) <= 4
    assert {hit.place - 190: hit.row - 10 for hit in hits if hit.place >= 190} == {place: place for place in range(40)}


def test_several_changed_copies_of_one_row_are_all_found():
    draw = random.Random(6)
    benchmark, others = stories(1, 21), stories(300, 22)
    vocabulary = sorted({word for text in others for word in text.split()})
    copies = []
    for _ in range(4):
        words = benchmark[0].split()
        for place in draw.sample(range(len(words)), len(words) // 10):
            words[place] = draw.choice(vocabulary)
        copies.append(" ".join(words))
    found = {hit.place for hit in contaminated([*copies, *others], [Benchmark("held", benchmark)], 8)}
    assert found == {0, 1, 2, 3}


def test_a_phrase_of_the_format_is_no_contamination():
    frame = "Below is an instruction that describes a task write a response that completes the request "
    texts = [frame + story for story in stories(300)]
    assert contaminated(texts[:200], [Benchmark("held", texts[200:])], 8) == []


@pytest.mark.parametrize(
    ("rows", "text"), [(["one"], "words or more"), (["ключ дом река лес поле"], "another language")]
)
def test_a_benchmark_in_which_nothing_could_be_found_is_refused(rows, text):
    with pytest.raises(ConfigError, match=text) as caught:
        contaminated(stories(20), [Benchmark("held", stories(3)), Benchmark("bad", rows)], 8)
    assert caught.value.errors[0]["pointer"] == "#/screens/contamination/1"


@pytest.fixture
def pool(tmp_path: Path) -> Path:
    """30 rows: row 28 repeats row 3 but for a mark, row 29 is long."""
    records = [{"instruction": f"Tell me of case {row}.", "output": text} for row, text in enumerate(stories(30))]
    records[28] = {**records[3], "output": records[3]["output"] + "!"}
    records[29] = {"instruction": "Go on.", "output": " ".join(stories(6, seed=9))}
    (tmp_path / "pool.jsonl").write_bytes(jsonl(records))
    return tmp_path / "pool.jsonl"


def config(count, **screens):
    return ss.RunConfig.model_validate({"selection": {"budget": {"count": count}}, "conditions": {"screens": screens}})


def test_every_row_that_leaves_is_listed_with_a_reason_and_stated(pool, tmp_path):
    benchmark = tmp_path / "benchmark.jsonl"
    benchmark.write_bytes(jsonl([{"instruction": "Tell me of case 5.", "output": stories(30)[5]}]))
    settings = config(20, near_duplicates=0.7, max_tokens=600)
    result = run(pool, settings, tmp_path / "out", benchmarks=[benchmark])
    reasons = {item["row"]: (item["code"], item["detail"]) for item in result.excluded}
    assert {row: code for row, (code, _) in reasons.items()} == {5: "contamination", 28: "near-duplicate", 29: "length"}
    assert "of row 3, which is kept" in reasons[28][1]
    assert "row 0 of 'benchmark.jsonl'" in reasons[5][1]
    assert "1 to 600" in reasons[29][1] or "0 to 600" in reasons[29][1]
    assert not {row.source_row for row in result.ranking} & {5, 28, 29}
    parameters = result.statement["predicate"]["buildDefinition"]["internalParameters"]
    assert parameters["excluded"] == {"contamination": 1, "length": 1, "near-duplicate": 1}
    assert parameters["decontamination"]["source_rows"] == [5]
    assert parameters["decontamination"]["words"] == 8
    assert [item["name"] for item in parameters["decontamination"]["sets"]] == ["benchmark.jsonl"]
    assert result.summary["decontamination"] == parameters["decontamination"]
    assert json.loads((tmp_path / "out" / "provenance.intoto.jsonl").read_text())


SORRY = "I am sorry, but I cannot help with that."


def test_a_response_to_prompts_with_nothing_in_common_leaves_with_all_rows_that_have_it(tmp_path):
    asked = stories(12, seed=4)
    records = [{"instruction": text, "output": answer} for text, answer in zip(asked, stories(12, seed=5), strict=True)]
    for row in (1, 4, 7):
        records[row]["output"] = SORRY
    records[10]["output"] = SORRY.replace("am", "AM").replace(",", "")
    task = "Write a function in C that gives the factorial of {}."
    records += [
        {"instruction": task.format(name), "output": "int f(int n) { return n ? n * f(n - 1) : 1; }"} for name in "abcd"
    ]
    records += [{"instruction": text, "output": "Yes, it is"} for text in stories(4, seed=6)]
    (tmp_path / "pool.jsonl").write_bytes(jsonl(records))
    result = run(tmp_path / "pool.jsonl", config(5, repeated_responses=3), tmp_path / "out")
    found = {item["row"]: (item["code"], item["detail"]) for item in result.excluded}
    assert sorted(found) == [1, 4, 7, 10]
    assert {code for code, _ in found.values()} == {"repeated-response"}
    assert found[10][1] == ("4 rows have this response; the prompts of rows 1, 4, 7 have next to no words in common")
    assert result.summary["excluded_by_code"] == {"repeated-response": 4}
    assert run(tmp_path / "pool.jsonl", config(5, repeated_responses=5)).excluded == []
    kept = run(tmp_path / "pool.jsonl", config(18, repeated_responses=3, if_short="keep"))
    assert [item["row"] for item in kept.excluded] == [7, 10]


@pytest.mark.parametrize(
    "records",
    [
        [{"text": SORRY + str(row)} for row in range(5)],
        [{"instruction": "!?", "output": SORRY}] * 5,
    ],
)
def test_responses_to_no_prompt_are_not_repeated_ones(tmp_path, records):
    (tmp_path / "pool.jsonl").write_bytes(jsonl(records))
    assert run(tmp_path / "pool.jsonl", config(2, near_duplicates=None, repeated_responses=2)).excluded == []


def topical(count):
    """Prompts, each with a response that has words of its own topic and many that all have."""
    names = ["".join(random.Random(place).choices("bdfgklmnprstvz", k=9)) for place in range(count)]
    asked = [f"Please explain to a beginner how the {name} is used" for name in names]
    said = [f"People use it for the garden and for the house; the {name}s are old and easy to use." for name in names]
    return asked, said


def test_a_response_that_fits_other_prompts_as_well_as_its_own_leaves(tmp_path):
    asked, said = topical(80)
    said[5], said[6] = said[6], said[5]
    said[7] = "Nobody knows."
    records = [{"instruction": text, "output": answer} for text, answer in zip(asked, said, strict=True)]
    (tmp_path / "pool.jsonl").write_bytes(jsonl(records))
    result = run(
        tmp_path / "pool.jsonl", config(5, near_duplicates=None, repeated_responses=None, unrelated_responses=0.05)
    )
    found = {item["row"]: (item["code"], item["detail"]) for item in result.excluded}
    assert sorted(found) == [5, 6]
    assert found[5] == (
        "unrelated-response",
        "the response has as much in common with 98.7% of 79 other prompts as with its own, 5.0% are allowed; most "
        "with that of row 6",
    )
    off = run(
        tmp_path / "pool.jsonl", config(5, near_duplicates=None, repeated_responses=None, unrelated_responses=None)
    )
    assert off.excluded == []


def test_nothing_is_concluded_where_nothing_can_be():
    asked, said = topical(80)
    strange = ["\u0441\u043b\u043e\u0432\u043e " * 9] * 80  # another script: nothing in common with any prompt
    assert unrelated_responses(asked, strange, 0.05) == []
    assert unrelated_responses(asked[:49], said[48::-1], 0.05) == []
    assert unrelated_responses([""] * 80, said, 0.05) == []
    assert unrelated_responses([asked[0]] * 80, said, 0.05) == []
    twice = unrelated_responses(asked + asked[:3], said + said[:3], 0.0)
    assert twice == []
    assert len(unrelated_responses(asked, said[1:] + said[:1], 0.05)) > 70


def test_contamination_can_be_refused(pool, tmp_path):
    benchmark = tmp_path / "benchmark.jsonl"
    benchmark.write_bytes(jsonl([{"instruction": "Tell me of case 5.", "output": stories(30)[5]}]))
    with pytest.raises(ConfigError, match="1 rows repeat") as caught:
        run(pool, config(5, refuse_contamination=True), benchmarks=[benchmark])
    assert caught.value.errors[0]["pointer"] == "#/screens/refuse_contamination"


def test_screens_that_leave_too_little_are_refused(pool):
    with pytest.raises(BudgetError, match="length 30") as caught:
        run(pool, config(5, max_tokens=9))
    assert caught.value.errors[0]["pointer"] == "#/screens"


def test_losses_of_a_proxy_that_was_never_trained_are_refused(pool):
    with pytest.raises(ConfigError, match="never trained") as caught:
        run(pool, config(5, loss_outliers=3.0))
    assert caught.value.errors[0]["pointer"] == "#/screens/loss_outliers"


def test_loss_outliers_lie_above_the_median_by_so_many_deviations(tmp_path):
    (tmp_path / "pool.jsonl").write_bytes(jsonl(alpaca(24)))
    settings = ss.RunConfig.model_validate(
        {
            "selection": {"budget": {"count": 5}},
            "gradients": {"warmup_steps": 3},
            "conditions": {"screens": {"loss_outliers": 1.0}},
        }
    )
    result = run(tmp_path / "pool.jsonl", settings, cache=tmp_path / "cache")
    losses = read_shard(next((tmp_path / "cache" / "gradients").iterdir())).losses
    median = np.median(losses)
    limit = median + 1.4826 * np.median(np.abs(losses - median))
    expected = np.flatnonzero(losses > limit).tolist()
    assert expected
    assert [item["row"] for item in result.excluded if item["code"] == "loss-outlier"] == expected
    assert f"above {limit:.4f}" in result.excluded[0]["detail"]
