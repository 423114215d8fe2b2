"""Every value of a record is rendered, known to be a label of a message, or named in a warning with its path."""

from __future__ import annotations

import copy
import json
import random
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from spice_select.errors import DatasetError
from spice_select.ingest import iter_rows
from spice_select.ingest.manifest import DatasetManifest, IntakeLimits, IntakeOptions
from spice_select.ingest.parse import parse
from spice_select.models.tiny import build_tiny_tokenizer
from spice_select.records import accounting
from spice_select.records.chat_template import ChatFormat
from spice_select.records.conversation import Conversation
from spice_select.records.objectives import sides_of
from spice_select.records.tool_calls import OTHER_SPELLING
from tests.fixtures.examples import examples

CALL = {"id": "c1", "type": "function", "function": {"name": "depth", "arguments": {"buoy": "B7"}}}
TOOL = {"type": "function", "function": {"name": "depth", "parameters": {"type": "object", "properties": {}}}}
ASKED = [{"role": "user", "content": "Why?"}, {"role": "assistant", "content": "So."}]
OTHER = [{"role": "user", "content": "Why?"}, {"role": "assistant", "content": "Thus."}]


class TextOf(dict[str, Any]):
    """An object that stands in the record as JSON text."""


FORMS: dict[str, dict[str, Any]] = {
    "openai": {
        "messages": [
            {"role": "system", "content": "Be brief."},
            {"role": "user", "content": "Why?", "weight": 0},
            {"role": "assistant", "content": None, "tool_calls": [CALL], "reasoning_content": "Hm."},
            {"role": "tool", "tool_call_id": "c1", "name": "depth", "content": "3"},
            {"role": "assistant", "content": "3 metres", "weight": 1},
        ],
        "tools": [TOOL],
    },
    "legacy": {
        "messages": [
            {"role": "user", "content": "Why?"},
            {
                "role": "assistant",
                "content": "",
                "function_call": TextOf({"name": "depth", "arguments": '{"buoy": 1.10}'}),
            },
        ],
    },
    "sharegpt": {
        "conversations": [
            {"from": "system", "value": "Be brief."},
            {"from": "human", "value": "Why?", "loss": False},
            {"from": "function_call", "value": TextOf({"name": "depth", "arguments": {"buoy": "B7"}})},
            {"from": "observation", "value": {"depth": 3}},
            {"from": "gpt", "value": "So."},
        ],
        "system": "Be brief.",
    },
    "anthropic": {
        "messages": [
            {"role": "user", "content": [{"type": "text", "text": "Why?"}]},
            {
                "role": "assistant",
                "content": [
                    {"type": "thinking", "thinking": "Hm."},
                    {"type": "text", "text": "Let me look."},
                    {"type": "tool_use", "id": "c1", "name": "depth", "input": {"buoy": "B7"}},
                ],
            },
            {"role": "user", "content": [{"type": "tool_result", "tool_use_id": "c1", "content": "3"}]},
            {"role": "assistant", "content": [{"type": "text", "text": "3 metres", "train": True}]},
        ],
    },
    "hermes": {
        "messages": [
            {"role": "user", "content": "Why?"},
            {
                "role": "assistant",
                "content": '<tool_call>{"name": "depth"}</tool_call>',
                "train_detail": [
                    {"begin_offset": 0, "end_offset": 3, "train": False},
                ],
            },
        ],
    },
    "ranges": {
        "messages": [
            {"role": "user", "content": "Why?"},
            {
                "role": "assistant",
                "content": "So it is.",
                "train_detail": [
                    {"begin_offset": 0, "end_offset": 1, "train": False},
                ],
            },
        ],
    },
    "pairs": {"conversation": [{"human": "Why?", "assistant": "So."}, {"human": "And?", "assistant": "Thus."}]},
    "alpaca": {"instruction": "Do", "input": "this", "output": "Done", "history": [["Why?", "So."]], "system": "Be."},
    "prompt completion": {"prompt": "Why?", "completion": "So."},
    "prompt completion, turns": {"prompt": ASKED[:1], "completion": ASKED[1:]},
    "question": {"question": "Why?", "context": ["One.", "Two."], "answer": "So.", "reasoning": "Hm."},
    "squad": {"question": "Why?", "context": "One.", "answers": {"text": ["So."], "answer_start": [3]}},
    "text": {"text": "Why? So."},
    "preference": {"prompt": "Why?", "chosen": "So.", "rejected": "Thus."},
    "preference, turns": {"prompt": ASKED[:1], "chosen": ASKED[1:], "rejected": OTHER[1:]},
    "preference, whole": {"prompt": "Why?", "chosen": ASKED, "rejected": OTHER, "score_chosen": 4.5},
    "kto": {"prompt": "Why?", "completion": "So.", "label": True},
    "kto, turns": {"messages": ASKED, "label": True},
}
"""Records of every form and dialect, without a value that nothing reads but for one score."""

