"""Forms of records: found by their columns, turned into conversations, refused with a reason."""

from __future__ import annotations

import hashlib
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import spice_select.records.records as module
from spice_select.errors import DatasetError, RowError
from spice_select.records.exact_numbers import compact_json
from spice_select.records.formats import FORMS, AmbiguousColumnsError, required_roles, roles_of
from spice_select.records.records import detect_form, row_sha256, rows_sha256, to_messages
from tests.fixtures.examples import examples

LISTED = {line.split()[0] for line in (module.__doc__ or "").splitlines() if line.startswith("    ")}
USER = {"role": "user", "content": "q"}
ASSISTANT = {"role": "assistant", "content": "a"}

DETECTED: list[tuple[dict[str, Any], str, dict[str, str]]] = [
    ({"messages": [USER, ASSISTANT]}, "messages", {"messages": "messages"}),
    ({"conversations": [USER, ASSISTANT]}, "messages", {"messages": "conversations"}),
    ({"messages": [USER, ASSISTANT], "prompt": "p", "completion": "c"}, "messages", {"messages": "messages"}),
    ({"conversations": [{"from": "human", "value": "q"}]}, "sharegpt", {"messages": "conversations"}),
    ({"messages": [{"from": "human", "value": "q"}]}, "sharegpt", {"messages": "messages"}),
    (
        {"conversations": [{"from": "human", "value": "q"}], "system": "s"},
        "sharegpt",
        {"messages": "conversations", "system": "system"},
    ),
    ({"instruction": "q", "output": "a"}, "alpaca", {"prompt": "instruction", "response": "output"}),
    (
        {"instruction": "q", "input": "i", "output": "a", "text": "all of it"},
        "alpaca",
        {"prompt": "instruction", "input": "input", "response": "output"},
    ),
    (
        {"instruction": "q", "context": "i", "response": "a", "category": "x"},
        "alpaca",
        {"prompt": "instruction", "input": "context", "response": "response"},
    ),
    ({"id": 1, "instruction": "q", "response": "a"}, "alpaca", {"prompt": "instruction", "response": "response"}),
    ({"prompt": "q", "completion": "a"}, "prompt_completion", {"prompt": "prompt", "response": "completion"}),
    ({"prompt": "q", "response": "a"}, "prompt_completion", {"prompt": "prompt", "response": "response"}),
    (
        {"prompt": [USER], "completion": [ASSISTANT]},
        "prompt_completion",
        {"prompt": "prompt", "response": "completion"},
    ),
    ({"question": "q", "answer": "a"}, "question_answer", {"prompt": "question", "response": "answer"}),
    (
        {"system_prompt": "s", "question": "q", "response": "a"},
        "question_answer",
        {"prompt": "question", "response": "response", "system": "system_prompt"},
    ),
    ({"query": "q", "response": "a"}, "question_answer", {"prompt": "query", "response": "response"}),
    ({"Question": "q", "Answer": "a"}, "question_answer", {"prompt": "Question", "response": "Answer"}),
    ({"text": "t", "meta": {}}, "text", {"text": "text"}),
]


@pytest.mark.parametrize(("record", "form", "columns"), DETECTED)
def test_form_and_columns_are_found(record: dict[str, Any], form: str, columns: dict[str, str]) -> None:
    assert detect_form([record] * 3) == (form, columns)


def test_most_records_decide_and_optional_columns_need_only_one() -> None:
    rows: list[object] = [{"text": "t"}] * 2 + [{"instruction": "q", "output": "a"}] * 3 + [None, 7, "x"]
    assert detect_form(rows) == ("alpaca", {"prompt": "instruction", "response": "output"})
    rows.append({"instruction": "q", "input": "i", "output": "a"})
    assert detect_form(rows) == ("alpaca", {"prompt": "instruction", "input": "input", "response": "output"})


def test_equally_many_go_to_the_form_that_comes_first() -> None:
    rows = [{"text": "t"}, {"question": "q", "answer": "a"}, {"instruction": "q", "output": "a"}]
    found = detect_form(rows)
    assert found is not None
    assert found[0] == "alpaca"


def test_columns_are_decided_within_the_winning_form() -> None:
    # No single pair of columns is as frequent as `text`, but the form of the first four rows is.
    rows = [{"instruction": "q", "output": "a"}] * 2 + [{"instruction": "q", "response": "a"}] * 2 + [{"text": "t"}] * 3
    assert detect_form(rows) == ("alpaca", {"prompt": "instruction", "response": "output"})


