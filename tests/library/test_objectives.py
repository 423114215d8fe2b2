"""Objectives of preference data: gradients against plain autograd of the DPO loss, and what each is for."""

from __future__ import annotations

import json
import math
import random
from pathlib import Path
from typing import Any

import pytest
import torch

from spice_select import load_examples
from spice_select.config import Budget, GradientConfig, RunConfig, SelectionConfig, digest_of
from spice_select.errors import ConfigError
from spice_select.fingerprint import UNREAD, gradient_fingerprint, periodic_fingerprint
from spice_select.gradients.batching import collate, pack
from spice_select.gradients.per_sample import measure
from spice_select.gradients.targets import find_targets
from spice_select.models.tiny import build_tiny_tokenizer
from spice_select.pipeline.preview import preview
from spice_select.pipeline.run import run
from spice_select.records.conversation import Conversation, dump_conversation, load_conversation
from spice_select.records.formats import detect_form
from spice_select.records.packed_examples import TokenPool
from spice_select.records.records import to_messages
from spice_select.records.tokenize import Encoding, Example, encode
from spice_select.version import GRADIENT_FORMAT
from tests.library.families import FAMILIES, VOCABULARY, build, float64_throughout
from tests.reference.preference import dpo_gradients

EXACT = GradientConfig(
    objective="dpo", dpo_beta=0.3, sketch_dim=None, normalize="none", dtype="float64", batch_tokens=64
)


def some_pairs(seed: int, count: int = 7) -> list[Example]:
    """Pairs of unlike lengths that share a prompt."""
    draw = random.Random(seed)
    pairs = []
    for _ in range(count):
        prompt, chosen, rejected = (
            [draw.randrange(3, VOCABULARY) for _ in range(draw.randint(1, 11))] for _ in range(3)
        )
        labels = [-100] * len(prompt) + chosen + [-100] * len(prompt) + rejected
        pairs.append(Example(prompt + chosen + prompt + rejected, labels, split=len(prompt) + len(chosen)))
    return pairs


def relative_error(found: torch.Tensor, expected: torch.Tensor) -> float:
    assert found.shape == expected.shape
    return float((found - expected).norm() / expected.norm())


def check(model: Any, config: GradientConfig, **how: Any) -> None:
    pairs = some_pairs(1)
    weights = [target.weight for target in find_targets(model, config)]
    expected, losses, means = dpo_gradients(model, pairs, weights, config.dpo_beta)
    assert torch.allclose(losses, torch.full_like(losses, math.log(2)))
    found = measure(model, pairs, config, feature_dtype=torch.float64, **how)
    assert relative_error(found.features, expected) < 1e-9
    for row in range(len(pairs)):
        assert relative_error(found.features[row], expected[row]) < 1e-9
    assert relative_error(found.losses, means) < 1e-9
    assert found.tokens.tolist() == [len(pair.input_ids) for pair in pairs]
    assert found.label_tokens.tolist() == [len(pair.labels) - pair.labels.count(-100) for pair in pairs]


@pytest.mark.parametrize("family", FAMILIES)
def test_gradients_of_pairs_are_those_of_autograd(family: str) -> None:
    with float64_throughout():
        check(build(family), EXACT)
        check(build(family), EXACT.model_copy(update={"loss": "sum", "dpo_beta": 2.0}), padding_side="left")


@pytest.mark.parametrize("family", [name for name in FAMILIES if name != "falcon"])
def test_gradients_of_packed_pairs_are_those_of_autograd(family: str) -> None:
    with float64_throughout():
        model = build(family)
        model.set_attn_implementation("eager")
        check(model, EXACT, packed=True)


