"""A conversation -> the text the model sees, and which characters of it are learned, with which weight.

The template of the tokenizer decides the text. What is learned:

1. a template with ``{% generation %}`` marks says so itself;
2. otherwise every turn of the assistant that the template renders, from behind the generation prompt to the token that
   ends the turn, as ``turn_finder`` finds it. What the template strips is in no text and is not learned.

A turn with the weight 0 is not learned; another weight scales its loss. Text of a user that spells a special token
(``<|im_end|>``) stays text: it is cut there, so that no tokenizer can see the token.
"""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, Final

from jinja2.exceptions import TemplateError, TemplateRuntimeError

from spice_select.errors import RowError
from spice_select.records.conversation import Conversation, Message, text_of
from spice_select.records.exact_numbers import exact_json
from spice_select.records.template_engine import MOST_CHARACTERS, compile_template
from spice_select.records.turn_finder import TurnFinder, TurnSpan, unused_characters

PLAIN_TEMPLATE = (
    "{{ bos }}{% for message in messages %}"
    "{% if message['role'] == 'assistant' %}### Response:\n"
    "{% generation %}{% if message['reasoning_content'] %}<think>\n{{ message['reasoning_content'] }}\n</think>\n\n"
    "{% endif %}"
    "{{ message['content'] or '' }}{% for call in message['tool_calls'] or [] %}"
    "{% if message['content'] or not loop.first %}{{ '\n' }}{% endif %}<tool_call>\n"
    '{"name": {{ call["function"]["name"] | tojson }}, "arguments": {{ call["function"]["arguments"] | tojson }}}'
    "\n</tool_call>{% endfor %}{{ eos }}{% endgeneration %}{{ '\n\n' }}"
    "{% elif message['role'] == 'user' %}### Instruction:\n{{ message['content'] }}\n\n"
    "{% elif message['role'] == 'tool' %}### Result:\n{{ message['content'] }}\n\n"
    "{% else %}{{ message['content'] }}\n\n{% endif %}"
    "{% if loop.first and tools %}### Tools:\n{% for tool in tools %}{{ tool | tojson }}\n{% endfor %}{{ '\n' }}"
    "{% endif %}"
    "{% endfor %}{% if add_generation_prompt %}### Response:\n{% endif %}"
)
"""Template for a tokenizer that has none: headings in plain text, the response ends with the end token."""

DEFAULT_DATE: Final = "2025-01-01"
"""What a template is told the date is, unless the settings say otherwise."""

_GENERATION: Final = re.compile(r"\{%-?\s*generation\s*-?%\}")
_REFUSALS: Final = (
    TemplateError, TypeError, ValueError, KeyError, IndexError, AttributeError, ArithmeticError, RecursionError,
)  # fmt: skip
"""What a template raises that does not take a conversation, ``range`` beyond the sandbox's limit among it."""
_TAGS: Final = frozenset(
    {"<think>", "</think>", "<tool_call>", "</tool_call>", "<tool_response>", "</tool_response>", "[THINK]", "[/THINK]"}
)
"""Special tokens that an answer spells on purpose, and a trainer learns as such."""
_MARKERS: Final = re.compile(
    r"<\|(?:im_start|im_end|start_header_id|eot_id|user|assistant|system|end|endoftext|begin_of_text)\|>"
    r"|<(?:start|end)_of_turn>|\[/?INST\]|<\uff5c(?:User|Assistant)\uff5c>"
)
"""Marks of templates in a text that was rendered already."""

Span = tuple[int, int, float]
"""Half-open range of characters that is learned, and the weight of its loss."""


@dataclass(frozen=True)
class Rendered:
    """Text of a conversation with what is learned of it.

    Attributes:
        segments: The text, cut where the pieces have to be tokenised apart.
        learned: Ranges of the joined text with their weights, ascending.
        prompt: Text of the prompt, cut likewise, where all that comes behind it is learned (prompt and completion).
        notes: What a person should know about it.
    """

    segments: tuple[str, ...]
    learned: tuple[Span, ...]
    prompt: tuple[str, ...] | None = None
    notes: tuple[str, ...] = field(default=())