KEYS = (
    *("cache_control", "annotations", "citations", "index", "result", "parameters", "arguments", "args", "input"),
    *("output", "content", "value", "text", "reasoning", "reasoning_content", "thinking", "signature", "name", "from"),
    *(
        "id",
        "type",
        "tool_call_id",
        "weight",
        "loss",
        "train_detail",
        "refusal",
        "audio",
        "system",
        "prompt",
        "response",
    ),
    *("completion", "answer", "label", "context", "history", "tools", "tool_calls", "function", "function_call"),
    *("messages", "is_error", "data", "summary", "query", "chosen", "rejected", "zz", "a.b", "ключ"),
)
LABELS = ("tool_call_id", "name", "id", "weight", "part_weights")


def objects(value: Any, path: str) -> Iterator[tuple[dict[str, Any], str]]:
    """Every object of a record whose keys mean something to us, and its path."""
    if isinstance(value, dict):
        yield value, path
        for key, item in value.items():
            if key not in {"arguments", "input", "properties", "tools"} or path == "":
                yield from objects(item, f"{path}.{key}" if path else key)
    elif isinstance(value, list):
        for item in value:
            yield from objects(item, f"{path}[]")


def marked(number: int, draw: random.Random) -> tuple[Any, str]:
    """A value of some type with a marker in it, and how the marker reads."""
    if draw.random() < 0.3:
        return 730_000_000 + number, str(730_000_000 + number)
    text = f"mark-{number}-kram"
    kinds: list[Callable[[], Any]] = [
        lambda: text,
        lambda: text,
        lambda: f"{text} in a sentence.",
        lambda: {"of": text},
        lambda: [text],
        lambda: [{"role": "user", "content": text}],
        lambda: {"name": text, "arguments": {"a": text}},
        lambda: json.dumps([{"name": "f", "arguments": {"b": text}}]),
    ]
    return draw.choice(kinds)(), text


def with_markers(record: dict[str, Any], draw: random.Random) -> tuple[dict[str, Any], dict[str, str]]:
    """The record with values put in anywhere: new keys, and known ones where they are not there. Marker -> path."""
    made = copy.deepcopy(record)
    places: dict[str, str] = {}
    for number in range(draw.choice((1, 1, 1, 2, 4))):
        holder, path = draw.choice(list(objects(made, "")))
        key = draw.choice(KEYS)
        if key in holder:
            continue
        holder[key], marker = marked(number, draw)
        places[marker] = f"{path}.{key}" if path else key
    turns = next((key for key in ("messages", "conversations") if key in made), None)
    if turns is not None and draw.random() < 0.2:  # as a CSV file has them
        made[turns] = json.dumps(_spelt(made[turns]))
    return made, places


def read(path: Path, folder: Path, record: dict[str, Any]) -> tuple[DatasetManifest, Conversation] | None:
    """What becomes of a record; None where it, or the whole file, is refused, which is no silence."""
    path.write_text(json.dumps(_spelt(record), ensure_ascii=False) + "\n", encoding="utf-8")
    folder.mkdir(exist_ok=True)
    try:
        manifest = parse(path, folder, IntakeOptions(), IntakeLimits())
    except DatasetError:
        return None
    return manifest, next(iter_rows(folder / manifest.shards[0].name)).messages


def _spelt(value: Any) -> Any:
    if isinstance(value, dict):
        made = {key: _spelt(item) for key, item in value.items()}
        return json.dumps(made) if isinstance(value, TextOf) else made
    return [_spelt(item) for item in value] if isinstance(value, list) else value


