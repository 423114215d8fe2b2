"""Token ids and labels against TRL's own, for every chat template that TRL ships and for ``builtin:tiny``.

``python -m tests.library.test_trl_labels`` prints the table of docs/labels.md.
"""

from __future__ import annotations

import re
import warnings
from collections.abc import Generator
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest
from tokenizers import AddedToken, Tokenizer
from transformers import PreTrainedTokenizerFast
from transformers.utils import chat_template_utils

from spice_select.models.tiny import build_tiny_model, build_tiny_tokenizer
from spice_select.records.conversation import Conversation
from spice_select.records.tokenize import Encoding, encode

trl = pytest.importorskip("trl")
FOLDER = Path(trl.__file__).parent / "chat_templates"
TEMPLATES = sorted(path.stem for path in FOLDER.glob("*.jinja"))
MARKED = [name for name in TEMPLATES if "generation %}" in (FOLDER / f"{name}.jinja").read_text(encoding="utf-8")]
ENDS = (
    "<|im_end|>", "<|eot_id|>", "<end_of_turn>", "<|end|>", "<|return|>", "<turn|>", "<end_of_utterance>",
    "<|END_OF_TURN_TOKEN|>", "<\uff5cend▁of▁sentence\uff5c>",
)  # fmt: skip


def user(content: str) -> dict[str, Any]:
    return {"role": "user", "content": content}


def assistant(content: str, **more: Any) -> dict[str, Any]:
    return {"role": "assistant", "content": content, **more}


def call(buoy: str) -> dict[str, Any]:
    return {"type": "function", "function": {"name": "depth_at", "arguments": {"buoy": buoy}}}


def result(content: str) -> dict[str, Any]:
    return {"role": "tool", "name": "depth_at", "content": content}


PARAMETERS = {"type": "object", "properties": {"buoy": {"type": "string"}}, "required": ["buoy"]}
TOOLS = [{"type": "function", "function": {"name": "depth_at", "description": "Depth", "parameters": PARAMETERS}}]
SYSTEM = {"role": "system", "content": "Be brief."}
THOUGHT = "ten times three, plus six"
CONVERSATIONS: dict[str, tuple[list[dict[str, Any]], Any]] = {
    "one turn": ([user("Why is it so?"), assistant("Because it is.")], None),
    "system": ([SYSTEM, user("Why is it so?"), assistant("Because it is.")], None),
    "three turns": (
        [user("One?"), assistant("First"), user("Two?"), assistant("Second"), user("Three?"), assistant("Third")],
        None,
    ),
    "white space": ([user(" a "), assistant("  lead\n\ntail \n"), user("b"), assistant("\nx")], None),
    "reasoning, last turn": ([user("12*3?"), assistant("36", reasoning_content=THOUGHT)], None),
    "reasoning, first turn": (
        [user("12*3?"), assistant("36", reasoning_content=THOUGHT), user("and 13?"), assistant("39")],
        None,
    ),
    "reasoning, middle turn": (
        [
            user("q"),
            assistant("a"),
            user("12*3?"),
            assistant("36", reasoning_content=THOUGHT),
            user("?"),
            assistant("39"),
        ],
        None,
    ),
    "thinking tags": (
        [
            user("12*3?"),
            assistant(f"<think>\n{THOUGHT}\n</think>\n\n36"),
            user("and 13?"),
            assistant("<think>\nadd three\n</think>\n\n39"),
        ],
        None,
    ),
    "tool": ([user("How deep?"), assistant("", tool_calls=[call("B0")]), result("3"), assistant("3 metres")], TOOLS),
    "tool, last turn": ([user("How deep?"), assistant("", tool_calls=[call("B0")])], TOOLS),
    "tool beside text": (
        [
            SYSTEM,
            user("How deep?"),
            assistant("Let me look", tool_calls=[call("B0")]),
            result("3"),
            assistant("3 metres"),
        ],
        TOOLS,
    ),
    "two tools at once": (
        [user("?"), assistant("", tool_calls=[call("B0"), call("B1")]), result("3"), result("4"), assistant("3 and 4")],
        TOOLS,
    ),
    "tool and reasoning": (
        [
            user("How deep?"),
            assistant("", reasoning_content="I should look", tool_calls=[call("B0")]),
            result("3"),
            assistant("3", reasoning_content="so three"),
        ],
        TOOLS,
    ),
}


