"""Which characters of a rendered conversation an assistant turn has written.

What a turn wrote is never looked up by searching for its text. Characters that occur nowhere else are put into the
messages, which are rendered again: taking them out has to give back the very same text, and then they show where each
message went. A turn begins behind the generation prompt and ends with the token that ends a turn. Where a template
rewrites a turn so that the characters change its text, that turn alone is found by rendering the conversation up to
it, or with another answer in its place; no other turn loses its label by that.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, Final, Literal

from spice_select.errors import RowError
from spice_select.records.conversation import Message, text_of

Render = Callable[..., str]
"""Called with messages, and by keyword with ``tools`` and ``prompt`` (whether to end with the generation prompt)."""

Kind = Literal["content", "reasoning", "call", "part", "other"]

_FIRST_MARK: Final = 0xF0000  # private use: no text means anything by them
_LAST_MARK: Final = 0x10FFFD
_ENDS: Final = ("<|eom_id|>", "<|call|>", "<|return|>")


def unused_characters(text: str) -> Iterator[str]:
    """Private-use characters that a text does not hold."""
    used = set(text)
    return (chr(code) for code in range(_FIRST_MARK, _LAST_MARK) if chr(code) not in used and code & 0xFFFE != 0xFFFE)


@dataclass
class TurnSpan:
    """Where a turn is in the text.

    Attributes:
        start: First character of what it wrote.
        end: One behind the last.
        kinds: Which of its fields were seen.
        cuts: Where one part of its content ends and the next begins.
    """

    start: int
    end: int
    kinds: set[Kind] = field(default_factory=set)
    cuts: list[int] = field(default_factory=list)


@dataclass(frozen=True)
class _Seen:
    position: int
    message: int
    kind: Kind


class TurnFinder:
    """Finds the turns of the assistant under one template.

    Args:
        render: The template.
        special: Special tokens of the tokenizer.
    """

    def __init__(self, render: Render, special: Sequence[str]) -> None:
        self._render, self._special = render, list(special)

    def find(self, messages: Sequence[Message], tools: Any, text: str) -> dict[int, TurnSpan]:
        """The span of every assistant turn that the template renders, by index of the message.

        Args:
            messages: The conversation as it was rendered.
            tools: The tools it was rendered with.
            text: What came out.
        """
        turns = [index for index, message in enumerate(messages) if message["role"] == "assistant"]
        for sides in ("both", "end"):
            seen = self._seen(messages, tools, text, None, sides)
            if seen is not None:
                placed = {turn: self._span(turn, seen, text) for turn in turns}
                return {
                    turn: span or self._otherwise(messages, tools, text, turn)
                    for turn, span in placed.items()
                    if span is not None or self._depends(messages, tools, text, turn)
                }
        spans: dict[int, TurnSpan] = {}
        for turn in turns:
            if not self._depends(messages, tools, text, turn):
                continue
            tried = (self._seen(messages, tools, text, turn, sides) for sides in ("both", "end"))
            seen = next((found for found in tried if found is not None), None)
            span = None if seen is None else self._span(turn, seen, text)
            spans[turn] = span or self._otherwise(messages, tools, text, turn)
        return spans

    def renders_calls(self, messages: Sequence[Message], tools: Any, text: str, turn: int) -> bool:
        """Whether the text depends on the tool calls of a turn."""
        mark = next(unused_characters(text))
        message = messages[turn]
        calls = [{**call, "function": {**call["function"], "name": mark}} for call in message["tool_calls"]]
        try:
            other = self._render(
                [*messages[:turn], {**message, "tool_calls": calls}, *messages[turn + 1 :]], tools=tools
            )
        except RowError:
            return True
        return other != text

    @cached_property
    def _header(self) -> tuple[str, int]:
        """What stands before a turn of the assistant, and how much of it is there in every turn."""
        asked: list[Message] = [{"role": "user", "content": "Why?"}]
        try:
            plain, prompted = self._render(asked), self._render(asked, prompt=True)
        except RowError:
            return "", 0
        header = prompted[len(plain) :] if prompted.startswith(plain) else ""
        gap = self._gap
        least = next((size for size in range(len(header), 0, -1) if header[:size] in gap), 0)
        return (header, least) if least else ("", 0)

    @cached_property
    def _gap(self) -> str:
        """What stands between a question and an answer that another question follows."""
        turns: list[Message] = [
            {"role": "user", "content": "Why?\uf8ff"},
            {"role": "assistant", "content": "\uf8ffSo."},
            {"role": "user", "content": "Why?"},
            {"role": "assistant", "content": "So."},
        ]
        try:
            pieces = self._render(turns).split("\uf8ff")
        except RowError:
            return ""
        return pieces[1] if len(pieces) == 3 else ""

    @cached_property
    def _ends(self) -> tuple[str, ...]:
        """Special tokens that end a turn of the assistant."""
        asked: Message = {"role": "user", "content": "Why?"}
        call = {"type": "function", "function": {"name": "f\uf8ff", "arguments": {"a": "\uf8ff"}}}
        answers: list[Message] = [
            {"role": "assistant", "content": "So.\uf8ff"},
            {"role": "assistant", "content": "", "tool_calls": [call]},
        ]
        ends: list[str] = []
        for answer in answers:
            for following in ([], [asked, {**answers[0], "content": "So."}]):
                try:
                    text = self._render([asked, answer, *following])
                except RowError:
                    continue
                _, mark, rest = text.rpartition("\uf8ff")
                rest = rest.partition(self._header[0][: self._header[1]])[0] if self._header[1] else rest
                tokens = self._tokens_in(rest) if mark else []
                if not tokens or any(token in ends for token in tokens):
                    continue
                # Behind a call comes what closes it, and then what ends the turn.
                if not following:
                    ends.append(tokens[-1] if "tool_calls" in answer else tokens[0])
                elif "tool_calls" not in answer and len(tokens) > 1 and rest.lstrip().startswith(tokens[0]):
                    ends.append(tokens[0])
        return tuple(dict.fromkeys([*ends, *(token for token in _ENDS if token in self._special)]))

    def _tokens_in(self, text: str) -> list[str]:
        if not self._special:
            return []
        return re.findall("|".join(map(re.escape, self._special)), text)

    def _seen(
        self, messages: Sequence[Message], tools: Any, text: str, only: int | None, sides: str
    ) -> list[_Seen] | None:
        """Where the marked characters went; None where they change the text."""
        free = unused_characters(text + "".join(text_of(message) for message in messages))
        legend: dict[str, tuple[int, Kind]] = {}

        def mark(index: int, kind: Kind) -> str:
            sign = next(free)
            legend[sign] = (index, kind)
            return sign

        marked = [
            _marked(message, index, mark, sides)
            if only is None or index == only or (index == only - 1 and message["role"] != "assistant")
            else message
            for index, message in enumerate(messages)
        ]
        try:
            rendered = self._render(marked, tools=tools)
        except RowError:
            return None
        if not legend:
            return []
        seen: list[_Seen] = []
        called: set[str] = set()
        plain: list[str] = []
        size = done = 0
        for match in re.finditer(f"[{min(legend)}-{max(legend)}]", rendered):
            if match[0] not in legend:
                continue
            plain.append(rendered[done : match.start()])
            size += match.start() - done
            done = match.end()
            # Some templates write the name of a call again, above its result: only the first place is the turn's.
            if legend[match[0]][1] != "call" or match[0] not in called:
                seen.append(_Seen(size, *legend[match[0]]))
            called.add(match[0])
        plain.append(rendered[done:])
        return seen if "".join(plain) == text else None

    def _span(self, turn: int, seen: list[_Seen], text: str) -> TurnSpan | None:
        """The span of a turn by its marks; None where it has none.

        Raises:
            RowError: Something else stands inside it, which would be learned with it.
        """
        mine = [item for item in seen if item.message == turn]
        if not mine:
            return None
        first, last = mine[0].position, mine[-1].position
        if any(item.message != turn and first < item.position < last for item in seen):
            raise RowError("the chat template renders another message inside a response", code="template-refused")
        before = max((item.position for item in seen if item.message < turn and item.position <= first), default=0)
        behind = min(
            (item.position for item in seen if item.message > turn and item.position >= last), default=len(text)
        )
        kinds: set[Kind] = {item.kind for item in mine}
        cuts = [item.position for item in mine if item.kind == "part"]
        return TurnSpan(self._start(text, before, first), self._end(text, last, behind, kinds), kinds, cuts)

    def _start(self, text: str, before: int, first: int) -> int:
        header, least = self._header
        for size in range(len(header), least - 1, -1) if least else ():
            place = text.find(header[:size], before, first)
            if place >= 0:
                return place + size
        gap = self._gap
        if gap and before and text.startswith(gap, before):
            return min(before + len(gap), first)
        return first

    def _end(self, text: str, last: int, behind: int, kinds: set[Kind]) -> int:
        places = [(text.find(token, last, behind), token) for token in self._ends]
        stops = [place + len(token) for place, token in places if place >= 0]
        if stops:
            return min(stops)
        if "call" not in kinds:
            return last
        header, least = self._header
        place = text.find(header[:least], last, behind) if least else -1
        return place if place >= 0 else last + len(text[last:behind].rstrip()) if behind == len(text) else last

    def _depends(self, messages: Sequence[Message], tools: Any, text: str, turn: int) -> bool:
        """Whether the text depends on what a turn says."""
        try:
            return self._render(_with_other(messages, turn, text), tools=tools) != text
        except RowError:
            return True

    def _otherwise(self, messages: Sequence[Message], tools: Any, text: str, turn: int) -> TurnSpan:
        """The span of a turn that the template rewrites.

        Raises:
            RowError: It cannot be told.
        """
        try:
            prompt = self._render(messages[:turn], tools=tools, prompt=True)
            whole = self._render(messages[: turn + 1], tools=tools)
        except RowError:
            prompt = whole = ""
        if len(whole) > len(prompt) and whole.startswith(prompt) and text.startswith(whole):
            trimmed = len(whole.rstrip())
            ended = trimmed > len(prompt) and any(whole[:trimmed].endswith(token) for token in self._special)
            return TurnSpan(len(prompt), trimmed if ended else len(whole))
        try:
            other = self._render(_with_other(messages, turn, text), tools=tools)
        except RowError:
            other = ""
        alike = next((place for place, (a, b) in enumerate(zip(text, other, strict=False)) if a != b), 0)
        tail = next(
            (size for size, (a, b) in enumerate(zip(reversed(text), reversed(other), strict=False)) if a != b), 0
        )
        last = len(text) - tail
        if not alike or last <= alike:
            raise RowError("the chat template rewrites the response beyond recognition", code="template-refused")
        header, least = self._header
        place = text.rfind(header[:least], 0, alike + 1) if least else -1
        return TurnSpan(place + least if place >= 0 else alike, self._end(text, last, len(text), set()))


def _with_other(messages: Sequence[Message], turn: int, text: str) -> list[Message]:
    """The conversation with something else said in a turn."""
    mark = next(unused_characters(text))
    said: Message = {"role": "assistant", "content": mark}
    return [*messages[:turn], said, *messages[turn + 1 :]]


def _marked(message: Message, index: int, mark: Callable[[int, Kind], str], sides: str) -> Message:
    """The message with a mark before and behind each of its texts, inside the white space around it."""
    mine = message["role"] == "assistant"
    made: Message = {**message}
    if mine and "reasoning_content" in message:
        made["reasoning_content"] = _around(message["reasoning_content"], index, mark, "reasoning", sides)
    if text_of(message):
        content = text_of(message)
        if mine and "part_weights" in message:
            content = _parted(message, index, mark)
        made["content"] = _around(content, index, mark, "content" if mine else "other", sides)
    if mine and "tool_calls" in message:
        made["tool_calls"] = [
            {**call, "function": {**call["function"], "name": call["function"]["name"] + mark(index, "call")}}
            for call in message["tool_calls"]
        ]
    return made


def _around(text: str, index: int, mark: Callable[[int, Kind], str], kind: Kind, sides: str) -> str:
    body = text.strip()
    if not body:
        return text
    start = text.index(body)
    opening = mark(index, kind) if sides == "both" else ""
    return f"{text[:start]}{opening}{body}{mark(index, kind)}{text[start + len(body) :]}"


def _parted(message: Message, index: int, mark: Callable[[int, Kind], str]) -> str:
    content, pieces, place = text_of(message), [], 0
    for size, _ in message["part_weights"][:-1]:
        pieces += [content[place : place + size], mark(index, "part")]
        place += size
    return "".join([*pieces, content[place:]])
