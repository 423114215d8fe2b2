"""One turn of a conversation, in any of the usual dialects, becomes messages."""

from __future__ import annotations

from collections import Counter
from typing import Any, Final

from spice_select.errors import RowError
from spice_select.records.conversation import Message, Role, compact_json
from spice_select.records.exact_numbers import dump_record
from spice_select.records.tool_calls import is_python_literal, openai_calls, parsed, spoken_calls
from spice_select.records.turn_flags import FLAGS, part_weights, weight_of

Notes = Counter[str]
"""What a person should know about rows that were read all the same: a sentence, and how often it is so."""

_NAMES: Final[dict[Role, str]] = {
    "system": "system developer system_prompt",
    "user": "user human prompter instruction customer client user_query question query usr",
    "assistant": "assistant gpt chatgpt bing bard bot chatbot model ai agent response answer assistant_response llm "
    "claude gemini function_call tool_call tool_calls",
    "tool": "tool function ipython observation tool_response tool_result tool_output function_response "
    "function_result environment",
}
ROLES: Final[dict[str, Role]] = {name: role for role, names in _NAMES.items() for name in names.split()}
"""Spelling of a speaker -> role."""

_CALLING: Final = frozenset({"function_call", "tool_call", "tool_calls"})
_REASONING: Final = ("reasoning_content", "reasoning", "thinking")
_CONTENT: Final = ("content", "value")
_READ: Final = frozenset(
    {"role", "from", "content", "value", "tool_calls", "function_call", "tool_call_id", "name", *_REASONING, *FLAGS}
)
_PAIRS: Final = (
    ("human", "assistant"), ("user", "assistant"), ("human", "gpt"), ("human", "bot"), ("user", "bot"),
    ("instruction", "output"), ("instruction", "response"), ("prompt", "response"), ("prompt", "completion"),
    ("question", "answer"), ("query", "response"), ("input", "output"),
)  # fmt: skip
MEDIA: Final = ("<image>", "<video>", "<audio>")
_MEDIA_PARTS: Final = ("image", "audio", "video", "file", "document")


def messages_of(value: Any, column: str, notes: Notes) -> list[Message]:
    """The messages of a list of turns.

    Args:
        value: A list of turns, a single turn, or either as JSON text.
        column: The column's name as it is shown.
        notes: Counted into.

    Raises:
        RowError: No list, or a turn that cannot be read.
    """
    value = parsed(value)
    if isinstance(value, dict):
        value = [value]
    if value is None or value == []:
        raise RowError(f"column {column} holds no messages", code="no-assistant-turn")
    if not isinstance(value, list):
        hint = ": a Python literal, not JSON; write it with json.dumps" if is_python_literal(value) else ""
        raise RowError(f"column {column} holds {kind(value)}, not a list of messages{hint}", code="wrong-type")
    messages: list[Message] = []
    for index, turn in enumerate(value):
        messages += _turn(parsed(turn), f"message {index + 1} of column {column}", notes)
    return messages


def is_pair(turn: Any) -> bool:
    """Whether one object holds a question and its answer, as in ``{"human": ..., "assistant": ...}``."""
    return isinstance(turn, dict) and _pair(turn) is not None


def kind(value: object) -> str:
    """What a JSON value is, in words."""
    kinds: dict[type, str] = {
        bool: "true or false",
        int: "a number",
        float: "a number",
        str: "text",
        list: "a list",
        dict: "an object",
        type(None): "null",
    }
    return kinds.get(type(value), type(value).__name__)


def quoted(name: str) -> str:
    """A name out of the data, safe to show: escaped and at most 60 characters."""
    return ascii(name if len(name) <= 60 else name[:57] + "...")


def number_text(value: Any, notes: Notes) -> str | None:
    """A number as text, which is noted; None for every other value."""
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return None
    notes["numbers read as text"] += 1
    return dump_record(value)


def check_media(text: str, where: str) -> None:
    """Refuse the placeholder of an image, a video or a sound: it stands for what is not measured.

    Raises:
        RowError: ``media-not-measured``.
    """
    if "<" in text and any(mark in text for mark in MEDIA):
        raise RowError(f"{where} stands for an image, a video or a sound, which are not measured", code=_MEDIA_CODE)


