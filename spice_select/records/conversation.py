"""A conversation as the trainer sees it: messages under the names that chat templates read, and what goes with them."""

from __future__ import annotations

import json
from collections.abc import Collection, Iterable
from typing import Any, Literal, Required, TypedDict

from spice_select.records.exact_numbers import compact_json, dump_record, is_exact, spelt_number

Role = Literal["system", "user", "assistant", "tool", "text"]


class Message(TypedDict, total=False):
    """One turn of a conversation. Role ``text`` is the whole of a ``text`` record: everything in it is learned.

    ``content`` is None only beside ``tool_calls``. ``weight`` scales the loss of an assistant turn (absent is 1, 0
    leaves it without a label); ``part_weights`` are (characters, weight) of the parts of the content, in order.
    """

    role: Required[Role]
    content: Required[str | None]
    reasoning_content: str
    tool_calls: list[dict[str, Any]]
    tool_call_id: str
    name: str
    weight: float
    part_weights: list[tuple[int, float]]


class Conversation(list[Message]):
    """Messages in order, and what stands beside them.

    Args:
        messages: The messages.
        tools: Definitions of the tools that may be called.
        completion: Index of the first message of the completion, where prompt and completion are told apart.
        rejected: The completion that was not preferred, of preference pairs.
        desirable: Whether the completion was judged good, of single judged answers.
    """

    def __init__(
        self,
        messages: Iterable[Message] = (),
        *,
        tools: list[dict[str, Any]] | None = None,
        completion: int | None = None,
        rejected: list[Message] | None = None,
        desirable: bool | None = None,
    ) -> None:
        super().__init__(messages)
        self.tools = tools
        self.completion = completion
        self.rejected = rejected
        self.desirable = desirable

    @property
    def beside(self) -> dict[str, Any]:
        """What stands beside the messages, without what is not there."""
        if self.tools is None and self.completion is None and not self.is_preference:
            return {}
        named = {
            "tools": self.tools,
            "completion": self.completion,
            "rejected": self.rejected,
            "desirable": self.desirable,
        }
        return {name: value for name, value in named.items() if value is not None}

    @property
    def is_preference(self) -> bool:
        """Whether the conversation holds a judgement."""
        return self.rejected is not None or self.desirable is not None


def dump_conversation(conversation: list[Message]) -> str:
    """Compact JSON of a conversation: a list of messages, or an object with ``messages`` where more belongs to it."""
    beside = conversation.beside if isinstance(conversation, Conversation) else None
    value = {"messages": conversation, **beside} if beside else conversation
    text = compact_json(value)
    if '"arguments":' in text:
        turns = [*conversation, *((beside or {}).get("rejected") or [])]
        calls = [call for message in turns if "tool_calls" in message for call in message["tool_calls"]]
        if any(is_exact(call["function"]["arguments"]) for call in calls):
            return dump_record(value)
    return text


def load_conversation(text: str) -> Conversation:
    """The conversation that ``dump_conversation`` wrote."""
    value = json.loads(text, parse_float=spelt_number)
    if isinstance(value, list):
        return Conversation(value)
    return Conversation(value.pop("messages"), **value)


def shown(message: Message) -> str:
    """Everything a message says, for a person: reasoning, content, then each call as JSON."""
    calls = [dump_record(call["function"]) for call in message.get("tool_calls", [])]
    return "\n\n".join(part for part in (message.get("reasoning_content"), message["content"], *calls) if part)


def said(conversation: Conversation, roles: Collection[Role] | None = None) -> str:
    """What some roles say in a conversation; without roles everything, prompt and response, and the rejected one."""
    messages = [*conversation, *(conversation.rejected or [])] if roles is None else conversation
    return " ".join(shown(message) for message in messages if roles is None or message["role"] in roles)


def text_of(message: Message) -> str:
    """The content of a message as text: empty for a message that only calls tools."""
    return message["content"] or ""
