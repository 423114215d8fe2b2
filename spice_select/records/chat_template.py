"""A conversation -> the text the model sees, and which characters of it are learned.

The template of the tokenizer decides the text. What is learned is never looked up by searching for the response:

1. a template with ``{% generation %}`` marks says so itself;
2. otherwise the responses are wrapped in characters that occur nowhere else and rendered again; the result counts
   only if taking those characters out gives back the very same text;
3. where a template rewrites responses (and so fails that check), the rendered prompt of a turn must be a prefix of
   the rendered conversation, and what follows it is the turn.

Text of a user that spells a special token (``<|im_end|>``) stays text: it is cut there, so that no tokenizer can
see the token.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from jinja2.exceptions import TemplateError
from transformers.utils.chat_template_utils import render_jinja_template

from spice_select.errors import RowError
from spice_select.records.records import Message

PLAIN_TEMPLATE = (
    "{{ bos }}{% for message in messages %}"
    "{% if message['role'] == 'assistant' %}### Response:\n"
    "{% generation %}{{ message['content'] }}{{ eos }}{% endgeneration %}{{ '\n\n' }}"
    "{% elif message['role'] == 'user' %}### Instruction:\n{{ message['content'] }}\n\n"
    "{% elif message['role'] == 'tool' %}### Result:\n{{ message['content'] }}\n\n"
    "{% else %}{{ message['content'] }}\n\n{% endif %}{% endfor %}"
)
"""Template for a tokenizer that has none: headings in plain text, the response ends with the end token."""

_RENDER: Any = render_jinja_template  # its annotation says str, it returns a pair of lists
_GENERATION = re.compile(r"\{%-?\s*generation\s*-?%\}")
_FIRST_MARK, _LAST_MARK = 0xF0000, 0xFFFFD  # private use: no text means anything by them


@dataclass(frozen=True)
class Rendered:
    """Text of a conversation with what is learned of it.

    Attributes:
        segments: The text, cut where the pieces have to be tokenised apart.
        learned: Half-open ranges of characters of the joined text, ascending.
    """

    segments: tuple[str, ...]
    learned: tuple[tuple[int, int], ...]


class ChatFormat:
    """How one tokenizer writes conversations.

    Args:
        tokenizer: A fast tokenizer of transformers, with or without a chat template.
    """

    def __init__(self, tokenizer: Any) -> None:
        self.eos: str = tokenizer.eos_token or ""
        first = tokenizer("", add_special_tokens=True)["input_ids"][:1]
        self.bos: str = tokenizer.bos_token if first and first[0] == tokenizer.bos_token_id else ""
        template = tokenizer.chat_template
        if isinstance(template, dict):
            template = template.get("default")
        self.template: str = template or PLAIN_TEMPLATE
        self._names: dict[str, Any] = {**tokenizer.special_tokens_map, "bos": self.bos, "eos": self.eos}
        special = {str(token) for token in tokenizer.added_tokens_decoder.values() if token.special}
        special |= set(tokenizer.all_special_tokens)
        self._special = sorted((token for token in special if len(token) > 1), key=len, reverse=True)

    @cached_property
    def _special_pattern(self) -> re.Pattern[str] | None:
        return re.compile("|".join(map(re.escape, self._special))) if self._special else None

    @cached_property
    def _end_pattern(self) -> re.Pattern[str]:
        return (
            re.compile(r"\s*(?:" + "|".join(map(re.escape, self._special)) + ")") if self._special else re.compile(r"")
        )

    def render(self, conversation: Sequence[Message]) -> Rendered:
        """Text of a conversation and what is learned of it.

        Args:
            conversation: Messages in order. One message of role ``text`` is learned whole, up to an end token.

        Raises:
            RowError: The template refuses the conversation or rewrites its responses beyond recognition.
        """  # ruff: ignore[docstring-extraneous-exception] - raised by the steps
        marks = _unused_characters("".join(message["content"] for message in conversation))
        cut = next(marks)
        safe: list[Message] = [
            {"role": message["role"], "content": self._defuse(message["content"], cut)} for message in conversation
        ]
        if any(message["role"] == "text" for message in safe):
            body = "\n\n".join(message["content"] for message in safe)
            text, learned = self.bos + body + self.eos, [(len(self.bos), len(self.bos) + len(body) + len(self.eos))]
        else:
            text, learned = self._conversation(safe, next(marks), next(marks))
        return _cut(text, learned, cut)

    def _defuse(self, content: str, cut: str) -> str:
        if self._special_pattern is None:
            return content
        return self._special_pattern.sub(lambda match: match[0][0] + cut + match[0][1:], content)

    def _apply(self, messages: Sequence[Message], *, spans: bool = False, prompt: bool = False) -> tuple[str, Any]:
        try:
            texts, ranges = _RENDER(
                conversations=[list(messages)],
                chat_template=self.template,
                return_assistant_tokens_mask=spans,
                add_generation_prompt=prompt,
                **self._names,
            )
        except (TemplateError, TypeError, ValueError, KeyError, IndexError) as error:
            raise RowError(f"the chat template refuses the conversation: {error}", code="template-refused") from error
        return str(texts[0]), ranges[0] if spans else None

    def _conversation(self, messages: list[Message], opening: str, closing: str) -> tuple[str, list[tuple[int, int]]]:
        marked = _GENERATION.search(self.template) is not None
        try:
            text, ranges = self._apply(messages, spans=marked)
        except RowError:
            messages = _without_system(messages)
            text, ranges = self._apply(messages, spans=marked)
        if marked:
            return text, [(start, end) for start, end in ranges]
        if all(message["role"] != "assistant" for message in messages):
            return text, []
        learned = self._by_marks(messages, text, opening, closing) or self._by_prefix(messages, text)
        if not learned:
            raise RowError("the chat template rewrites the response beyond recognition", code="template-refused")
        return text, learned

    def _by_marks(self, messages: list[Message], text: str, opening: str, closing: str) -> list[tuple[int, int]]:
        """Ranges of the responses and their end tokens, or nothing where the marks change the text."""
        for tidy in (str, str.strip):  # some templates strip each message
            wrapped: list[Message] = [
                {**message, "content": f"{opening}{tidy(message['content'])}{closing}"}
                if message["role"] == "assistant"
                else message
                for message in messages
            ]
            try:
                marked, _ = self._apply(wrapped)
            except RowError:
                continue
            if marked.replace(opening, "").replace(closing, "") != text:
                continue
            learned = []
            taken = 0
            for match in re.finditer(f"{opening}([^{opening}{closing}]*){closing}", marked):
                start = match.start() - taken
                taken += 2
                end = start + len(match[1])
                ending = self._end_pattern.match(text, end)
                learned.append((start, ending.end() if ending else end))
            if len(learned) == sum(message["role"] == "assistant" for message in messages):
                return learned
        return []

    def _by_prefix(self, messages: list[Message], text: str) -> list[tuple[int, int]]:
        """Ranges of the turns whose rendered prompt and rendered end are both prefixes of the text."""
        learned = []
        for turn, message in enumerate(messages):
            if message["role"] != "assistant":
                continue
            try:
                prompt, _ = self._apply(messages[:turn], prompt=True)
                whole, _ = self._apply(messages[: turn + 1])
            except RowError:
                continue
            if len(whole) > len(prompt) and whole.startswith(prompt) and text.startswith(whole):
                learned.append((len(prompt), len(whole)))
        return learned


def _unused_characters(text: str) -> Iterator[str]:
    used = set(text)
    return (chr(code) for code in range(_FIRST_MARK, _LAST_MARK) if chr(code) not in used)


def _without_system(messages: list[Message]) -> list[Message]:
    """The same conversation with its system message put before the first user's words (as Gemma wants it)."""
    if len(messages) < 2 or messages[0]["role"] != "system":
        return messages
    system, first, *rest = messages
    return [{**first, "content": f"{system['content']}\n\n{first['content']}"}, *rest]


def _cut(text: str, learned: list[tuple[int, int]], cut: str) -> Rendered:
    """Split at every ``cut``, and move the ranges to where they are without those characters."""
    if cut not in text:
        return Rendered((text,), tuple(learned))
    moved = tuple((start - text.count(cut, 0, start), end - text.count(cut, 0, end)) for start, end in learned)
    return Rendered(tuple(text.split(cut)), moved)
