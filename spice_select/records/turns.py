"""One turn of a conversation, in any of the usual dialects, becomes messages."""

from __future__ import annotations

from typing import Any, Final

from spice_select.errors import RowError
from spice_select.records.accounting import Fields, Notes, holds, quoted
from spice_select.records.conversation import Message, Role
from spice_select.records.exact_numbers import dump_record
from spice_select.records.tool_calls import is_python_literal, openai_calls, parsed, spoken_calls
from spice_select.records.turn_flags import FLAGS, part_weights, take_flags, weight_of

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
_PAIRS: Final = (
    ("human", "assistant"), ("user", "assistant"), ("human", "gpt"), ("human", "bot"), ("user", "bot"),
    ("instruction", "output"), ("instruction", "response"), ("prompt", "response"), ("prompt", "completion"),
    ("question", "answer"), ("query", "response"), ("input", "output"),
)  # fmt: skip
_THINKING: Final = frozenset({"thinking", "reasoning", "redacted_thinking"})
_CALL_PARTS: Final = frozenset({"tool_use", "tool_call", "function_call"})
_TEXT_PARTS: Final = frozenset({"text", "input_text", "output_text"})
_RESULT_PARTS: Final = frozenset({"tool_result", "tool_response", "function_response"})
_PARTS: Final = _THINKING | _CALL_PARTS | _TEXT_PARTS | _RESULT_PARTS
MEDIA: Final = ("<image>", "<video>", "<audio>")
_MEDIA_PARTS: Final = ("image", "audio", "video", "file", "document")


def messages_of(value: Any, column: str, notes: Notes) -> list[Message]:
    """The messages of a list of turns.

    Args:
        value: A list of turns, a single turn, or either as JSON text.
        column: The column's name.
        notes: Told of what is not used.

    Raises:
        RowError: No list, or a turn that cannot be read.
    """
    value, shown = parsed(value), quoted(column)
    if isinstance(value, dict):
        value = [value]
    if value is None or value == []:
        raise RowError(f"column {shown} holds no messages", code="no-assistant-turn")
    if not isinstance(value, list):
        hint = ": a Python literal, not JSON; write it with json.dumps" if is_python_literal(value) else ""
        raise RowError(f"column {shown} holds {kind(value)}, not a list of messages{hint}", code="wrong-type")
    messages: list[Message] = []
    path = f"{column}[]"
    for index, turn in enumerate(value):
        messages += _turn(parsed(turn), f"message {index + 1} of column {shown}", path, notes)
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


def number_text(value: Any, notes: Notes) -> str | None:
    """A number as text, which is noted; None for every other value."""
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return None
    notes.say("numbers read as text, as JSON writes them: 1.10 becomes 1.1")
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


def _role_of(spoken: str) -> Role | None:
    return ROLES.get(spoken.strip().lower().strip("<>|[]:# "))


def _turn(turn: Any, where: str, path: str, notes: Notes) -> list[Message]:
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
    fields = Fields(turn, path, notes)
    pair = _pair(turn)
    if pair is not None:
        return _both(fields, pair, where)
    if not isinstance(spoken, str):
        raise RowError(f"{where} says no role", code="unknown-role")
    role = _role_of(spoken)
    if role is None:
        raise RowError(f"{where} has the unknown role {quoted(spoken)}", code="unknown-role")
    for key in ("role", "from"):
        if isinstance(turn.get(key), str) and _role_of(turn[key]) == role:
            fields.take(key)
    messages = _Reader(fields, role, where).read(calling=spoken.strip().lower() in _CALLING)
    fields.close()
    return messages


