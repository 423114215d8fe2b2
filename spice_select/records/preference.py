"""Preference data: pairs of a chosen and a rejected answer, and single answers that were judged good or bad."""

from __future__ import annotations

import re
from typing import Any, Final

from spice_select.errors import RowError
from spice_select.records.accounting import Row, quoted
from spice_select.records.conversation import Conversation, Message, shown
from spice_select.records.formats import ColumnRole, is_judgement
from spice_select.records.tool_calls import parsed
from spice_select.records.turns import is_pair, kind, messages_of

_BEFORE: Final[tuple[ColumnRole, ...]] = ("messages", "prompt", "input", "context", "history")
_TRANSCRIPT: Final = re.compile(r"\n\n(Human|Assistant):[ \t]?")


def preference(row: Row, prompt: list[Message]) -> Conversation:
    """The conversation with the chosen answer, and the rejected one beside it; or one answer with its judgement.

    Args:
        row: The record.
        prompt: What the columns before the answers say; may be empty where the answers are whole conversations.

    Raises:
        RowError: An answer is missing or empty, or the two are equal.
    """
    if row.has("rejected") and row.columns.get("chosen") not in row.record:
        # The better answer stands where an answer usually does: in a column of answers, or at the end of the turns.
        prompt, chosen = _asked_and_answered(row, prompt)
    elif not {"chosen", "rejected"} <= row.columns.keys() or row.columns["chosen"] not in row.record:
        return _judged(row, prompt)
    else:
        chosen = _answer(row, "chosen")
    rejected = _answer(row, "rejected")
    if chosen[0]["role"] == "assistant" and rejected[0]["role"] != "assistant":
        prompt, chosen = [], [*prompt, *chosen]
    shared = next((place for place, (a, b) in enumerate(zip(chosen, rejected, strict=False)) if a != b), None)
    shared = min(len(chosen), len(rejected)) if shared is None else shared
    if len(chosen) == len(rejected) == shared:
        raise RowError("the chosen and the rejected answer are equal", code="nothing-to-learn")
    if any(message["role"] != "assistant" for message in [*chosen[:1], *rejected[:1]]):
        # Whole conversations: what both begin with is the prompt, whether or not it is also in a column.
        if shared < max(len(chosen), len(rejected)) - 1:
            row.notes.say("pairs whose two conversations differ before their last message, from where both are learned")
        shared = min(shared, len(chosen) - 1, len(rejected) - 1)
        system = [m for m in prompt[:1] if m["role"] == "system" and chosen[0]["role"] != "system"]
        prompt, chosen, rejected = [*system, *chosen[:shared]], chosen[shared:], rejected[shared:]
        said = [
            shown(message) if len(message) > 2 else message["content"] or ""
            for message in [*prompt, *chosen, *rejected]
        ]
        said += [value for value in (row.peek("chosen"), row.peek("rejected")) if isinstance(value, str)]
        row.give_back(_BEFORE, lambda value: all(any(text in whole for whole in said) for text in _texts(value)))
    return Conversation([*prompt, *chosen], completion=len(prompt), rejected=rejected)


def _texts(value: Any) -> list[str]:
    """What the turns, or the text, of a column say."""
    value = parsed(value)
    if isinstance(value, dict):
        value = [value[key] for key in ("content", "value") if key in value] or [*value.values()]
    if isinstance(value, list):
        return [text for item in value for text in _texts(item)]
    return [value.strip() if isinstance(value, str) else str(value)]


def _judged(row: Row, prompt: list[Message]) -> Conversation:
    label = row.peek("label")
    if isinstance(label, str) and is_judgement(label):
        label = label.strip().lower() in {"true", "1"}
    if isinstance(label, (int, float)) and label in (0, 1):
        label = bool(label)
    if not isinstance(label, bool):
        raise RowError(
            "the row says neither what was chosen and rejected nor whether its answer is good", code="wrong-type"
        )
    row.take("label")
    prompt, answer = _asked_and_answered(row, prompt)
    return Conversation([*prompt, *answer], completion=len(prompt), desirable=label)


def _asked_and_answered(row: Row, prompt: list[Message]) -> tuple[list[Message], list[Message]]:
    """What is asked, and the one answer: from a column of its own, or the last turns of the conversation.

    Raises:
        RowError: There is no answer.
    """
    if row.peek("response") is not None:
        return prompt, _answer(row, "response")
    last = next((place for place in reversed(range(len(prompt))) if prompt[place]["role"] != "assistant"), -1)
    if not prompt[last + 1 :]:
        raise RowError("the conversation has no assistant message at its end to be judged", code="no-assistant-turn")
    return prompt[: last + 1], prompt[last + 1 :]


def _answer(row: Row, role: ColumnRole) -> list[Message]:
    column, value = row.columns[role], row.take(role)
    if _holds_turns(parsed(value)) or not isinstance(value, str):
        value = parsed(value)
    if isinstance(value, str):
        pieces = _TRANSCRIPT.split(value)
        if len(pieces) > 2 and not pieces[0].strip():
            return [
                {"role": "user" if who == "Human" else "assistant", "content": said.strip()}
                for who, said in zip(pieces[1::2], pieces[2::2], strict=True)
            ]
        value = [{"role": "assistant", "content": value}]
    if not isinstance(value, (list, dict)) or not value:
        raise RowError(f"column {quoted(column)} holds {kind(value)}, not an answer", code="empty-response")
    messages = messages_of(value, column, row.notes)
    if not any(
        message["content"] or message.get("tool_calls") for message in messages if message["role"] == "assistant"
    ):
        raise RowError(f"column {quoted(column)} holds no answer", code="empty-response")
    return messages


def _holds_turns(value: Any) -> bool:
    """Whether a value is a turn or turns; an answer may be JSON text that is neither."""
    turns = value if isinstance(value, list) else [value]
    return bool(turns) and all(
        isinstance(turn, dict) and (bool({"role", "from"} & turn.keys()) or is_pair(turn)) for turn in turns
    )