def test_batches_of_pairs_say_where_the_tokens_of_each_are() -> None:
    pairs = [
        Example([5, 6, 7, 5, 8], [-100, 6, 7, -100, 8], split=3),
        Example([9, 1, 9, 2, 3], [-100, 1, -100, 2, 3], split=2),
    ]
    padded = collate(pairs)
    assert padded.input_ids.tolist() == [[5, 6, 7], [5, 8, 0], [9, 1, 0], [9, 2, 3]]
    assert padded.targets.tolist() == [[6, 7, -100], [8, -100, -100], [1, -100, -100], [2, 3, -100]]
    assert padded.places is not None
    assert padded.weights is not None
    assert padded.places.tolist() == [[0, 1, 2, 3, 4], [6, 7, 9, 10, 11]]
    assert padded.weights[1, 0] == padded.weights[3, 0] == -padded.weights[0, 0] == -1
    packed = pack(pairs)
    assert packed.position_ids is not None
    assert packed.position_ids.tolist() == [[0, 1, 2, 0, 1, 0, 1, 0, 1, 2]]
    assert packed.targets.tolist() == [[6, 7, -100, 8, -100, 1, -100, 2, 3, -100]]
    assert (padded.samples, packed.samples) == (2, 2)
    assert TokenPool(pairs)[:] == pairs


def test_the_objective_has_to_fit_the_examples() -> None:
    model = build("qwen2", dtype=torch.float32)
    with pytest.raises(ConfigError, match="example 0 is a preference pair, the objective is sft"):
        measure(model, some_pairs(1), GradientConfig())
    with pytest.raises(ConfigError, match="example 0 is a single sequence, the objective is dpo"):
        measure(model, [Example([5, 6], [-100, 6])], GradientConfig(objective="dpo"))


user: Any = {"role": "user", "content": "Name a tree."}
PAIRS: dict[str, dict[str, Any]] = {
    "text": {"prompt": "Name a tree.", "chosen": "An oak, of course.", "rejected": "An old stone"},
    "turns": {"prompt": [user], "chosen": [{"role": "assistant", "content": "Oak"}], "rejected": "A stone"},
    "conversations": {
        "chosen": [user, {"role": "assistant", "content": "Oak it is"}],
        "rejected": [user, {"role": "assistant", "content": "Oak or stone"}],
    },
    "three turns": {
        "prompt": [user, {"role": "assistant", "content": "Oak"}, {"role": "user", "content": "Another one?"}],
        "chosen": [{"role": "assistant", "content": "Birch"}],
        "rejected": [{"role": "assistant", "content": "No, that was the only tree that there is"}],
    },
    "system": {
        "prompt": [{"role": "system", "content": "Be short."}, user],
        "chosen": [{"role": "assistant", "content": "Oak"}],
        "rejected": [{"role": "assistant", "content": "Well, where shall I begin"}],
    },
    "a turn of the user in the answer": {
        "prompt": [user],
        "chosen": [
            {"role": "assistant", "content": "Oak"},
            {"role": "user", "content": "Sure?"},
            {"role": "assistant", "content": "Yes"},
        ],
        "rejected": [{"role": "assistant", "content": "Stone"}],
    },
}


def conversation_of(record: dict[str, Any]) -> Conversation:
    found = detect_form([record])
    assert found is not None
    assert found[0] == "preference"
    return load_conversation(dump_conversation(to_messages(record, *found)))


def sides(example: Example) -> list[tuple[list[int], list[int]]]:
    return [(part.input_ids, [int(label != -100) for label in part.labels]) for part in example.sequences()]


def ours(record: dict[str, Any], tokenizer: Any, max_length: int) -> Encoding:
    return encode([conversation_of(record)], tokenizer, max_length=max_length, objective="dpo")


@pytest.mark.parametrize("name", ["text", "turns", "conversations", "three turns", "system"])
def test_sft_chosen_learns_what_a_row_with_that_answer_teaches(name: str) -> None:
    tokenizer, conversation = build_tiny_tokenizer(), conversation_of(PAIRS[name])
    (found,) = encode([conversation], tokenizer, max_length=512, objective="sft_chosen").examples
    last = max(place for place, turn in enumerate(conversation) if turn["role"] == "assistant")
    plain = [
        {**turn, "weight": 0.0} if turn["role"] == "assistant" and place < last else turn
        for place, turn in enumerate(conversation)
    ]
    twin = to_messages({"messages": plain}, "messages", {"messages": "messages"})
    assert found == encode([twin], tokenizer, max_length=512).examples[0]
    if name == "text":
        record = {"prompt": PAIRS[name]["prompt"], "completion": PAIRS[name]["chosen"]}
        assert load_examples([record], tokenizer) == [found]
        assert load_examples([PAIRS[name]], tokenizer, objective="sft_chosen") == [found]