_MEDIA_CODE: Final = "media-not-measured"


def _pair(turn: dict[str, Any]) -> tuple[str, str] | None:
    if "role" in turn or "from" in turn:
        return None
    names = {name.lower(): name for name in turn}
    return next(((names[asked], names[said]) for asked, said in _PAIRS if asked in names and said in names), None)


def _turn(turn: Any, where: str, notes: Notes) -> list[Message]:
    if not isinstance(turn, dict):
        raise RowError(f"{where} is {kind(turn)}, not an object", code="wrong-type")
    spoken = turn.get("role")
    if spoken is None:
        spoken = turn.get("from")
    if len(turn) == 2 and isinstance(spoken, str):  # nearly all turns of nearly all data sets
        content = turn.get("content", turn.get("value"))
        role = ROLES.get(spoken)
        if role is not None and isinstance(content, str) and spoken not in _CALLING:
            check_media(content, f"the content of {where}")
            return [{"role": role, "content": content}]
    pair = _pair(turn)
    if pair is not None:
        return _both(turn, pair, where, notes)
    if not isinstance(spoken, str):
        raise RowError(f"{where} says no role", code="unknown-role")
    role = ROLES.get(spoken.strip().lower().strip("<>|[]:# "))
    if role is None:
        raise RowError(f"{where} has the unknown role {quoted(spoken)}", code="unknown-role")
    for key, value in turn.items():
        if key not in _READ and value is not None:
            notes[f"key {quoted(key)} of messages not used"] += 1
    return _Reader(turn, role, where, notes).read(calling=spoken.strip().lower() in _CALLING)


def _both(turn: dict[str, Any], pair: tuple[str, str], where: str, notes: Notes) -> list[Message]:
    """Messages of an object that holds a question and its answer."""
    asked, said = pair
    flags = {key: turn[key] for key in FLAGS if key in turn}
    for key, value in turn.items():
        if key not in {asked, said, "system", *_REASONING, *FLAGS} and value is not None:
            notes[f"key {quoted(key)} of messages not used"] += 1
    before = [{"role": "system", "content": turn["system"]}] if turn.get("system") else []
    thought = {key: turn[key] for key in _REASONING if turn.get(key) is not None}
    turns: list[dict[str, Any]] = [
        *before,
        {"role": "user", "content": turn[asked]},
        {"role": "assistant", "content": turn[said], **thought, **flags},
    ]
    return [message for made in turns for message in _turn(made, where, notes)]