@pytest.mark.parametrize("rows", [[], [None, 3, "x", []], [{"foo": 1}], [{"instruction": "no answer"}]])
def test_no_known_form(rows: list[object]) -> None:
    assert detect_form(rows) is None


@pytest.mark.parametrize(
    ("record", "given_columns", "expected"),
    [
        (
            {"q": "x", "a": "y"},
            {"prompt": "q", "response": "a"},
            ("prompt_completion", {"prompt": "q", "response": "a"}),
        ),
        (
            {"q": "x", "a": "y", "c": "z"},
            {"prompt": "q", "response": "a", "input": "c"},
            ("alpaca", {"prompt": "q", "input": "c", "response": "a"}),
        ),
        # An `input` column is no part of a mapping that does not name it ...
        (
            {"q": "x", "a": "y", "input": "z"},
            {"prompt": "q", "response": "a"},
            ("prompt_completion", {"prompt": "q", "response": "a"}),
        ),
        # ... unless the rest is Alpaca by name.
        (
            {"instruction": "x", "a": "y", "input": "z"},
            {"prompt": "instruction", "response": "a"},
            ("alpaca", {"prompt": "instruction", "input": "input", "response": "a"}),
        ),
        ({"chat": [USER, ASSISTANT]}, {"messages": "chat"}, ("messages", {"messages": "chat"})),
        ({"chat": [{"from": "human", "value": "x"}]}, {"messages": "chat"}, ("sharegpt", {"messages": "chat"})),
        ({"body": "x"}, {"text": "body"}, ("text", {"text": "body"})),
        (
            {"question": "x", "gold": "y"},
            {"response": "gold"},
            ("question_answer", {"prompt": "question", "response": "gold"}),
        ),
        ({"q": "x", "a": "y"}, {"prompt": "nope", "response": "a"}, None),
        ({"q": "x", "a": "y"}, {"prompt": "q", "text": "a"}, None),
    ],
)
def test_named_columns_decide(record: dict[str, Any], given_columns: Any, expected: Any) -> None:
    assert detect_form([record], columns=given_columns) == expected


def test_a_named_form_is_not_second_guessed() -> None:
    row = {"text": "t", "instruction": "q", "output": "a"}
    assert detect_form([row], form="text") == ("text", {"text": "text"})
    assert detect_form([row], form="question_answer") is None


CONVERSATIONS: list[tuple[dict[str, Any], list[tuple[str, str]]]] = [
    (
        {"messages": [{"role": "system", "content": "s"}, USER, ASSISTANT]},
        [("system", "s"), ("user", "q"), ("assistant", "a")],
    ),
    ({"messages": [USER, ASSISTANT, USER]}, [("user", "q"), ("assistant", "a"), ("user", "q")]),
    ({"messages": [{"role": " User ", "content": "q"}, ASSISTANT]}, [("user", "q"), ("assistant", "a")]),
    (
        {"messages": [{"role": "developer", "content": "s"}, USER, ASSISTANT]},
        [("system", "s"), ("user", "q"), ("assistant", "a")],
    ),
    (
        {"messages": [{"role": "user", "content": [{"type": "text", "text": "q1 "}, "q2"]}, ASSISTANT]},
        [("user", "q1 q2"), ("assistant", "a")],
    ),
    (
        {
            "messages": [
                USER,
                {"role": "assistant", "content": None, "tool_calls": []},
                {"role": "tool", "content": "r"},
                ASSISTANT,
            ]
        },
        [("user", "q"), ("assistant", ""), ("tool", "r"), ("assistant", "a")],
    ),
    (
        {
            "conversations": [
                {"from": "system", "value": "s"},
                {"from": "human", "value": "q"},
                {"from": "function_call", "value": "f()"},
                {"from": "observation", "value": "1"},
                {"from": "gpt", "value": "a"},
            ]
        },
        [("system", "s"), ("user", "q"), ("assistant", "f()"), ("tool", "1"), ("assistant", "a")],
    ),
    (
        {"conversations": [{"from": "human", "value": "q"}, {"from": "gpt", "value": "a"}], "system": "s"},
        [("system", "s"), ("user", "q"), ("assistant", "a")],
    ),
    ({"messages": [USER, ASSISTANT], "system": "  "}, [("user", "q"), ("assistant", "a")]),
    (
        {"messages": [{"role": "system", "content": "own"}, USER, ASSISTANT], "system": "column"},
        [("system", "own"), ("user", "q"), ("assistant", "a")],
    ),
    ({"instruction": "do", "input": "this", "output": "a"}, [("user", "do\n\nthis"), ("assistant", "a")]),
    ({"instruction": "do", "input": "", "output": "a"}, [("user", "do"), ("assistant", "a")]),
    ({"instruction": "do", "input": None, "output": "a"}, [("user", "do"), ("assistant", "a")]),
    ({"instruction": "", "input": "this", "output": "a"}, [("user", "this"), ("assistant", "a")]),
    ({"instruction": " do\n", "output": "\ta "}, [("user", " do\n"), ("assistant", "\ta ")]),
    ({"prompt": "q", "completion": "a", "system": "s"}, [("system", "s"), ("user", "q"), ("assistant", "a")]),
    ({"prompt": [USER], "completion": [ASSISTANT]}, [("user", "q"), ("assistant", "a")]),
    (
        {"prompt": [{"role": "system", "content": "s"}, USER], "completion": "a"},
        [("system", "s"), ("user", "q"), ("assistant", "a")],
    ),
    ({"question": "q", "answer": "a"}, [("user", "q"), ("assistant", "a")]),
    ({"text": "<|im_end|> t"}, [("text", "<|im_end|> t")]),
]