def tokenizer_of(template: str) -> Any:
    """The tokenizer of ``builtin:tiny`` with the special tokens that a template spells."""
    tokenizer = Tokenizer.from_str(build_tiny_tokenizer().backend_tokenizer.to_str())
    spelt = (
        r"<\|[A-Za-z_0-9 ]+?\|>|<\uff5c[^<>]+?\uff5c>|<(?:start|end)_of_turn>|<(?:bos|eos)>"
        r"|\[gMASK\]|<sop>|<end_of_utterance>"
    )
    special = sorted(set(re.findall(spelt, template)))
    tokenizer.add_special_tokens([AddedToken(token, special=True, normalized=False) for token in special])
    end = next((token for token in ENDS if token in template), "<|endoftext|>")
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, chat_template=template, eos_token=end, bos_token="<|endoftext|>"
    )


@contextmanager
def on_the_day_of_the_settings() -> Generator[None]:
    """TRL's templates ask the clock; ours are told the date of the settings."""

    class Fixed(datetime):
        @classmethod
        def now(cls, tz: Any = None) -> Any:
            return cls(2025, 1, 1, tzinfo=tz)

    before = chat_template_utils.datetime
    chat_template_utils.datetime = Fixed  # type: ignore[misc]
    try:
        yield
    finally:
        chat_template_utils.datetime = before  # type: ignore[misc]


def theirs(tokenizer: Any, name: str, template: str | None = None) -> tuple[list[int], list[int]] | str:
    """Token ids and labels as TRL's ``assistant_only_loss`` takes them, or why it takes none."""
    messages, tools = CONVERSATIONS[name]
    with on_the_day_of_the_settings(), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            made = tokenizer.apply_chat_template(
                messages, tools=tools, chat_template=template, return_dict=True, return_assistant_tokens_mask=True
            )
        except Exception as error:  # whatever a template raises
            return f"{type(error).__name__}: {error}"
    ids, mask = made["input_ids"], made["assistant_masks"]
    return (ids, [token if yes else -100 for token, yes in zip(ids, mask, strict=True)]) if 1 in mask else "no label"


def ours(tokenizer: Any, name: str, **settings: Any) -> tuple[list[int], list[int]] | str:
    messages, tools = CONVERSATIONS[name]
    found: Encoding = encode([Conversation(messages, tools=tools)], tokenizer, **{"max_length": 4096, **settings})
    return (found.examples[0].input_ids, found.examples[0].labels) if found.examples else found.excluded[0].detail


def answers(name: str) -> list[str]:
    """What has to stand in the text for a conversation to be rendered whole."""
    messages, _ = CONVERSATIONS[name]
    said = [turn["content"].split("</think>")[-1].strip() for turn in messages if turn["role"] == "assistant"]
    return [text for text in said if text] + ["depth_at" for turn in messages if "tool_calls" in turn]


def is_rendered(tokenizer: Any, name: str) -> bool:
    messages, tools = CONVERSATIONS[name]
    text = tokenizer.apply_chat_template(messages, tools=None, tokenize=False)
    return all(answer in text for answer in answers(name)) and (tools is None or "B0" in text)


@pytest.mark.parametrize("template", MARKED)
def test_labels_are_those_of_trl(template: str) -> None:
    tokenizer = tokenizer_of((FOLDER / f"{template}.jinja").read_text(encoding="utf-8"))
    for name in CONVERSATIONS:
        expected, found = theirs(tokenizer, name), ours(tokenizer, name)
        if isinstance(found, str):
            # Excluded: TRL refuses it as well, would learn a turn whose words are nowhere in the text, or would learn
            # the words of a tool, which the template renders inside the turn that called it.
            refused = isinstance(expected, str) or found.endswith("renders another message inside a response")
            assert refused or not is_rendered(tokenizer, name), (template, name, found)
        elif isinstance(expected, str):
            assert name == "system", (template, name, expected)  # goes with the first question where TRL gives up
        else:
            assert found == expected, (template, name)