def test_flags_say_nothing_to_dpo_as_in_trl() -> None:
    tokenizer = build_tiny_tokenizer()
    flagged = {**PAIRS["three turns"], "chosen": [{"role": "assistant", "content": "Birch", "weight": 0}]}
    assert ours(flagged, tokenizer, 512).examples == ours(PAIRS["three turns"], tokenizer, 512).examples
    kept = {**PAIRS["three turns"], "prompt": [user, {**PAIRS["three turns"]["prompt"][1], "train": False}, user]}
    assert ours(kept, tokenizer, 512).examples


@pytest.mark.parametrize(
    ("objective", "record", "code"),
    [
        ("sft", PAIRS["text"], "wrong-objective"),
        ("sft", {"prompt": "q", "completion": "a", "label": True}, "wrong-objective"),
        ("dpo", {"prompt": "q", "completion": "a", "label": True}, "wrong-objective"),
        ("sft_chosen", {"prompt": "q", "completion": "a", "label": False}, "not-desirable"),
    ],
)
def test_a_row_that_the_objective_is_not_for_is_excluded(objective: Any, record: dict[str, Any], code: str) -> None:
    found = encode([conversation_of(record)], build_tiny_tokenizer(), max_length=64, objective=objective)
    assert [item.code for item in found.excluded] == [code]


@pytest.mark.parametrize("answer", ["[5, 2, 3]", '{"total": 3}', '[{"city": "Oslo"}]', "[]", "{}", "[broken", '["a"]'])
def test_an_answer_that_is_json_text_is_that_text(answer: str) -> None:
    for record in (
        {"prompt": "Give JSON.", "chosen": answer, "rejected": "no"},
        {"prompt": "Give JSON.", "chosen": "no", "rejected": answer},
    ):
        found = conversation_of(record)
        assert [found[-1]["content"], found.rejected[-1]["content"]] == [record["chosen"], record["rejected"]]
    judged = to_messages(
        {"prompt": "Give JSON.", "completion": answer, "label": True},
        "preference",
        {"prompt": "prompt", "response": "completion", "label": "label"},
    )
    assert judged[-1]["content"] == answer


def test_turns_that_are_json_text_are_turns() -> None:
    pair = {name: json.dumps(PAIRS["turns"][name]) for name in ("chosen", "rejected")}
    record = {**PAIRS["turns"], **pair}
    assert list(conversation_of(record)) == list(conversation_of(PAIRS["turns"]))


def test_plain_rows_have_no_preference() -> None:
    plain = {"messages": [user, {"role": "assistant", "content": "Oak"}]}
    for objective in ("sft_chosen", "dpo"):
        with pytest.raises(ConfigError, match=f"no preference data: gradients.objective can be sft, not {objective}"):
            load_examples([plain], build_tiny_tokenizer(), objective=objective)  # type: ignore[arg-type]
        conversation = to_messages(plain, "messages", {"messages": "messages"})
        found = encode([conversation], build_tiny_tokenizer(), max_length=64, objective=objective)  # type: ignore[arg-type]
        assert [item.code for item in found.excluded] == ["wrong-objective"]
    with pytest.raises(ConfigError, match="sft_chosen or dpo, not sft") as refused:
        load_examples([PAIRS["text"]], build_tiny_tokenizer())
    assert refused.value.errors[0]["pointer"] == "#/objective"


def test_only_what_counts_is_in_the_fingerprint() -> None:
    def name(**settings: Any) -> str:
        return gradient_fingerprint(rows_sha256="a", proxy_revision="1", config=GradientConfig(**settings))

    # What is digested does not know of objectives and layers: as before there were any.
    config = GradientConfig()
    unread = {"batch_tokens", "tuning", "store_dtype", "objective", "dpo_beta", "layers"} | UNREAD[config.measure]
    kept = config.model_dump(mode="json", exclude=unread)
    before = {"rows_sha256": "a", "proxy_revision": "1", "gradients": digest_of(kept), "format": GRADIENT_FORMAT}
    assert name() == name(dpo_beta=0.5) == digest_of(before)
    assert name(objective="sft_chosen") == name(objective="sft_chosen", dpo_beta=0.5) != name()
    assert name(objective="dpo") == name(objective="dpo", loss="sum") != name(objective="dpo", dpo_beta=0.5)
    selection = SelectionConfig(budget=Budget(count=1))
    run_config = RunConfig(selection=selection)
    other = run_config.model_copy(update={"gradients": GradientConfig(dpo_beta=0.5)})
    courses = [periodic_fingerprint(pool="a", proxy_revision="1", config=each) for each in (run_config, other)]
    assert courses[0] == courses[1]