@pytest.mark.parametrize(("record", "turns"), CONVERSATIONS)
def test_conversation_of_a_record(record: dict[str, Any], turns: list[tuple[str, str]]) -> None:
    found = detect_form([record])
    assert found is not None
    assert [(message["role"], message["content"]) for message in to_messages(record, *found)] == turns


ALPACA = {"prompt": "instruction", "input": "input", "response": "output"}
CHAT = {"messages": "messages"}
REFUSED: list[tuple[object, str, dict[str, str], str]] = [
    ([1], "alpaca", ALPACA, "not-an-object"),
    ("text", "text", {"text": "text"}, "not-an-object"),
    (None, "messages", CHAT, "not-an-object"),
    (True, "messages", CHAT, "not-an-object"),
    ({"output": "a"}, "alpaca", ALPACA, "missing-column"),
    ({"instruction": "q"}, "alpaca", ALPACA, "missing-column"),
    ({"messages": [{"role": "user"}, ASSISTANT]}, "messages", CHAT, "missing-column"),
    ({"instruction": "q", "output": True}, "alpaca", ALPACA, "wrong-type"),
    ({"instruction": "q", "output": {"a": 1}}, "alpaca", ALPACA, "wrong-type"),
    ({"instruction": "q", "input": ["i"], "output": "a"}, "alpaca", ALPACA, "wrong-type"),
    ({"messages": "hello"}, "messages", CHAT, "wrong-type"),
    ({"messages": ["hello"]}, "messages", CHAT, "wrong-type"),
    ({"messages": [{"role": "user", "content": True}, ASSISTANT]}, "messages", CHAT, "wrong-type"),
    (
        {"messages": [{"role": "user", "content": [{"type": "image_url", "image_url": "x"}]}, ASSISTANT]},
        "messages",
        CHAT,
        "media-not-measured",
    ),
    ({"messages": [USER, ASSISTANT], "system": 3}, "messages", {**CHAT, "system": "system"}, "wrong-type"),
    ({"text": ""}, "text", {"text": "text"}, "no-text"),
    ({"text": None}, "text", {"text": "text"}, "no-text"),
    ({"text": "\u00a0\u2003\n"}, "text", {"text": "text"}, "no-text"),
    ({"instruction": " ", "input": "\n", "output": "a"}, "alpaca", ALPACA, "empty-prompt"),
    ({"instruction": None, "output": "a"}, "alpaca", ALPACA, "empty-prompt"),
    ({"messages": [{"role": "user", "content": " "}, ASSISTANT]}, "messages", CHAT, "empty-prompt"),
    ({"messages": [{"role": "system", "content": "s"}, ASSISTANT]}, "messages", CHAT, "empty-prompt"),
    ({"messages": [ASSISTANT, USER]}, "messages", CHAT, "empty-prompt"),
    (
        {"prompt": [], "completion": "a"},
        "prompt_completion",
        {"prompt": "prompt", "response": "completion"},
        "empty-prompt",
    ),
    ({"instruction": "q", "output": ""}, "alpaca", ALPACA, "empty-response"),
    ({"instruction": "q", "output": " \n\t"}, "alpaca", ALPACA, "empty-response"),
    ({"instruction": "q", "output": None}, "alpaca", ALPACA, "empty-response"),
    ({"messages": [USER, ASSISTANT, USER, {"role": "assistant", "content": ""}]}, "messages", CHAT, "empty-response"),
    (
        {"prompt": "q", "completion": []},
        "prompt_completion",
        {"prompt": "prompt", "response": "completion"},
        "empty-response",
    ),
    ({"messages": [USER]}, "messages", CHAT, "no-assistant-turn"),
    ({"messages": []}, "messages", CHAT, "no-assistant-turn"),
    ({"messages": None}, "messages", CHAT, "no-assistant-turn"),
    ({"messages": [{"role": "narrator", "content": "x"}, ASSISTANT]}, "messages", CHAT, "unknown-role"),
    ({"messages": [{"content": "x"}, ASSISTANT]}, "messages", CHAT, "unknown-role"),
    ({"messages": [{"role": 7, "content": "x"}, ASSISTANT]}, "messages", CHAT, "unknown-role"),
]