@pytest.mark.parametrize("template", [name for name in TEMPLATES if name not in MARKED])
def test_without_marks_every_rendered_answer_is_learned_and_nothing_else(template: str) -> None:
    tokenizer = tokenizer_of((FOLDER / f"{template}.jinja").read_text(encoding="utf-8"))
    for name, (messages, _) in CONVERSATIONS.items():
        found = ours(tokenizer, name)
        if isinstance(found, str):
            continue
        text = tokenizer.decode([label for label in found[1] if label != -100])
        rendered = tokenizer.decode(found[0])
        assert all(answer in text for answer in answers(name) if answer in rendered), (template, name, text)
        asked = [turn["content"].strip() for turn in messages if turn["role"] in {"user", "system"}]
        assert not any(question in text for question in asked if len(question) > 4), (template, name, text)
        assert "response:" not in text


def test_turns_that_end_differently_in_the_middle_keep_their_end() -> None:
    tokenizer = tokenizer_of((FOLDER / "gptoss.jinja").read_text(encoding="utf-8"))
    _, labels = ours(tokenizer, "three turns")
    text = tokenizer.decode([label for label in labels if label != -100])
    said = [f"<|channel|>final<|message|>{answer}" for answer in ("First<|end|>", "Second<|end|>", "Third<|return|>")]
    assert text == "".join(said)


@pytest.mark.parametrize("name", ["one turn", "three turns", "thinking tags", "tool", "two tools at once"])
@pytest.mark.parametrize("length", [512, 24])
def test_the_trainer_itself_learns_the_same_tokens(name: str, length: int, tmp_path: Path) -> None:
    datasets = pytest.importorskip("datasets")
    messages, tools = CONVERSATIONS[name]
    row: dict[str, Any] = {"messages": messages, **({"tools": tools} if tools else {})}
    made = _prepared(datasets.Dataset.from_list([row]), tmp_path, assistant_only_loss=True, max_length=length)
    found = ours(build_tiny_tokenizer(), name, max_length=length)
    if isinstance(found, str):  # the prompt alone fills the length, and TRL leaves the row out too
        assert made is None
    else:
        assert made is not None
        assert (made["input_ids"], made["labels"]) == found


def test_a_prompt_and_a_completion_are_learned_as_trl_does(tmp_path: Path) -> None:
    datasets = pytest.importorskip("datasets")
    prompt = [SYSTEM, user("One?"), assistant("First"), user("Two?")]
    made = _prepared(
        datasets.Dataset.from_list([{"prompt": prompt, "completion": [assistant("Second")]}]), tmp_path, max_length=512
    )
    conversation = Conversation([*prompt, assistant("Second")], completion=len(prompt))
    (example,) = encode([conversation], build_tiny_tokenizer(), max_length=512).examples
    assert made is not None
    assert (made["input_ids"], made["labels"]) == (example.input_ids, example.labels)


def _prepared(rows: Any, folder: Path, **settings: Any) -> dict[str, Any] | None:
    """The first row as TRL's trainer prepares it."""
    from trl import SFTConfig, SFTTrainer

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        args = SFTConfig(output_dir=str(folder), report_to="none", use_cpu=True, bf16=False, **settings)
        trainer = SFTTrainer(
            model=build_tiny_model(), args=args, train_dataset=rows, processing_class=build_tiny_tokenizer()
        )
    return dict(trainer.train_dataset[0]) if len(trainer.train_dataset) else None


def table() -> str:
    """Templates x conversations: = equal to TRL's, - TRL refuses or renders no answer and so do we, o our own rule."""
    lines = ["| template | " + " | ".join(CONVERSATIONS) + " |", "|---|" + "---|" * len(CONVERSATIONS)]
    for template in TEMPLATES:
        tokenizer = tokenizer_of((FOLDER / f"{template}.jinja").read_text(encoding="utf-8"))
        cells = []
        for name in CONVERSATIONS:
            found = ours(tokenizer, name)
            expected = theirs(tokenizer, name) if template in MARKED else None
            cells.append("excluded" if isinstance(found, str) else "rule" if not isinstance(expected, tuple) else "=")
            assert cells[-1] != "=" or found == expected
        lines.append(f"| `{template}` | " + " | ".join(cells) + " |")
    return "\n".join(lines)


if __name__ == "__main__":
    print(table())