class ChatFormat:
    """How one tokenizer writes conversations.

    Args:
        tokenizer: A fast tokenizer of transformers, with or without a chat template.
        today: What templates are told the date is, YYYY-MM-DD.
    """

    def __init__(self, tokenizer: Any, today: str = DEFAULT_DATE) -> None:
        self.eos: str = tokenizer.eos_token or ""
        first = tokenizer("", add_special_tokens=True)["input_ids"][:1]
        self.bos: str = tokenizer.bos_token if first and first[0] == tokenizer.bos_token_id else ""
        template = tokenizer.chat_template
        if isinstance(template, dict):
            template = template.get("default")
        self.template: str = template or PLAIN_TEMPLATE
        self.today = today
        self._marks_turns = _GENERATION.search(self.template) is not None
        self._names: dict[str, Any] = {**tokenizer.special_tokens_map, "bos": self.bos, "eos": self.eos}
        special = {str(token) for token in tokenizer.added_tokens_decoder.values() if token.special}
        special |= set(tokenizer.all_special_tokens)
        self._special = sorted((token for token in special if len(token) > 1), key=len, reverse=True)
        self._known = special | {str(token) for token in tokenizer.added_tokens_decoder.values()}
        self._spoken = _any_of(token for token in self._special if token not in _TAGS)
        self._pattern = _any_of(self._special)
        self._finder = TurnFinder(self._text, self._special)

    @cached_property
    def _compiled(self) -> Any:
        return compile_template(self.template, self.today)

    def render(self, conversation: Sequence[Message]) -> Rendered:
        """Text of a conversation and what is learned of it.

        Args:
            conversation: Messages in order. One message of role ``text`` is learned whole, up to an end token.

        Raises:
            RowError: The template refuses the conversation, does not render what it should, or rewrites it.
        """  # ruff: ignore[docstring-extraneous-exception] - raised by the steps
        if conversation and conversation[0]["role"] == "text":
            return self._plain(conversation)
        tools = conversation.tools if isinstance(conversation, Conversation) else None
        everything = "".join(map(text_of, conversation))
        if any(len(message) > 2 for message in conversation) or tools:
            everything += json.dumps([list(conversation), tools], ensure_ascii=False)
        cut = next(unused_characters(everything))
        safe = [self._defused(message, cut) for message in conversation]
        tools = self._defuse(tools, cut, self._pattern)
        notes = Counter[str]()
        completion = conversation.completion if isinstance(conversation, Conversation) else None
        if completion is not None and not _flagged(conversation):
            return self._completion(safe, tools, completion, cut)
        text, learned = self._learned(safe, tools, notes)
        return _cut(text, learned, cut, tuple(notes))

    def _plain(self, conversation: Sequence[Message]) -> Rendered:
        """A text record: its special tokens are tokens, as for a trainer; what ends in one needs no other end."""
        body = "\n\n".join(map(text_of, conversation))
        templated = self._pattern is not None and self._pattern.search(body) is not None
        ended = templated and any(body.rstrip().endswith(token) for token in self._special)
        opening = "" if templated and body.lstrip().startswith((self.bos or "\0", *self._special)) else self.bos
        text = opening + body + ("" if ended else self.eos)
        foreign = (
            [mark for mark in _MARKERS.findall(body) if mark not in self._known] if "<" in body or "[" in body else []
        )
        return Rendered((text,), ((len(opening), len(text), 1.0),), None, ("markers-are-text",) if foreign else ())

    def _completion(self, messages: list[Message], tools: Any, completion: int, cut: str) -> Rendered:
        """Prompt and completion as lists of messages: all behind the prompt is learned, as TRL does.

        Raises:
            RowError: The template refuses the conversation.
        """  # ruff: ignore[docstring-extraneous-exception] - raised by the steps
        text = self._text(messages, tools=tools)
        prompt = self._text(messages[:completion], tools=tools, prompt=True)
        missing = [turn for turn in range(completion, len(messages)) if messages[turn].get("tool_calls")]
        self._require_calls(messages, tools, text, missing)
        return Rendered(tuple(text.split(cut)), (), tuple(prompt.split(cut)))

    def _defused(self, message: Message, cut: str) -> Message:
        if self._pattern is None:
            return message
        pattern = self._spoken if message["role"] == "assistant" else self._pattern
        made: Message = {**message}
        for key in ("content", "reasoning_content", "tool_calls"):
            if key in message:
                made[key] = self._defuse(message[key], cut, pattern)
        return made

    def _defuse(self, value: Any, cut: str, pattern: re.Pattern[str] | None) -> Any:
        if pattern is None or value is None:
            return value
        if isinstance(value, str):
            return pattern.sub(lambda match: match[0][0] + cut + match[0][1:], value)
        if isinstance(value, dict):
            return {key: self._defuse(item, cut, pattern) for key, item in value.items()}
        return [self._defuse(item, cut, pattern) for item in value] if isinstance(value, list) else value

    def _text(self, messages: Sequence[Message], *, tools: Any = None, prompt: bool = False) -> str:
        return self._apply(messages, tools, prompt=prompt)[0]

    def _apply(
        self, messages: Sequence[Message], tools: Any, *, prompt: bool = False, spans: bool = False
    ) -> tuple[str, list[tuple[int, int]]]:
        """Text of the messages, and the ranges that the template marks.

        Raises:
            RowError: The template refuses them.
        """
        try:
            return self._run([_for_template(message) for message in messages], tools, prompt=prompt, spans=spans)
        except _REFUSALS as error:
            plainer = [_plainer(message) for message in messages]
            if any(message.get("tool_calls") for message in messages):
                try:  # templates that join strings want no null and no object
                    return self._run(plainer, tools, prompt=prompt, spans=spans)
                except _REFUSALS:
                    pass
            said = " ".join(str(error).split())[:300]
            raise RowError(f"the chat template refuses the conversation: {said}", code="template-refused") from error

    def _run(
        self, messages: list[dict[str, Any]], tools: Any, *, prompt: bool, spans: bool
    ) -> tuple[str, list[tuple[int, int]]]:
        compiled = self._compiled
        given = {
            "messages": messages,
            "tools": tools,
            "documents": None,
            "add_generation_prompt": prompt,
            **self._names,
        }
        blocks: list[str] = []
        if not spans:
            _extend(blocks, compiled.generate(**given))
            return "".join(blocks), []
        ranges: list[tuple[int, int]] = []
        with compiled.environment.activate_tracker(blocks, ranges):
            _extend(blocks, compiled.generate(**given))
        return "".join(blocks), ranges

    def _learned(self, messages: list[Message], tools: Any, notes: Counter[str]) -> tuple[str, list[Span]]:
        """Text and what is learned of it.

        Raises:
            RowError: The template does not render what it should.
        """
        try:
            text, ranges = self._apply(messages, tools, spans=self._marks_turns)
        except RowError:
            messages = _without_system(messages)
            text, ranges = self._apply(messages, tools, spans=self._marks_turns)
        if all(message["role"] != "assistant" for message in messages):
            return text, []
        if tools and "tools" not in self.template:
            notes["tools-not-rendered"] += 1
        if self._marks_turns and _is_plain(messages) and _is_there(messages, text):
            return text, [(start, end, 1.0) for start, end in ranges]
        spans = self._finder.find(messages, tools, text)
        self._require_calls(
            messages, tools, text, [i for i, message in enumerate(messages) if message.get("tool_calls")], spans
        )
        if any("reasoning_content" in messages[i] and "reasoning" not in span.kinds for i, span in spans.items()):
            notes["reasoning-not-rendered"] += 1
        if any(
            messages[i].get("tool_calls")
            and text_of(messages[i]).strip()
            and span.kinds
            and "content" not in span.kinds
            for i, span in spans.items()
        ):
            notes["text-not-rendered"] += 1
        if not spans or (self._marks_turns and not any(end > start for start, end in ranges)):
            raise RowError("the chat template does not render the response", code="template-refused")
        if self._marks_turns:
            return text, _assigned(ranges, spans, messages)
        return text, _weighed(spans, messages)

    def _require_calls(
        self, messages: list[Message], tools: Any, text: str, turns: list[int], spans: dict[int, TurnSpan] | None = None
    ) -> None:
        """Refuse a template that leaves out tool calls.

        Raises:
            RowError: It does.
        """
        for turn in turns:
            span = (spans or {}).get(turn)
            if span is not None and "call" in span.kinds:
                continue
            if not self._finder.renders_calls(messages, tools, text, turn):
                raise RowError("the chat template does not render tool calls", code="template-refused")


