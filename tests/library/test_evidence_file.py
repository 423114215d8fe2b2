"""``evidence.parquet`` of local runs, and what is said about a row in words."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

import spice_select as ss
from spice_select.pipeline.run import run
from spice_select.pipeline.targets import TargetFile
from spice_select.results.evidence_file import EVIDENCE_SCHEMA, read_row_evidence
from spice_select.results.row_evidence import RowEvidence, SelectionFacts, why
from spice_select.results.verify import verify_folder
from tests.fixtures.commands import Command
from tests.fixtures.results import alpaca, jsonl


def made(folder: Path, *, targets: bool = True, **selection: Any) -> Path:
    """The evidence of a local run: 39 usable rows of 40, of which two are target rows."""
    rows: list[Any] = alpaca(50)
    rows[7] = "no object"
    (folder / "pool.jsonl").write_bytes(jsonl(rows[:40]))
    (folder / "target.jsonl").write_bytes(jsonl([*rows[:2], "no object", *rows[40:44]]))
    config = ss.RunConfig.model_validate({"selection": {"budget": {"count": 6}, **selection}})
    given = [TargetFile("sums", folder / "target.jsonl")] if targets else []
    run(folder / "pool.jsonl", config, folder / "out", targets=given)
    assert verify_folder(folder / "out", folder / "pool.jsonl").ok
    return folder / "out" / "evidence.parquet"


@pytest.mark.parametrize("span", [False, True])
def test_the_file_has_every_usable_row_in_order_and_agrees_with_the_ranking(tmp_path: Path, span: bool) -> None:
    path = made(tmp_path, span=span)
    assert pq.read_schema(path).equals(EVIDENCE_SCHEMA)
    rows = pq.read_table(path).to_pylist()
    assert [row["source_row"] for row in rows] == [row for row in range(40) if row != 7]
    picks = {row["source_row"]: row for row in pq.read_table(tmp_path / "out" / "ranking.parquet").to_pylist()}
    for row in rows:
        found, facts = read_row_evidence(path, row["source_row"])
        assert found == RowEvidence.model_validate(row)
        assert {near["row"] for near in row["nearest_targets"]} <= {0, 1, 3, 4, 5, 6}, "row 2 of the target is unusable"
        if row["source_row"] < 2:
            assert (row["code"], row["nearest_targets"][0]["row"]) == ("in-target", row["source_row"])
            assert row["nearest_targets"][0]["cosine"] == pytest.approx(1.0, abs=1e-6)
        if row["rank"] is not None:
            pick = picks.pop(row["source_row"])
            assert row["relevance"] == pytest.approx(pick["relevance"], abs=1e-9)
            assert pick["nearest_pick"] == row["nearest_pick"]
            assert pick["nearest_target_cosine"] == row["nearest_targets"][0]["cosine"]
    assert not picks
    assert facts == SelectionFacts(
        method="spice", candidates=37, selected=6, target_rule="matching", last_gain=facts.last_gain,
        last_score=facts.last_score, picks={"sums": 6},
    )  # fmt: skip
    assert read_row_evidence(path, 7)[0] is None


def test_without_targets_there_is_evidence_and_in_parts_there_is_none(tmp_path: Path) -> None:
    whole = made(tmp_path, targets=False)
    row, facts = read_row_evidence(whole, 3)
    assert row is not None
    assert (row.target, row.relevance, row.nearest_targets, facts.picks) == (None, None, [], {})
    assert row.gain is not None
    (tmp_path / "parts").mkdir()
    assert not made(tmp_path / "parts", targets=False, scope={"kind": "partitioned", "parts": 2}).exists()


def test_a_row_that_was_not_selected_has_the_score_of_the_next_pick(tmp_path: Path) -> None:
    (tmp_path / "plain").mkdir()
    rule: dict[str, Any] = {
        "targets": False,
        "matching_weight": 0.0,
        "information_weight": 2.0,
        "conflict_penalty": 0.3,
    }
    table = pq.read_table(made(tmp_path / "plain", **rule)).to_pylist()
    others = [one for one in table if one["status"] == "not_selected"]
    for one in others:
        assert one["score"] == pytest.approx(2 * one["gain"] - 0.3 * one["conflict"], abs=1e-12)
    longer = tmp_path / "longer"
    longer.mkdir()
    following = pq.read_table(made(longer, budget={"count": 7}, **rule)).to_pylist()
    following = [one for one in following if one["rank"] == 7]
    assert following[0]["score"] == pytest.approx(max(one["score"] for one in others), abs=1e-9)


@pytest.mark.parametrize("method", ["bm25", "embedding", "less"])
def test_other_methods_with_targets_say_what_their_ranking_says(tmp_path: Path, method: str) -> None:
    path = made(tmp_path, method=method)
    for pick in pq.read_table(tmp_path / "out" / "ranking.parquet").to_pylist():
        row, facts = read_row_evidence(path, pick["source_row"])
        assert row is not None
        assert (row.rank, row.nearest_pick) == (pick["rank"], pick["nearest_pick"])
        if method == "less":
            assert row.relevance_rank == pick["rank"], "less takes the most relevant first"
        else:
            assert (row.target, row.relevance) == (pick["target"], pick["relevance"])
        assert f"by the method {method}" in why(row, facts)


def test_the_command_line_explains_rows_of_a_folder(tmp_path: Path, spice: Command) -> None:
    path = made(tmp_path)
    for row in (0, int(pq.read_table(path, filters=[("rank", "=", 1)])["source_row"][0].as_py())):
        evidence, facts = read_row_evidence(path, row)
        assert evidence is not None
        shown = spice("explain", path.parent, row)
        assert (shown.status, shown.out.splitlines()[0]) == (0, why(evidence, facts))
        assert f"near it in the target sums: row {evidence.nearest_targets[0].row}, cosine" in shown.out
        told = spice("explain", path.parent, row, "--json").json()
        assert (told["why"], told["rank"]) == (why(evidence, facts), evidence.rank)
    for wrong, words in (
        ([path.parent, 7], "row 7 is no usable row"),
        ([tmp_path, 1], "holds no evidence.parquet"),
        ([tmp_path / "none", 1], "neither the folder of a result nor the id of a job"),
    ):
        ended = spice("explain", *wrong)
        assert ended.status == 2
        assert words in ended.err


FACTS = SelectionFacts(
    method="spice", candidates=400, selected=40, target_rule="matching", last_gain=0.3, picks={"math": 20}
)
NEAR = {"nearest_pick": 8, "nearest_pick_rank": 2}
PICK = {"status": "selected", "target": "math", "relevance": 0.6, "relevance_rank": 3, "picks_above": 2, "gain": 0.41}
OTHER = {**PICK, "status": "not_selected", "gain": 0.02, "picks_above": 20}


@pytest.mark.parametrize(
    ("row", "facts", "said"),
    [
        (
            {**PICK, "rank": 5, **NEAR, "nearest_pick_cosine": 0.96},
            {},
            "Row 1 was selected as pick 5 of 40, for the target 'math'. It is number 3 of 400 candidates by relevance "
            "for it (0.6). It adds 0.41 nats to the picks before it. The nearest earlier pick is pick 2 (row 8, cosine "
            "0.96): the row repeats nearly all of it.",
        ),
        (
            {**PICK, "rank": 1, "relevance_rank": 99},
            {},
            "Row 1 was selected as pick 1 of 40, for the target 'math'. It is number 99 of 400 candidates by relevance "
            "for it (0.6). More relevant candidates were passed over: they resemble earlier picks, and the rule "
            "matching takes what the picks for a target still lack. As the first pick it adds 0.41 nats.",
        ),
        (
            {"status": "selected", "rank": 1, "gain": 0.5},
            {"must_include": 1},
            "Row 1 was selected as pick 1 of 40 because the job says that it must be included. As the first pick it "
            "adds 0.5 nats.",
        ),
        (
            {**OTHER, **NEAR, "nearest_pick_cosine": 0.8},
            {"stopped": True, "quotas": True},
            "Row 1 was a candidate and was not selected. It is number 3 of 400 candidates by relevance for the target "
            "'math' (0.6); each of the 20 picks for that target is more relevant. Pick 2 (row 8, cosine 0.80) covers "
            "much of it. It would add 0.02 nats to the picks, the last pick added 0.3: other rows had more to add. "
            "Quotas limit how many rows of its group could be picked. The job "
            "was stopped after 40 picks, before its budget was used up.",
        ),
        (
            {**OTHER, "gain": 0.5},
            {},
            "Row 1 was a candidate and was not selected. It is number 3 of 400 candidates by relevance for the target "
            "'math' (0.6); each of the 20 picks for that target is more relevant. It would add 0.5 nats to the picks, "
            "the last pick added 0.3: new to the picks, but of little use to the target.",
        ),
        (
            {**OTHER, "picks_above": 4},
            {},
            "Row 1 was a candidate and was not selected. It is number 3 of 400 candidates by relevance for the target "
            "'math' (0.6); 4 of the 20 picks for that target are more relevant. The others were picked for what they "
            "add to the picks before them. It would add 0.02 nats to the picks, the last pick added 0.3: other rows "
            "had more to add.",
        ),
        (
            {**OTHER, "picks_above": 4, "gain": 0.5},
            {},
            "Row 1 was a candidate and was not selected. It is number 3 of 400 candidates by relevance for the target "
            "'math' (0.6); 4 of the 20 picks for that target are more relevant. The others were picked for what they "
            "add to the picks before them. It would add 0.5 nats to the picks, the last pick added 0.3. Other rows had "
            "more of what the picks for the target still lacked, which the rule matching takes.",
        ),
        (
            {"status": "not_selected", "gain": 0.31, "score": 0.25, **NEAR, "nearest_pick_cosine": 0.4},
            {"target_rule": None, "picks": {}, "last_score": 0.29},
            "Row 1 was a candidate and was not selected. The nearest pick is pick 2 (row 8, cosine 0.40). It would add "
            "0.31 nats to the picks, the last pick added 0.3. Its score as the next pick would be 0.25, that of the "
            "last pick was 0.29.",
        ),
        (
            {**OTHER, "relevance_rank": 57},
            {"method": "less"},
            "Row 1 was a candidate and was not selected by the method less, which has its own order of rows. In "
            "that, relevance, it is number 57 of 400 candidates (0.6); 40 were picked.",
        ),
        (
            {"status": "not_selected"},
            {"method": "bm25"},
            "Row 1 was a candidate and was not selected by the method bm25, which has its own order of rows. Target "
            "rows pick in turn, each the candidate left that scores highest for it; none of them came to this row.",
        ),
        (
            {"status": "not_selected", "gain": 0.2},
            {"method": "random"},
            "Row 1 was a candidate and was not selected by the method random, which has its own order of rows.",
        ),
        (
            {"status": "excluded", "code": "length", "detail": "900 tokens, 5 to 100 are kept"},
            {},
            "Row 1 was not a candidate. The screen length took it out: 900 tokens, 5 to 100 are kept.",
        ),
        (
            {"status": "excluded", "code": "too-long", "detail": "the prompt alone is too long"},
            {},
            "Row 1 was not a candidate. The prompt alone is too long.",
        ),
    ],
)
def test_a_row_is_explained_in_plain_english(row: dict[str, Any], facts: dict[str, Any], said: str) -> None:
    assert why(RowEvidence(source_row=1, **row), FACTS.model_copy(update=facts)) == said