def rendered(conversation: Conversation, chat: ChatFormat) -> str:
    objective: Any = "sft"
    if conversation.is_preference:
        objective = "dpo" if conversation.rejected is not None else "sft_chosen"
    return "".join("".join(chat.render(side).segments) for side in sides_of(conversation, objective))


def labels(value: Any) -> str:
    """What the messages hold under keys that are labels or weights."""
    if isinstance(value, dict):
        return " ".join(
            json.dumps(item) if key in LABELS and not isinstance(item, dict) else labels(item)
            for key, item in value.items()
        )
    return " ".join(map(labels, value)) if isinstance(value, list) else ""


def lost(record: dict[str, Any], places: dict[str, str], chat: ChatFormat, folder: Path) -> list[str]:
    """Paths of markers that are neither rendered nor labels nor named."""
    found = read(folder / "source.jsonl", folder / "out", record)
    if found is None:
        return []
    manifest, conversation = found
    text = rendered(conversation, chat)
    known = labels([*conversation, *(conversation.rejected or [])])
    named = list(manifest.unused_columns)
    return [
        path
        for marker, path in places.items()
        if marker not in text and marker not in known and not any(_covers(name, path) for name in named)
    ]


def _covers(name: str, path: str) -> bool:
    """Whether naming one path tells of a value at another: the same, or an object around it, or something inside."""
    return path == name or path.startswith((name + ".", name + "[]")) or name.startswith((path + ".", path + "[]"))


@pytest.fixture(scope="module")
def chat() -> ChatFormat:
    return ChatFormat(build_tiny_tokenizer())


@pytest.mark.parametrize("form", FORMS)
def test_no_value_is_lost(form: str, chat: ChatFormat, tmp_path: Path) -> None:
    assert read(tmp_path / "source.jsonl", tmp_path / "out", FORMS[form]) is not None
    draw = random.Random(form)
    for _ in range(examples(300, 30)):
        record, places = with_markers(FORMS[form], draw)
        assert lost(record, places, chat, tmp_path) == [], record


@pytest.mark.parametrize("form", FORMS)
def test_what_is_used_is_not_named(form: str, tmp_path: Path) -> None:
    found = read(tmp_path / "source.jsonl", tmp_path / "out", FORMS[form])
    assert found is not None
    expected = {"preference, whole": ["score_chosen"], "squad": ["answers.answer_start"]}
    assert list(found[0].unused_columns) == expected.get(form, [])


def test_the_property_can_fail(monkeypatch: pytest.MonkeyPatch, chat: ChatFormat, tmp_path: Path) -> None:
    record = {"messages": [{**ASKED[0], "cache_control": "mark-0-kram"}, ASKED[1]]}
    places = {"mark-0-kram": "messages[].cache_control"}
    assert lost(record, places, chat, tmp_path) == []
    monkeypatch.setattr(accounting.Fields, "close", lambda _: None)
    assert lost(record, places, chat, tmp_path) == ["messages[].cache_control"]


def test_rows_are_counted_and_the_first_is_named(tmp_path: Path) -> None:
    plain = {"messages": ASKED}
    noted = {"messages": [{**ASKED[0], "cache_control": "x"}, {**ASKED[1], "cache_control": "y"}], "id": 3}
    broken = {"messages": [{**ASKED[0], "cache_control": "x"}]}
    source = tmp_path / "source.jsonl"
    source.write_text("".join(json.dumps(row) + "\n" for row in (plain, broken, noted, noted)))
    manifest = parse(source, tmp_path, IntakeOptions(), IntakeLimits())
    assert manifest.warnings == [
        "columns not used: 'id' (2 rows)",
        "keys not used: 'messages[].cache_control' (2 rows, first row 2)",
    ]


def arguments_of(arguments: Any, chat: ChatFormat, tmp_path: Path, source: str = "") -> tuple[str, list[str]]:
    """What is rendered of a call with such arguments, and the warnings."""
    call = {"id": "c", "type": "function", "function": {"name": "f", "arguments": arguments}}
    record = {"messages": [ASKED[0], {"role": "assistant", "content": None, "tool_calls": [call]}]}
    path = tmp_path / "calls.jsonl"
    path.write_text(source or json.dumps(record))
    manifest = parse(path, tmp_path, IntakeOptions(), IntakeLimits())
    text = rendered(next(iter_rows(tmp_path / manifest.shards[0].name)).messages, chat)
    return text.partition('"arguments": ')[2].partition("}\n</tool_call>")[0], manifest.warnings