def _extend(blocks: list[str], pieces: Any) -> None:
    """Add what a template renders.

    Raises:
        TemplateRuntimeError: It does not end.
    """
    length = 0
    for piece in pieces:  # one by one: the template's marks count what is there already
        length += len(piece)
        if length > MOST_CHARACTERS:
            raise TemplateRuntimeError(f"it renders more than {MOST_CHARACTERS} characters")
        blocks.append(piece)


def _any_of(tokens: Any) -> re.Pattern[str] | None:
    listed = list(tokens)
    return re.compile("|".join(map(re.escape, listed))) if listed else None


def _for_template(message: Message) -> dict[str, Any]:
    """The message as transformers gives it to a template: reasoning under all of its names, no weights."""
    if len(message) == 2:
        return message  # type: ignore[return-value]
    made: dict[str, Any] = {key: value for key, value in message.items() if key not in {"weight", "part_weights"}}
    if "reasoning_content" in made:
        made = {"thinking": made["reasoning_content"], **made}
    return made


def _plainer(message: Message) -> dict[str, Any]:
    """The message for a template that joins strings: no null content, arguments as JSON text."""
    made = {**_for_template(message), "content": text_of(message)}
    if "tool_calls" in message:
        made["tool_calls"] = [
            {
                **call,
                "function": {
                    **call["function"],
                    "arguments": exact_json(call["function"]["arguments"]),
                },
            }
            for call in message["tool_calls"]
        ]
    return made


