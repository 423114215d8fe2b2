"""An answer that was judged bad is never learned as a good one, however the judgement and the columns are spelt."""

from __future__ import annotations

import json
from typing import Any

import pytest

from spice_select.records.formats import detect_form, is_judgement
from spice_select.records.records import to_messages
from spice_select.records.suggested_columns import inner_messages, suggested_columns


def read(record: dict[str, Any]) -> list[dict[str, Any]]:
    return list(
        to_messages({"messages": [{"role": "user", "content": "q"}, record]}, "messages", {"messages": "messages"})
    )


@pytest.mark.parametrize(
    ("good", "bad"),
    [(True, False), (1, 0), (1.0, 0.0), ("true", "false"), ("True", "False"), ("1", "0"), (" TRUE ", "FALSE")],
)
@pytest.mark.parametrize("answer", ["completion", "response"])
def test_a_judgement_in_any_spelling_makes_preference_data(answer: str, good: Any, bad: Any) -> None:
    records = [{"prompt": "q", answer: "GOOD", "label": good}, {"prompt": "q", answer: "BAD", "label": bad}]
    found = detect_form(records)
    assert found == ("preference", {"prompt": "prompt", "response": answer, "label": "label"})
    assert [to_messages(record, *found).desirable for record in records] == [True, False]
    given = {"prompt": "prompt", "response": answer, "label": "label"}
    assert detect_form(records, columns=given) == found  # type: ignore[arg-type]


def test_conversations_are_judged_alike() -> None:
    turns = [{"role": "user", "content": "q"}, {"role": "assistant", "content": "BAD"}]
    found = detect_form([{"messages": turns, "label": 0}, {"messages": turns, "label": 1}])
    assert found is not None
    assert found[0] == "preference"


@pytest.mark.parametrize("labels", [(0, 1, 2), (1, "spam", 0), (0.5, 1, 0), ("1", "0", "7")])
def test_a_column_that_says_more_is_no_judgement(labels: tuple[Any, ...]) -> None:
    found = detect_form([{"prompt": "q", "completion": "a", "label": label} for label in labels])
    assert found == ("prompt_completion", {"prompt": "prompt", "response": "completion"})
    assert not all(is_judgement(label) for label in labels)


@pytest.mark.parametrize(
    ("better", "worse"), [("winner", "loser"), ("accepted", "rejected"), ("Preferred", "dispreferred")]
)
def test_a_worse_answer_is_never_suggested_as_the_response(better: str, worse: str) -> None:
    record = {better: "a good answer", "frage": "which?", worse: "a bad answer that is much longer than the other"}
    assert suggested_columns([record]) == {"prompt": "frage", "chosen": better, "rejected": worse}


@pytest.mark.parametrize("names", [("response_a", "response_b"), ("response_j", "response_k"), ("answer1", "answer2")])
def test_nothing_is_suggested_where_the_names_do_not_tell(names: tuple[str, str]) -> None:
    assert suggested_columns([{"frage": "which?", **dict.fromkeys(names, "an answer")}]) is None


CALL = {"name": "depth", "arguments": {"at": 3}}


def test_a_call_in_both_dialects_is_one_call() -> None:
    both = {
        "role": "assistant",
        "tool_calls": [{"id": "c1", "type": "function", "function": CALL}],
        "function_call": CALL,
    }
    assert len(read(both)[1]["tool_calls"]) == 1
    other = {**both, "function_call": {**CALL, "arguments": json.dumps({"at": 4})}}
    assert len(read(other)[1]["tool_calls"]) == 2


def test_arguments_beside_the_function_are_its_arguments() -> None:
    beside = {"role": "assistant", "tool_calls": [{"function": {"name": "depth"}, "arguments": {"at": 3}}]}
    assert read(beside)[1]["tool_calls"][0]["function"] == CALL


@pytest.mark.parametrize("number", ["1e400", "NaN", "Infinity", "-Infinity"])
def test_arguments_never_become_infinite(number: str) -> None:
    text = f'{{"at": {number}}}'
    turn = {"role": "assistant", "tool_calls": [{"function": {"name": "depth", "arguments": text}}]}
    assert read(turn)[1]["tool_calls"][0]["function"]["arguments"] == text, "as it was written"


BATCH = {"custom_id": "r1", "method": "POST", "url": "/v1/chat/completions", "body": {"messages": [{"role": "user"}]}}


def test_names_addresses_and_settings_of_rows_are_not_suggested() -> None:
    batch = [{**BATCH, "custom_id": f"request-{number}"} for number in range(3)]
    assert suggested_columns(batch) is None
    assert inner_messages(batch) == "body.messages"
    rows = [
        {"uuid": f"a{n}", "lang": "en", "page": f"https://a.invalid/{n}", "frage": f"q {n}", "antwort": f"a {n}"}
        for n in range(3)
    ]
    assert suggested_columns(rows) == {"prompt": "frage", "response": "antwort"}
    assert inner_messages(rows) is None