def _both(fields: Fields, pair: tuple[str, str], where: str) -> list[Message]:
    """Messages of an object that holds a question and its answer."""
    turn, (asked, said) = fields.value, pair
    beside = {key: turn[key] for key in (*_REASONING, *FLAGS) if key in turn}
    system = fields.take("system")
    fields.take(asked, said, *beside)
    fields.close()
    turns: list[dict[str, Any]] = [
        *([{"role": "system", "content": system}] if system else []),
        {"role": "user", "content": turn[asked]},
        {"role": "assistant", "content": turn[said], **beside},
    ]
    return [message for made in turns for message in _turn(made, where, fields.path, fields.notes)]


class _Reader:
    """Reads one turn whose role is known."""

    def __init__(self, fields: Fields, role: Role, where: str) -> None:
        self.fields, self.role, self.where, self.notes = fields, role, where, fields.notes
        self.turn = fields.value
        self.thoughts: list[str] = []
        self.calls: list[dict[str, Any]] = []
        self.results: list[Message] = []

    def read(self, *, calling: bool) -> list[Message]:
        """The messages: more than one where results of tools stand beside a user's words.

        Raises:
            RowError: The turn cannot be read.
        """
        turn, role, fields = self.turn, self.role, self.fields
        for key in ("tool_calls", "function_call"):
            if holds(turn.get(key)):
                if role != "assistant":
                    raise RowError(f"{self.where} calls tools and is no assistant's", code="wrong-type")
                said = [call["function"] for call in self.calls]
                # Exports in both dialects name one call twice.
                self.calls += [
                    call
                    for call in openai_calls(fields.take(key), self.where, f"{fields.path}.{key}", self.notes)
                    if key == "tool_calls" or call["function"] not in said
                ]
        value = fields.first(_CONTENT)
        silent = value is None and not self.calls and not any(key in turn for key in _CONTENT)
        if silent and not any(turn.get(key) for key in _REASONING):
            raise RowError(f"{self.where} has no content", code="missing-column")
        parts = self._parts(value)
        content: str | None = "".join(text for text, _ in parts)
        if calling and content and not self.calls:
            key = next(key for key in _CONTENT if holds(turn.get(key)))
            spoken = spoken_calls(content, f"{fields.path}.{key}", self.notes)
            if spoken is not None:
                self.calls, content, parts = spoken, "", []
        check_media(content or "", f"the content of {self.where}")
        if self.calls and not content:
            content = None
        made: Message = {"role": role, "content": content}
        self._extend(made, parts)
        # Results of tools come before what the user says beside them; an empty message would be rendered as a turn.
        return [*self.results, made] if content or self.calls or not self.results else self.results

    def _extend(self, made: Message, parts: list[tuple[str, float]]) -> None:
        turn, fields = self.turn, self.fields
        self._reason(made)
        if self.calls:
            made["tool_calls"] = self.calls
        if self.role == "tool":
            for key in ("tool_call_id", "name"):
                if isinstance(turn.get(key), str):
                    made[key] = fields.take(key)
        take_flags(fields, learns=self.role == "assistant")
        if self.role == "assistant":
            weight = weight_of(turn, self.where)
            if weight != 1:
                made["weight"] = weight
            spans = part_weights(fields, parts, self.where)
            if spans is not None:
                made["part_weights"] = spans

    def _reason(self, made: Message) -> None:
        """The reasoning of the assistant: that of a key, or else that of the parts."""
        if self.role != "assistant":
            if self.thoughts:
                self.notes.leave(f"{self.fields.path}.content[].thinking")
            return
        parts = "\n".join(self.thoughts)
        thought = self.fields.first(_REASONING, str) or parts
        if thought:
            made["reasoning_content"] = thought
        if parts and parts != thought:
            self.notes.leave(f"{self.fields.path}.content[].thinking")

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
        given = content if isinstance(content, list) else [content]
        if not isinstance(content, (list, dict)):
            raise RowError(f"the content of {self.where} is {kind(content)}, not text", code="wrong-type")
        typed = any(isinstance(part, dict) and _is_part(part) for part in given)
        if self.role == "tool" and not typed and not all(isinstance(part, str) for part in given):
            return [(dump_record(content), 1.0)]
        found = [self._part(part) for part in given if part is not None]
        return [part for part in found if part is not None]

    def _part(self, part: Any) -> tuple[str, float] | None:
        if isinstance(part, str):
            return part, 1.0
        sort = part.get("type") if isinstance(part, dict) else None
        if not isinstance(part, dict) or not isinstance(sort or "text", str):
            raise RowError(f"a part of the content of {self.where} is not text", code="wrong-type")
        sort = sort or "text"
        path = f"{self.fields.path}.content[]"
        if sort in _CALL_PARTS and self.role == "assistant":
            self._call(part, path)
            return None
        fields = Fields(part, path, self.notes)
        fields.take("type")
        made: tuple[str, float] | None = None
        if sort in _THINKING:
            self._think(fields)
        elif sort in _RESULT_PARTS:
            self._result(fields)
        else:
            made = self._text(fields, sort)
        fields.close()
        return made

    def _call(self, part: dict[str, Any], path: str) -> None:
        """A call: the part itself, or what its value says, as in ``{"type": "tool_call", "value": "{...}"}``."""
        inside = next((key for key in _CONTENT if isinstance(parsed(part.get(key)), (dict, list))), None)
        if inside is None or holds(part.get("name")) or holds(part.get("function")):
            self.calls += openai_calls(part, self.where, path, self.notes)
            return
        fields = Fields(part, path, self.notes)
        fields.take("type", inside)
        calls = openai_calls(part[inside], self.where, f"{path}.{inside}", self.notes)
        if len(calls) == 1 and "id" not in calls[0]:
            identity = fields.first(("id", "tool_call_id"), str)
            calls = [{"id": identity, **calls[0]}] if identity else calls
        self.calls += calls
        fields.close()

    def _text(self, fields: Fields, sort: str) -> tuple[str, float]:
        """Text and weight of a part of text.

        Raises:
            RowError: It is none.
        """
        if sort.startswith(_MEDIA_PARTS) or sort in {"input_image", "input_audio", "input_file"}:
            raise RowError(f"a part of the content of {self.where} is no text and is not measured", code=_MEDIA_CODE)
        text = fields.first(("text", "value", "content", "input_text"), str)
        if sort not in _TEXT_PARTS or text is None:
            raise RowError(f"a part of the content of {self.where} is not text", code="wrong-type")
        take_flags(fields, learns=self.role == "assistant")
        return text, weight_of(fields.value, self.where) if self.role == "assistant" else 1.0

    def _think(self, fields: Fields) -> None:
        said = fields.first(("thinking", "reasoning", "text", "content", "value"), (str, list))
        pieces: list[str] = []
        for item in said if isinstance(said, list) else [said or ""]:
            if isinstance(item, dict):
                inner = Fields(item, f"{fields.path}.thinking[]", self.notes)
                inner.take("type")
                pieces.append(inner.first(("text", "thinking", "reasoning"), str) or "")
                inner.close()
            elif isinstance(item, str):
                pieces.append(item)
            elif holds(item):
                self.notes.leave(f"{fields.path}.thinking[]")
        if any(pieces):
            self.thoughts.append("".join(pieces))

    def _result(self, fields: Fields) -> None:
        content = fields.first(("content", "output", "value", "text"))
        result = {"role": "tool", "content": "" if content is None else content}
        identity = fields.first(("tool_use_id", "tool_call_id"), str)
        made = _Reader(Fields(result, fields.path, self.notes), "tool", self.where).read(calling=False)
        if identity:
            made[-1]["tool_call_id"] = identity
        self.results += made


def _is_part(part: dict[str, Any]) -> bool:
    """Whether an object in the result of a tool is a part of a content, or else a result that has a type."""
    sort = part.get("type")
    return isinstance(sort, str) and (sort in _PARTS or sort.startswith(_MEDIA_PARTS) or sort.startswith("input_"))