@pytest.mark.parametrize(
    ("given", "shown"),
    [
        ('{"a": 1.10}', '{"a": 1.10}'),
        ('{"a": 0.1000000000000000055}', '{"a": 0.1000000000000000055}'),
        ('{"a": 9007199254740993}', '{"a": 9007199254740993}'),
        ('{"a": [1e5, {"b": -0.0}]}', '{"a": [1e5, {"b": -0.0}]}'),
        ('{"a": null, "b": ""}', '{"a": null, "b": ""}'),
        ({"a": 1.5, "b": 9007199254740993}, '{"a": 1.5, "b": 9007199254740993}'),
        (None, "{}"),
        ("", "{}"),
    ],
)
def test_arguments_keep_their_numbers(given: Any, shown: str, chat: ChatFormat, tmp_path: Path) -> None:
    assert arguments_of(given, chat, tmp_path) == (shown, [])


def test_arguments_that_are_written_otherwise_are_counted(chat: ChatFormat, tmp_path: Path) -> None:
    shown, warnings = arguments_of('{"a":1}', chat, tmp_path)
    assert shown == '{"a": 1}'
    assert warnings == [f"{OTHER_SPELLING}: 1 rows"]
    twice, _ = arguments_of('{"a": 1, "a": 2}', chat, tmp_path)
    assert "1" in twice
    assert "2" in twice
    call = '{"function": {"name": "f", "arguments": {"a": 0.1000000000000000055}}}'
    source = f'{{"messages": [{json.dumps(ASKED[0])}, {{"role": "assistant", "tool_calls": [{call}]}}]}}'
    shown, warnings = arguments_of(None, chat, tmp_path, source)
    assert shown == '{"a": 0.1}'
    assert [warning for warning in warnings if "more digits than a double holds" in warning]


THIRD = [ASKED[0], {"role": "assistant", "content": "Wait."}, {"role": "user", "content": "And?"}, ASKED[1]]


@pytest.mark.parametrize(
    ("record", "warning"),
    [
        ({"prompt": "Why?", "chosen": ASKED, "rejected": OTHER}, None),
        ({"prompt": "How?", "chosen": ASKED, "rejected": OTHER}, "columns not used: 'prompt' (1 rows)"),
        ({"messages": ASKED, "chosen": ASKED, "rejected": OTHER}, None),
        ({"prompt": "Why?", "chosen": "So.", "rejected": "No.", "response": "So."}, "columns not used: 'response'"),
        ({"chosen": ASKED, "rejected": [{"role": "user", "content": "How?"}, ASKED[1]]}, "differ before their last"),
        ({"chosen": THIRD, "rejected": OTHER}, "differ before their last"),
        ({"messages": ASKED, "system": "Be brief."}, None),
        (
            {"messages": [{"role": "system", "content": "Be."}, *ASKED], "system": "Be brief."},
            "columns not used: 'system'",
        ),
        ({"messages": [ASKED[0], {**ASKED[1], "from": "gpt", "value": "So."}]}, None),
        ({"messages": [ASKED[0], {**ASKED[1], "from": "user"}]}, "'messages[].from' (1 rows)"),
        ({"messages": [ASKED[0], {**ASKED[1], "reasoning": "a", "thinking": "a"}]}, None),
        ({"messages": [ASKED[0], {**ASKED[1], "reasoning": "a", "thinking": "b"}]}, "'messages[].thinking' (1 rows)"),
        ({"messages": [{**ASKED[0], "train": True}, ASKED[1]]}, "'messages[].train' (1 rows)"),
        ({"question": "Why?", "answers": {"text": ["So.", "No."]}}, "several answers"),
    ],
)
def test_a_copy_is_used_and_what_says_something_else_is_named(
    record: dict[str, Any], warning: str | None, tmp_path: Path
) -> None:
    found = read(tmp_path / "source.jsonl", tmp_path / "out", record)
    assert found is not None
    said = [text for text in found[0].warnings if not text.startswith("preference data")]
    if warning is None:
        assert said == []
    else:
        assert [text for text in said if warning in text], said
