"""What the plots of a job's page show, against slow obvious twins and the files of the result."""

from __future__ import annotations

import random
from collections import Counter

import pytest

from app.services.results.previews import Stretch, spread
from app.ui.labels import excerpt
from app.ui.plots import gain_plot, group_shares, length_shares, plots, shares, table
from app.ui.snippets import uses
from tests.conftest import SEED
from tests.fixtures.service import InProcessService, jsonl, sums


def test_stretches_are_the_ranking_taken_together(any_service: InProcessService) -> None:
    dataset = any_service.push(jsonl(sums(60)))
    job = any_service.submit(dataset["id"], budget={"count": 23}, selection={"conflict_penalty": 0.5})
    any_service.drain()
    picks = any_service.http.get(f"/v1/jobs/{job['id']}/selection").json()["data"]
    pictures = any_service.app.state.services.previews
    for most, length in ((600, 1), (23, 1), (22, 2), (5, 5), (1, 23)):
        found = pictures.stretches("proj_default", job["id"], 23, most)
        parts = [picks[start : start + length] for start in range(0, 23, length)]
        assert [(stretch.first, stretch.last) for stretch in found] == [
            (part[0]["rank"], part[-1]["rank"]) for part in parts
        ]
        for stretch, part in zip(found, parts, strict=True):
            assert stretch.gain == pytest.approx(sum(pick["gain"] for pick in part) / len(part))
            assert stretch.conflict == pytest.approx(sum(pick["conflict"] for pick in part) / len(part))
            assert stretch.worst_conflict == max(pick["conflict"] for pick in part)
            assert stretch.utility == pytest.approx(sum(pick["gain"] for pick in picks[: stretch.last]))
    drawn = any_service.http.get(f"/ui/jobs/{job['id']}/plots").json()
    result = any_service.job(job["id"])["result"]
    assert drawn["gain"]["series"][0]["values"] == [pick["gain"] for pick in picks]
    assert drawn["conflict"]["series"][0]["values"] == [pick["conflict"] for pick in picks]
    chosen, control, bound = (series["values"] for series in drawn["utility"]["series"])
    assert chosen[-1] == pytest.approx(result["utility"])
    assert control[-1] == result["random_control"]["utility"]
    assert set(bound) == {result["certificate"]["upper_bound"]}


def stretches(gains: list[float]) -> list[Stretch]:
    return [Stretch(i, i, gain, 0.0, 0.1 * i, sum(gains[:i])) for i, gain in enumerate(gains, 1)]


def test_the_caption_says_where_the_stop_ratio_is() -> None:
    found, result = stretches([1.0, 0.8, 0.6, 0.5, 0.3]), {"first_gain": 1.0, "last_gain": 0.3}
    assert "would have stopped it at pick 4." in gain_plot(found, result, None).caption
    assert "would not have stopped it" in gain_plot(found[:3], result, None).caption
    assert "0.9, at 0.9 nats" in gain_plot(found, result, 0.9).caption
    assert gain_plot(found, result, 0.9).data["series"][1]["values"] == [0.9] * 5


def test_results_without_controls_or_picks_are_drawn_as_far_as_they_go() -> None:
    assert plots([], {}, {}) == []
    result = {"first_gain": 1.0, "last_gain": 0.8, "mean_conflict": 0.1, "selected": 2, "utility": 1.8}
    found = {plot.name: plot for plot in plots(stretches([1.0, 0.8]), result, {"stop_ratio": None})}
    assert [series["label"] for series in found["utility"].data["series"]] == ["Selected"]
    windows = plots(stretches([1.0, 0.8]), {**result, "utility": 1.2}, {"stop_ratio": None})
    assert "inside the parts of the pool" in windows[1].caption
    surrogate = plots(stretches([1.0, 0.8]), {**result, "utility": 1.2}, {"information": "scalar"})
    assert "of the scalar surrogate" in surrogate[1].caption
    single = plots(stretches([1.0]), {**result, "selected": 1, "utility": 1.0}, {})
    assert single[1].caption == "The only pick holds 1 nats."


def test_shares_are_of_the_pool_and_of_the_choice() -> None:
    rows = shares([("a", 30, 1), ("b", 10, 3)])
    assert [(row.pool_share, row.selected_share) for row in rows] == [(0.75, 0.25), (0.25, 0.75)]
    assert [round(100 * row.pool_width) for row in rows] == [100, 33]
    assert not shares([("a", 0, 0)])[0].pool_share
    lengths = length_shares({"tokens": {"edges": [1, 2, 4], "pool": [1, 3], "selected": [0, 2]}})
    assert [(row.name, row.pool, row.selected) for row in lengths] == [("1", 1, 0), ("2 to 3", 3, 2)]
    assert length_shares({}) == []


def test_values_that_are_not_listed_are_counted_as_others() -> None:
    draw = random.Random(SEED)
    pool = Counter(draw.choice("abcdefgh") for _ in range(200))
    mine = Counter({name: draw.randint(0, count) for name, count in pool.items()})
    listed = [{"name": name, "pool": count, "selected": mine[name]} for name, count in pool.most_common(5)]
    found = group_shares({"groups": {"column": "c", "groups": listed}}, mine.total(), 200)
    assert found is not None
    column, rows = found
    assert column == "c"
    assert rows[-1].name == "(others)"
    assert sum(row.pool for row in rows) == 200
    assert sum(row.selected for row in rows) == mine.total()
    assert group_shares({"groups": None}, 1, 1) is None


def test_tables_hide_no_conflict_between_their_rows() -> None:
    stretches = [Stretch(i, i, 1.0, 0.0, 0.5 if i == 20 else 0.0, float(i)) for i in range(1, 41)]
    rows = table(stretches)
    assert [row.last for row in rows if row.worst_conflict] == [22], "the row that pick 20 is summed up in"
    assert [table(stretches[:n])[-1].last for n in (1, 2, 12, 13)] == [1, 2, 12, 13]
    assert table([]) == []


def test_tables_keep_both_ends() -> None:
    found = stretches([1.0] * 100)
    assert [row.last for row in spread(found, 4)] == [1, 34, 67, 100]
    assert list(spread(found, 200)) == found


def test_lines_to_copy_show_the_key_only_where_one_is_needed() -> None:
    free, locked = uses("http://h:1", "job_1", keys=False), uses("https://h", "job_1", keys=True)
    assert not [use for use in free if "SPICE_API_KEY" in use.text]
    assert "os.environ" in locked[0].text
    assert locked[-1].text.startswith(
        'curl --fail --remote-name -H "Authorization: Bearer $SPICE_API_KEY" https://h/v1/'
    )
    for use in (*free, *locked):
        if "load_dataset" in use.text:
            compile(use.text, "<copied>", "exec")


def test_long_texts_are_cut_at_a_word() -> None:
    assert excerpt("short ") == "short"
    cut = excerpt("word " * 300)
    assert len(cut) <= 702
    assert cut.endswith("word \N{HORIZONTAL ELLIPSIS}")


def test_groups_show_the_mix_that_the_targets_imply() -> None:
    listed = [
        {"name": "a", "pool": 6, "selected": 3, "implied": 0.75},
        {"name": "", "pool": 2, "selected": 1, "implied": 0.25},
    ]
    found = group_shares({"groups": {"column": "c", "groups": listed}}, 4, 9)
    assert found is not None
    assert [(share.name, share.implied) for share in found[1]] == [("a", 0.75), ("(empty)", 0.25), ("(others)", None)]