def pairs_file(path: Path, count: int = 8) -> Path:
    rows = [
        {"prompt": f"What is {n} and {n + 2}?", "chosen": f"It is {2 * n + 2}.", "rejected": f"{3 * n + 1}, I think"}
        for n in range(count)
    ]
    path.write_text("".join(json.dumps(row) + "\n" for row in [*rows, {**rows[0], "rejected": rows[0]["chosen"]}]))
    return path


def settings(**gradients: Any) -> RunConfig:
    return RunConfig(
        selection=SelectionConfig(budget=Budget(count=3)), gradients=GradientConfig(sketch_dim=8, **gradients)
    )


def test_a_run_on_pairs(tmp_path: Path) -> None:
    source = pairs_file(tmp_path / "pairs.jsonl")
    with pytest.raises(ConfigError, match=r"preference pairs: gradients\.objective can be sft_chosen or dpo, not sft"):
        run(source, settings())
    results = {}
    for objective in ("sft_chosen", "dpo"):
        results[objective] = made = run(source, settings(objective=objective, dpo_beta=0.2), tmp_path / objective)
        assert made.manifest.rejected == {"nothing-to-learn": 1}
        assert not made.excluded
        stated = made.statement["predicate"]["buildDefinition"]["externalParameters"]
        assert f'"objective": "{objective}"' in json.dumps(stated)
    tokens = {name: {row.source_row: row.tokens for row in made.ranking} for name, made in results.items()}
    both = tokens["dpo"].keys() & tokens["sft_chosen"].keys()
    assert all(tokens["dpo"][row] > tokens["sft_chosen"][row] for row in both)
    windows = {"scope": {"kind": "windows", "size": 4}, "budget": {"count": 2}}
    periodic = {"selection": windows, "gradients": {"objective": "dpo"}, "schedule": {"kind": "periodic"}}
    with pytest.raises(ConfigError, match="not the reference policy") as refused:
        run(source, RunConfig.model_validate(periodic))
    assert refused.value.errors[0]["pointer"] == "#/gradients/objective"


def test_a_warm_up_before_dpo_learns_the_chosen_answers(tmp_path: Path) -> None:
    source = pairs_file(tmp_path / "pairs.jsonl")
    made = [
        run(source, settings(objective=objective, warmup_steps=2), tmp_path / objective)
        for objective in ("dpo", "sft_chosen")
    ]
    warmups = [result.summary["warmup"] for result in made]
    assert warmups[0] == warmups[1]


def test_the_preview_shows_both_answers(tmp_path: Path) -> None:
    source = pairs_file(tmp_path / "pairs.jsonl")
    for gradients in (None, GradientConfig(objective="dpo")):
        found = preview(source, gradients=gradients, rows=2)
        row = found.rows[1]
        assert row.rejected_answer is not None
        for side, said, weight in ((row, "It is 4.", 1.0), (row.rejected_answer, "4, I think", -1.0)):
            assert side.text is not None
            (span,) = side.learned
            assert side.text[span.start : span.end] == f"{said}<|im_end|>\n"
            assert span.weight == weight
        assert "shown as the objective dpo learns it" in found.notes
    shown = preview(source, gradients=GradientConfig(objective="sft_chosen"), rows=1).rows[0]
    assert shown.rejected_answer is not None
    assert (shown.rejected_answer.text, shown.rejected_answer.messages[0]["content"]) == (None, "1, I think")
    judged = tmp_path / "judged.jsonl"
    judged.write_text(
        "".join(json.dumps({"prompt": "q", "completion": "a", "label": good}) + "\n" for good in (True, False))
    )
    rows = preview(judged, rows=2).rows
    assert (rows[0].num_learned or 0) > 0
    assert rows[1].excluded is not None
    assert rows[1].excluded["code"] == "not-desirable"