class _Reader:
    """Reads one turn whose role is known."""

    def __init__(self, turn: dict[str, Any], role: Role, where: str, notes: Notes) -> None:
        self.turn, self.role, self.where, self.notes = turn, role, where, notes
        self.thoughts: list[str] = []
        self.calls: list[dict[str, Any]] = []
        self.results: list[Message] = []

    def read(self, *, calling: bool) -> list[Message]:
        """The messages: more than one where results of tools stand beside a user's words.

        Raises:
            RowError: The turn cannot be read.
        """
        turn, role = self.turn, self.role
        for key in ("tool_calls", "function_call"):
            if turn.get(key) not in (None, [], "", {}):
                if role != "assistant":
                    raise RowError(f"{self.where} calls tools and is no assistant's", code="wrong-type")
                said = [call["function"] for call in self.calls]
                # Exports in both dialects name one call twice.
                self.calls += [
                    call
                    for call in openai_calls(turn[key], self.where)
                    if key == "tool_calls" or call["function"] not in said
                ]
        value = next((turn[key] for key in _CONTENT if turn.get(key) is not None), None)
        silent = value is None and not self.calls and not any(key in turn for key in _CONTENT)
        if silent and not any(turn.get(key) for key in _REASONING):
            raise RowError(f"{self.where} has no content", code="missing-column")
        parts = self._parts(value)
        content: str | None = "".join(text for text, _ in parts)
        if calling and content and not self.calls:
            spoken = spoken_calls(content)
            if spoken is not None:
                self.calls, content, parts = spoken, "", []
        thought = next((turn[key] for key in _REASONING if isinstance(turn.get(key), str) and turn[key]), None)
        if thought is not None:
            self.thoughts = [thought]
        check_media(content or "", f"the content of {self.where}")
        if self.calls and not content:
            content = None
        made: Message = {"role": role, "content": content}
        self._extend(made, parts)
        # Results of tools come before what the user says beside them; an empty message would be rendered as a turn.
        return [*self.results, made] if content or self.calls or not self.results else self.results

    def _extend(self, made: Message, parts: list[tuple[str, float]]) -> None:
        turn = self.turn
        if self.thoughts and self.role == "assistant":
            made["reasoning_content"] = "\n".join(self.thoughts)
        if self.calls:
            made["tool_calls"] = self.calls
        if self.role == "tool":
            for key in ("tool_call_id", "name"):
                if isinstance(turn.get(key), str):
                    made[key] = turn[key]
        if self.role == "assistant":
            weight = weight_of(turn, self.where)
            if weight != 1:
                made["weight"] = weight
            spans = part_weights(turn, parts, self.where)
            if spans is not None:
                made["part_weights"] = spans

    def _parts(self, content: Any) -> list[tuple[str, float]]:
        """Text and weight of each part of the content.

        Raises:
            RowError: A part that is no text.
        """
        if content is None:
            return []
        if isinstance(content, str):
            return [(content, 1.0)]
        number = number_text(content, self.notes)
        if number is not None:
            return [(number, 1.0)]
        if isinstance(content, dict) and self.role == "tool" and "type" not in content:
            return [(compact_json(content), 1.0)]
        if isinstance(content, dict):
            content = [content]
        if not isinstance(content, list):
            raise RowError(f"the content of {self.where} is {kind(content)}, not text", code="wrong-type")
        typed = any(isinstance(part, dict) and "type" in part for part in content)
        if self.role == "tool" and not typed and not all(isinstance(part, str) for part in content):
            return [(compact_json(content), 1.0)]
        found = [self._part(part) for part in content if part is not None]
        return [part for part in found if part is not None]

    def _part(self, part: Any) -> tuple[str, float] | None:
        if isinstance(part, str):
            return part, 1.0
        sort = part.get("type") if isinstance(part, dict) else None
        if not isinstance(part, dict) or not isinstance(sort or "text", str):
            raise RowError(f"a part of the content of {self.where} is not text", code="wrong-type")
        sort = sort or "text"
        if sort in {"thinking", "reasoning", "redacted_thinking"}:
            self._think(part)
            return None
        if sort in {"tool_use", "tool_call", "function_call"} and self.role == "assistant":
            self.calls += openai_calls({"id": part.get("id"), **part}, self.where)
            return None
        if sort == "tool_result":
            self._result(part)
            return None
        if sort.startswith(_MEDIA_PARTS) or sort in {"input_image", "input_audio", "input_file"}:
            raise RowError(f"a part of the content of {self.where} is no text and is not measured", code=_MEDIA_CODE)
        text = next(
            (part[key] for key in ("text", "value", "content", "input_text") if part.get(key) is not None), None
        )
        if sort not in {"text", "input_text", "output_text"} or not isinstance(text, str):
            raise RowError(f"a part of the content of {self.where} is not text", code="wrong-type")
        return text, weight_of(part, self.where)

    def _think(self, part: dict[str, Any]) -> None:
        said = next((part[key] for key in ("thinking", "reasoning", "text", "content", "value") if part.get(key)), None)
        if isinstance(said, list):
            said = "".join(str(item.get("text", "")) if isinstance(item, dict) else str(item) for item in said)
        if isinstance(said, str):
            self.thoughts.append(said)

    def _result(self, part: dict[str, Any]) -> None:
        result: dict[str, Any] = {"role": "tool", "content": part.get("content", part.get("output", ""))}
        identity = part.get("tool_use_id") or part.get("tool_call_id")
        if identity is not None:
            result["tool_call_id"] = identity
        if result["content"] is None:
            result["content"] = ""
        self.results += _Reader(result, "tool", self.where, self.notes).read(calling=False)
