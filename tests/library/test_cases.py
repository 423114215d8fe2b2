"""Small inputs that were misread once, each standing for a kind, and more of each kind."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from spice_select.errors import DatasetError
from spice_select.ingest import iter_rows
from spice_select.ingest.manifest import DatasetManifest, IntakeLimits, IntakeOptions
from spice_select.ingest.parse import parse
from spice_select.models.tiny import build_tiny_tokenizer
from spice_select.records.tokenize import Encoding, encode

CASES = Path(__file__).parent / "cases"
END = "<|im_end|>"


@pytest.fixture(scope="module")
def tiny() -> Any:
    return build_tiny_tokenizer()


def read(source: Path, out: Path, **options: Any) -> tuple[DatasetManifest, list[Any]]:
    out.mkdir(exist_ok=True)
    manifest = parse(source, out, IntakeOptions(**options), IntakeLimits())
    return manifest, [row for shard in manifest.shards for row in iter_rows(out / shard.name)]


def written(tmp_path: Path, content: bytes | str, name: str = "source") -> Path:
    path = tmp_path / name
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return path


def encoded(rows: list[Any], tokenizer: Any) -> Encoding:
    judged = any(row.messages.is_preference for row in rows)
    objective: Any = "sft_chosen" if judged else "sft"
    return encode([row.messages for row in rows], tokenizer, max_length=4096, objective=objective)


def learned(encoding: Encoding, tokenizer: Any) -> list[str]:
    return [tokenizer.decode([label for label in row.labels if label != -100]) for row in encoding.examples]


def prompts(encoding: Encoding, tokenizer: Any) -> list[str]:
    return [tokenizer.decode(row.input_ids) for row in encoding.examples]


CALL = '<tool_call>\n{"name": "depth_at", "arguments": {"buoy": "B0"}}\n</tool_call>' + END
LEARNED: list[tuple[str, int, str]] = [
    ("01-tool-call-null-content.jsonl", 6, CALL + "It is 3 metres deep." + END),
    ("02-tool-call-is-the-answer.jsonl", 8, CALL),
    ("04-weight-zero-turn.jsonl", 4, "No: 1." + END),
    ("05-per-turn-flags.jsonl", 4, "good" + END),
    ("06-alpaca-history.json", 6, f"0 and 1{END}0{END}The second is 0.{END}"),
    ("07-messages-json-text.csv", 5, "a0" + END),
    ("08-content-parts-value.jsonl", 4, "a0" + END),
    ("08c-content-parts-thinking.jsonl", 4, "<think>\nhm 0\n</think>\n\na0" + END),
    ("08e-content-mixed-text-and-parts.jsonl", 8, "a0" + END),
    ("09-preference-sharegpt.jsonl", 6, "Birch 0" + END),
    ("12-object-with-data.json", 4, "a0" + END),
    ("13-pretty-printed-objects.jsonl", 4, "a0" + END),
    ("13h-bom-in-the-middle.jsonl", 2, "a" + END),
    ("16-trailing-empty-columns.csv", 3, "a0" + END),
    ("17-excel-sep-line.csv", 2, "a0" + END),
    ("20-pipe.csv", 3, "a0" + END),
    ("21-tsv-bare-quotes.tsv", 3, 'He said "hi" to me' + END),
    ("24-numeric-answers.jsonl", 4, "0" + END),
    ("24d-utf16-excel.txt", 2, "a0" + END),
    ("27-zst.jsonl.zst", 20, "a0" + END),
    ("39-types.parquet", 4, "a0" + END),
    ("41-shards-null-type", 10, "aq0" + END),
    ("41c-shards-column-order", 10, "aq0" + END),
    ("41g-flat-train-and-test", 5, "aq0" + END),
    ("41h-jsonl-shards", 8, "a" + END),
    ("42-save-to-disk", 5, "aq0" + END),
    ("47-question-context-answer.jsonl", 5, "0 metres" + END),
    ("48-prompt-input-output.jsonl", 5, "numéro 0" + END),
    ("49-input-output.jsonl", 4, "a0" + END),
    ("49d-user-assistant.jsonl", 4, "a0" + END),
    ("56-roles.jsonl", 11, "a" + END),
    ("56c-conversation-human-assistant-pairs.jsonl", 3, f"a0{END}b{END}"),
    ("58-reasoning-content-key.jsonl", 5, "<think>\n0 times ten is 0, plus 0.\n</think>\n\n0" + END),
    ("70-tool-arguments-objects.jsonl", 9, '<tool_call>\n{"name": "f0", "arguments": {"buoy": "B1"}}\n</tool_call>'),
    (
        "72-tool-call-without-content-key.jsonl",
        4,
        '<tool_call>\n{"name": "depth_at", "arguments": {"b": 0}}\n</tool_call>',
    ),
    ("78-late-input-column.jsonl", 1205, "o" + END),
]


@pytest.mark.parametrize(("name", "usable", "first"), LEARNED, ids=[name for name, *_ in LEARNED])
def test_what_is_learned_of_a_case(tmp_path: Path, tiny: Any, name: str, usable: int, first: str) -> None:
    manifest, rows = read(CASES / name, tmp_path / "out")
    assert manifest.num_usable == usable
    encoding = encoded(rows, tiny)
    assert encoding.excluded == []
    assert learned(encoding, tiny)[0].startswith(first)


REFUSED: list[tuple[str, str, str]] = [
    ("07b-messages-python-repr.csv", "dataset-no-usable-rows", "Python literal, not JSON"),
    ("11-images-placeholder.jsonl", "dataset-no-usable-rows", "media-not-measured 4"),
    ("49h-prompt-text.jsonl", "dataset-columns-ambiguous", '{"prompt":"prompt","response":"text"} or {"text":"text"}'),
    ("27b-excel.xlsx", "dataset-unreadable", "Excel"),  # the case is a stub without sheets
]


@pytest.mark.parametrize(("name", "code", "said"), REFUSED, ids=[name for name, *_ in REFUSED])
def test_a_case_that_is_refused_says_what_helps(tmp_path: Path, name: str, code: str, said: str) -> None:
    with pytest.raises(DatasetError) as caught:
        read(CASES / name, tmp_path / "out")
    assert caught.value.code == code
    assert said in caught.value.detail
    if code == "dataset-no-usable-rows":
        assert caught.value.errors[0]["pointer"] == "#/rows/0"
        assert all(error["detail"] for error in caught.value.errors)


WARNED: list[tuple[str, str]] = [
    ("07-messages-json-text.csv", "columns not used: 'id' (5 rows)"),
    ("12-object-with-data.json", "under the key 'data'"),
    ("24-numeric-answers.jsonl", "1.10 becomes 1.1: 4 rows"),
    ("24d-utf16-excel.txt", "utf-16"),
    ("27-zst.jsonl.zst", "zstd"),
    ("41-shards-null-type", "columns not used: 'source' (5 rows)"),
    ("41g-flat-train-and-test", "only the split train is read; left out: 'test.parquet'"),
    ("09-preference-sharegpt.jsonl", "gradients.objective sft_chosen or dpo"),
]


@pytest.mark.parametrize(("name", "said"), WARNED, ids=[name for name, _ in WARNED])
def test_what_was_read_otherwise_is_said(tmp_path: Path, name: str, said: str) -> None:
    manifest, _ = read(CASES / name, tmp_path / "out")
    assert any(said in warning for warning in manifest.warnings)


def test_a_judged_bad_answer_is_not_learned(tmp_path: Path, tiny: Any) -> None:
    _, rows = read(CASES / "09e-kto-label-false.jsonl", tmp_path / "out")
    encoding = encoded(rows, tiny)
    assert learned(encoding, tiny) == ["good" + END] * 3
    assert [item.code for item in encoding.excluded] == ["not-desirable"] * 3


def test_late_columns_reach_the_prompt(tmp_path: Path, tiny: Any) -> None:
    _, rows = read(CASES / "78-late-input-column.jsonl", tmp_path / "out")
    with_input = [row for row in rows if row.value().get("input")]
    assert with_input
    assert (
        with_input[0].messages[0]["content"]
        == f"{with_input[0].value()['instruction']}\n\n{with_input[0].value()['input']}"
    )


def test_tools_reach_the_template(tmp_path: Path, tiny: Any) -> None:
    _, rows = read(CASES / "01-tool-call-null-content.jsonl", tmp_path / "out")
    assert '"description": "Water depth at a buoy"' in prompts(encoded(rows, tiny), tiny)[0]
    without = build_tiny_tokenizer()
    without.chat_template = (
        "{% for m in messages %}<|im_start|>{{ m['role'] }}\n{{ m['content'] or '' }}<|im_end|>\n{% endfor %}"
    )
    found = encoded(rows, without)
    assert {item.code for item in found.excluded} == {"template-refused"}
    assert "tool calls" in found.excluded[0].detail


def test_thinking_that_a_template_strips_is_not_learned_and_no_turn_loses_its_label(tmp_path: Path, tiny: Any) -> None:
    _, rows = read(CASES / "59-think-tags-multi-turn.jsonl", tmp_path / "out")
    tokenizer = build_tiny_tokenizer()
    tokenizer.chat_template = (CASES / "59b-template-drops-old-thinking.jinja").read_text()
    assert learned(encoded(rows, tokenizer), tokenizer)[1] == f"12{END}<think>\nadd 1\n</think>\n\n13{END}"
    tokenizer = build_tiny_tokenizer()
    tokenizer.chat_template = (CASES / "63-template-drops-all-thinking.jinja").read_text()
    assert [text.split() for text in learned(encoded(rows, tokenizer), tokenizer)][1] == ["12" + END, "13" + END]


def test_reasoning_that_is_not_rendered_is_counted(tmp_path: Path) -> None:
    _, rows = read(CASES / "58-reasoning-content-key.jsonl", tmp_path / "out")
    tokenizer = build_tiny_tokenizer()
    tokenizer.chat_template = (
        "{% for m in messages %}<|im_start|>{{ m['role'] }}\n{{ m['content'] }}<|im_end|>\n{% endfor %}"
    )
    found = encoded(rows, tokenizer)
    assert found.notes == {"reasoning-not-rendered": 5}
    assert learned(found, tokenizer)[1] == "12" + END


def test_a_template_that_reads_parts_is_refused(tmp_path: Path) -> None:
    _, rows = read(CASES / "08c-content-parts-thinking.jsonl", tmp_path / "out")
    tokenizer = build_tiny_tokenizer()
    tokenizer.chat_template = (CASES / "62-template-reads-content-as-parts.jinja").read_text()
    assert {item.code for item in encoded(rows, tokenizer).excluded} == {"template-refused"}


def test_text_that_was_templated_keeps_its_special_tokens(tmp_path: Path, tiny: Any) -> None:
    _, rows = read(CASES / "74-text-already-templated.jsonl", tmp_path / "out")
    example = encoded(rows, tiny).examples[0]
    assert sum(token in set(tiny.all_special_ids) for token in example.input_ids) == 4


# Siblings: other members of each kind.

TURNS = [{"role": "user", "content": "q"}, {"role": "assistant", "content": "a"}]
ARGS = {"b": 1}
CALLS = '<tool_call>\n{"name": "f", "arguments": {"b": 1}}\n</tool_call>' + END
DIALECTS: dict[str, dict[str, Any]] = {
    "text arguments": {"content": "", "tool_calls": [{"function": {"name": "f", "arguments": json.dumps(ARGS)}}]},
    "flat": {"content": None, "tool_calls": [{"name": "f", "arguments": ARGS}]},
    "calls as text": {"content": None, "tool_calls": json.dumps([{"function": {"name": "f", "arguments": ARGS}}])},
    "legacy": {"content": None, "function_call": {"name": "f", "arguments": json.dumps(ARGS)}},
    "anthropic": {"content": [{"type": "tool_use", "id": "t1", "name": "f", "input": ARGS}]},
    "null arguments of parquet": {
        "content": "",
        "tool_calls": [{"function": {"name": "f", "arguments": {"b": 1, "c": None}}}],
    },
    "hermes": {"content": '<tool_call>\n{"name": "f", "arguments": {"b": 1}}\n</tool_call>'},
}


@pytest.mark.parametrize("dialect", DIALECTS)
def test_a_call_in_every_dialect_gives_the_same_tokens(tmp_path: Path, tiny: Any, dialect: str) -> None:
    record = {"messages": [TURNS[0], {"role": "assistant", **DIALECTS[dialect]}]}
    _, rows = read(written(tmp_path, json.dumps(record)), tmp_path / "out")
    assert learned(encoded(rows, tiny), tiny) == [CALLS]


def test_sharegpt_calls_and_anthropic_results(tmp_path: Path, tiny: Any) -> None:
    spoken = [
        {"from": "human", "value": "q"},
        {"from": "function_call", "value": json.dumps({"name": "f", "arguments": ARGS})},
        {"from": "observation", "value": "3"},
        {"from": "gpt", "value": "done"},
    ]
    parts = [
        TURNS[0],
        {"role": "assistant", "content": [{"type": "tool_use", "id": "t", "name": "f", "input": ARGS}]},
        {"role": "user", "content": [{"type": "tool_result", "tool_use_id": "t", "content": "3"}]},
        {"role": "assistant", "content": [{"type": "text", "text": "done"}]},
    ]
    found = []
    for name, record in (("s", {"conversations": spoken}), ("p", {"messages": parts})):
        _, rows = read(written(tmp_path, json.dumps(record), name), tmp_path / f"out-{name}")
        found.append((learned(encoded(rows, tiny), tiny), prompts(encoded(rows, tiny), tiny)))
    assert found[0] == found[1]
    assert found[0][0] == [CALLS + "done" + END]


FLAGS: list[tuple[dict[str, Any], float]] = [
    ({"weight": 0}, 0), ({"weight": 0.25}, 0.25), ({"train": False}, 0), ({"loss": 0.5}, 0.5), ({"loss_scale": 2}, 2),
    ({"masked": True}, 0), ({"masked": False}, 1), ({"training": "false"}, 0), ({"loss_weight": 1.0}, 1),
]  # fmt: skip


@pytest.mark.parametrize(("flag", "weight"), FLAGS, ids=[str(flag) for flag, _ in FLAGS])
@pytest.mark.parametrize("marked", [True, False])
def test_flags_scale_the_loss_of_a_turn(tmp_path: Path, flag: dict[str, Any], weight: float, marked: bool) -> None:
    record = {"messages": [TURNS[0], {"role": "assistant", "content": "bad", **flag}, *TURNS]}
    _, rows = read(written(tmp_path, json.dumps(record)), tmp_path / "out")
    tokenizer = build_tiny_tokenizer()
    if not marked:
        tokenizer.chat_template = tokenizer.chat_template.replace("{% generation %}", "").replace(
            "{% endgeneration %}", ""
        )
    (example,) = encoded(rows, tokenizer).examples
    expected = f"a{END}" if weight == 0 else f"bad{END}a{END}"
    assert learned(encoded(rows, tokenizer), tokenizer) == [expected]
    weights = [1.0] * len(example.labels) if example.weights is None else example.weights
    used = [w for w, label in zip(weights, example.labels, strict=True) if label != -100]
    assert used[0] == (weight or 1)
    assert used[-1] == 1


def test_parts_of_a_turn_have_flags_of_their_own(tmp_path: Path, tiny: Any) -> None:
    parts = [{"type": "text", "text": "hidden ", "train": False}, {"type": "text", "text": "told"}]
    detail = [
        {"begin_offset": 0, "end_offset": 6, "train": False},
        {"begin_offset": 7, "end_offset": 10, "train": True},
    ]
    records = [
        {"messages": [TURNS[0], {"role": "assistant", "content": parts}]},
        {"messages": [TURNS[0], {"role": "assistant", "content": "hidden told", "train_detail": detail}]},
    ]
    _, rows = read(written(tmp_path, "\n".join(map(json.dumps, records))), tmp_path / "out")
    assert [text.strip() for text in learned(encoded(rows, tiny), tiny)] == ["told" + END] * 2


PAIRS = [
    ("inputs", "targets"), ("problem", "solution"), ("problem", "answer"), ("instruction", "answer"),
    ("query", "response"), ("source", "target"), ("human", "assistant"), ("question", "output"),
    ("prompt", "target"), ("Input", "Output"),
]  # fmt: skip


@pytest.mark.parametrize("names", PAIRS, ids=["/".join(names) for names in PAIRS])
def test_common_pairs_are_found(tmp_path: Path, tiny: Any, names: tuple[str, str]) -> None:
    lines = [json.dumps({names[0]: f"q{i}", names[1]: f"a{i}"}) for i in range(3)]
    _, rows = read(written(tmp_path, "\n".join(lines)), tmp_path / "out")
    assert learned(encoded(rows, tiny), tiny) == [f"a{i}{END}" for i in range(3)]


AMBIGUOUS = [
    {"text": "t", "summary": "s"}, {"title": "t", "text": "s"}, {"question": "q", "solution": "s", "answer": "a"},
    {"instruction": "do", "prompt": "other", "output": "a"}, {"prompt": "p", "completion": "a", "response": "b"},
    {"question": "q", "query": "x", "answer": "a"},
]  # fmt: skip


@pytest.mark.parametrize("record", AMBIGUOUS, ids=["+".join(record) for record in AMBIGUOUS])
def test_two_readings_are_refused_with_both_and_each_can_be_sent(tmp_path: Path, record: dict[str, str]) -> None:
    source = written(tmp_path, "\n".join([json.dumps(record)] * 3))
    with pytest.raises(DatasetError) as caught:
        read(source, tmp_path / "out")
    assert caught.value.code == "dataset-columns-ambiguous"
    readings = [json.loads(text) for text in caught.value.detail.split("send columns ")[1].split(" or ")]
    assert len(readings) == 2
    contents = []
    for reading in readings:
        manifest, rows = read(source, tmp_path / "out", columns=reading)
        assert manifest.num_usable == 3
        contents.append([message["content"] for message in rows[0].messages])
    assert contents[0] != contents[1]


def test_a_rendering_beside_its_parts_is_not_ambiguous(tmp_path: Path) -> None:
    rows = [{"instruction": f"do {i}", "prompt": f"Below: do {i}. Answer:", "output": "a"} for i in range(5)]
    manifest, _ = read(written(tmp_path, "\n".join(map(json.dumps, rows))), tmp_path / "out")
    assert manifest.columns == {"prompt": "instruction", "response": "output"}
    assert "columns not used: 'prompt' (5 rows)" in manifest.warnings


def test_what_could_be_meant_is_suggested(tmp_path: Path) -> None:
    source = written(tmp_path, "\n".join(json.dumps({"frage": f"q {i}", "antwort": f"a {i}"}) for i in range(3)))
    with pytest.raises(DatasetError) as caught:
        read(source, tmp_path / "out")
    meant = json.loads(caught.value.detail.split("send columns ")[1])
    manifest, _ = read(source, tmp_path / "out", columns=meant)
    assert manifest.num_usable == 3


def test_keys_of_messages_that_are_not_used_are_counted(tmp_path: Path) -> None:
    record = {"messages": [{**TURNS[0], "timestamp": 5}, TURNS[1]]}
    manifest, _ = read(written(tmp_path, "\n".join([json.dumps(record)] * 3)), tmp_path / "out")
    assert "keys not used: 'messages[].timestamp' (3 rows)" in manifest.warnings


PREFERENCES: list[dict[str, Any]] = [
    {"prompt": "q", "chosen": "good", "rejected": "bad"},
    {
        "prompt": [TURNS[0]],
        "chosen": [{"role": "assistant", "content": "good"}],
        "rejected": [{"role": "assistant", "content": "bad"}],
    },
    {
        "chosen": [TURNS[0], {"role": "assistant", "content": "good"}],
        "rejected": [TURNS[0], {"role": "assistant", "content": "bad"}],
    },
    {
        "prompt": "q",
        "chosen": [TURNS[0], {"role": "assistant", "content": "good"}],
        "rejected": [TURNS[0], {"role": "assistant", "content": "bad"}],
    },
    {"chosen": "\n\nHuman: q\n\nAssistant: good", "rejected": "\n\nHuman: q\n\nAssistant: bad"},
    {"question": "q", "chosen": "good", "rejected": "bad"},
    {"prompt": "q", "completion": "good", "label": True},
]


@pytest.mark.parametrize("record", PREFERENCES, ids=[str(place) for place in range(len(PREFERENCES))])
def test_preference_data_is_a_form_of_its_own(tmp_path: Path, tiny: Any, record: dict[str, Any]) -> None:
    manifest, rows = read(written(tmp_path, "\n".join([json.dumps(record)] * 3)), tmp_path / "out")
    assert manifest.format == "preference"
    encoding = encoded(rows, tiny)
    assert learned(encoding, tiny) == ["good" + END] * 3
    assert prompts(encoding, tiny)[0] == f"<|im_start|>user\nq{END}\n<|im_start|>assistant\ngood{END}\n"