def _flagged(messages: Sequence[Message]) -> bool:
    return any("weight" in message or "part_weights" in message for message in messages)


def _is_plain(messages: Sequence[Message]) -> bool:
    return all(len(message) == 2 for message in messages)


def _is_there(messages: Sequence[Message], text: str) -> bool:
    """Whether every answer stands in the text as it is, so that nothing else needs to be looked at."""
    return all(text_of(message).strip() in text for message in messages if message["role"] == "assistant")


def _weighed(spans: dict[int, TurnSpan], messages: Sequence[Message]) -> list[Span]:
    """What is learned of the turns, each with its weight."""
    learned: list[Span] = []
    for turn, span in sorted(spans.items(), key=lambda item: item[1].start):
        learned += _pieces(span.start, span.end, span, messages[turn])
    return [(start, end, weight) for start, end, weight in learned if weight > 0 and end > start]


def _pieces(start: int, end: int, span: TurnSpan, message: Message) -> list[Span]:
    weight = message.get("weight", 1.0)
    parts = message.get("part_weights")
    if parts is None:
        return [(start, end, weight)]
    if len(span.cuts) != len(parts) - 1:
        raise RowError("the chat template rewrites a response with weights of its own parts", code="template-refused")
    edges = [start, *(min(max(cut, start), end) for cut in span.cuts), end]
    return [(a, b, weight * part) for a, b, (_, part) in zip(edges[:-1], edges[1:], parts, strict=True)]


def _assigned(ranges: list[tuple[int, int]], spans: dict[int, TurnSpan], messages: Sequence[Message]) -> list[Span]:
    """The template's own ranges with the weight of the turn that each belongs to."""
    learned: list[Span] = []
    turns = sorted(spans.items(), key=lambda item: item[1].start)
    for start, end in ranges:
        owner = next(((turn, span) for turn, span in turns if span.end > start and span.start < end), None)
        if owner is None:
            learned.append((start, end, 1.0))
        else:
            learned += _pieces(start, end, owner[1], messages[owner[0]])
    return [(start, end, weight) for start, end, weight in learned if weight > 0]


def _without_system(messages: list[Message]) -> list[Message]:
    """The same conversation with its system message put before the first user's words (as Gemma wants it)."""
    if len(messages) < 2 or messages[0]["role"] != "system":
        return messages
    system, first, *rest = messages
    return [{**first, "content": f"{text_of(system)}\n\n{text_of(first)}"}, *rest]


def _cut(text: str, learned: list[Span], cut: str, notes: tuple[str, ...]) -> Rendered:
    """Split at every ``cut``, and move the ranges to where they are without those characters."""
    if cut not in text:
        return Rendered((text,), tuple(learned), None, notes)
    moved = tuple((a - text.count(cut, 0, a), b - text.count(cut, 0, b), weight) for a, b, weight in learned)
    return Rendered(tuple(text.split(cut)), moved, None, notes)