@pytest.mark.parametrize(("record", "form", "columns", "code"), REFUSED)
def test_record_that_cannot_be_used(record: object, form: Any, columns: Any, code: str) -> None:
    with pytest.raises(RowError) as caught:
        to_messages(record, form, columns)
    assert caught.value.code == code
    assert isinstance(caught.value, DatasetError)


def test_every_reason_of_a_record_is_in_the_table_of_the_module() -> None:
    assert {code for *_, code in REFUSED} <= LISTED


def test_details_never_quote_text_and_escape_names() -> None:
    name = "secret\n\x1b[31m" + "x" * 200
    with pytest.raises(RowError) as caught:
        to_messages({name: True}, "text", {"text": name})
    assert caught.value.detail.isprintable()
    assert len(caught.value.detail) < 150
    with pytest.raises(RowError) as caught:
        to_messages(
            {"instruction": "classified", "output": ""}, "alpaca", {"prompt": "instruction", "response": "output"}
        )
    assert "classified" not in caught.value.detail


def test_digest_is_that_of_the_line() -> None:
    record = compact_json({"b": "é\u2028", "a": [1, 2.5, None]})
    assert record == '{"b":"é\u2028","a":[1,2.5,null]}'
    assert row_sha256(record) == hashlib.sha256(record.encode()).hexdigest()
    digests = [row_sha256("a"), row_sha256("b")]
    assert rows_sha256(digests) == hashlib.sha256("".join(digest + "\n" for digest in digests).encode()).hexdigest()
    assert rows_sha256(digests) != rows_sha256(reversed(digests))


VALUES = st.sampled_from([None, True, 3, 2.5, "", " ", "text", [], ["x"], {}, {"a": 1}]) | st.text(max_size=8)
TURN = st.fixed_dictionaries(
    {},
    optional={
        "role": st.sampled_from(["user", "assistant", "system", "tool", "x"]),
        "from": st.sampled_from(["human", "gpt"]),
        "content": VALUES,
        "value": VALUES,
    },
)
KEYS = st.sampled_from(
    [
        "messages",
        "conversations",
        "instruction",
        "input",
        "output",
        "prompt",
        "completion",
        "question",
        "text",
        "system",
    ]
)
RECORD = st.dictionaries(KEYS, VALUES | st.lists(TURN, max_size=4), max_size=6)


def reason_of(row: object, form: Any, columns: Any) -> str | None:
    try:
        to_messages(row, form, columns)
    except RowError as error:
        return error.code
    return None


@settings(max_examples=examples(150))
@given(st.lists(RECORD | VALUES, max_size=6))
def test_anything_becomes_a_sound_conversation_or_a_reason(rows: list[Any]) -> None:
    try:
        found = detect_form(rows)
    except AmbiguousColumnsError:
        return
    if found is None:
        return
    form, columns = found
    assert form in FORMS
    assert set(required_roles(form)) <= set(columns) <= set(roles_of(form))
    reasons = [reason_of(row, form, columns) for row in rows]
    for row, reason in zip(rows, reasons, strict=True):
        if reason is not None:
            assert reason in LISTED
            continue
        messages = to_messages(row, form, columns)
        spoken = {message["role"] for message in messages if message["content"].strip()}
        assert all(isinstance(message["content"], str) for message in messages)
        assert spoken == {"text"} if form == "text" else "assistant" in spoken and spoken & {"user", "tool"}
