"""One raw record of a data set becomes a conversation. What forms there are, and how they are found, is in ``formats``.

Why a row cannot be used (codes are stable; the first two blocks are found here, the last by the reader of the file):

    not-an-object        the record is a list, a text, a number, true, false or null
    missing-column       a column the form needs, or a message's content, is not there
    wrong-type           a column, a message or a part of one is of a type that holds no text
    media-not-measured   a part or a placeholder of an image, a video or a sound, which are not measured
    no-text              the ``text`` column is empty
    empty-prompt         nothing but white space is asked
    empty-response       nothing but white space is answered, and no tool is called
    no-assistant-turn    a conversation in which nobody answers
    nothing-to-learn     every answer has the weight 0, or both answers of a pair are equal
    unknown-role         a speaker that is none of system, user, assistant, tool and their usual other names

    invalid-unicode      half of a surrogate pair, bytes that are no UTF-8, or a null character in a column name
    too-long             more bytes than a row may have
    too-deep             nested deeper than a row may be
    duplicate-key        an object that has the same key twice
    not-finite-number    a whole number of more than 4300 digits, or 1e999 in an argument of a tool call
    wrong-column-count   a CSV row with more or fewer fields than the header

White space only counts as empty; text that is kept is kept as it is. A number where text is expected is read as its
text, and counted in a warning. What nothing reads, from a column to a key of a tool call, is named in a warning with
its path: see ``accounting``.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from typing import Any, Final

from spice_select.errors import RowError
from spice_select.records.accounting import Fields, Notes, Row, quoted
from spice_select.records.conversation import Conversation, Message, Role, text_of
from spice_select.records.formats import FORMS, ColumnRole, Form, detect_form
from spice_select.records.preference import preference
from spice_select.records.tool_calls import definitions, parsed
from spice_select.records.turns import MEDIA, check_media, kind, messages_of, number_text

__all__ = [
    "FORMS",
    "ColumnRole",
    "Conversation",
    "Form",
    "Message",
    "Notes",
    "Role",
    "detect_form",
    "row_sha256",
    "rows_sha256",
    "to_messages",
]

MEDIA_COLUMNS: Final = frozenset({"images", "image", "videos", "video", "audios", "audio"})
"""Columns of what is not measured, which is noted; a row whose text says where it belongs cannot be used."""

PICTURES: Final = "rows whose text names an image in <img>...</img>: the address is measured as text, the image is not"
_PAIR: Final = frozenset({"prompt", "input", "response"})
_ADDED: Final[tuple[ColumnRole, ...]] = ("input", "context")


def to_messages(
    record: object, form: Form, columns: Mapping[ColumnRole, str], notes: Notes | None = None
) -> Conversation:
    """The conversation a record stands for.

    An Alpaca prompt is the instruction, a blank line and the input, as one user message.

    Args:
        record: One record of the data set.
        form: Its form.
        columns: Role to column, as ``detect_form`` returns it.
        notes: Told of what was read otherwise than it stands there, and of what was not read.

    Returns:
        At least one message; for every form but ``text`` at least one user or tool message that is not blank, and
        after it an assistant message that is not blank.

    Raises:
        RowError: The record cannot be used; the codes are those of the module's table.
    """
    notes = Notes() if notes is None else notes
    if not isinstance(record, dict):
        raise RowError(f"the record is {kind(record)}, not an object", code="not-an-object")
    plain = _plain_pair(record, columns)
    if plain is not None:
        return plain
    for name in MEDIA_COLUMNS & record.keys():
        if record[name] not in (None, "", [], {}):
            notes.say(f"rows with images, sound or video in column {quoted(name)}, which are not measured")
    row = Row(record, columns, notes)
    if form == "text":
        text = _text(row, "text", code="no-text")
        return Conversation([{"role": "text", "content": text}])
    conversation = _read(row, form)
    if "system" in columns:
        _instruct(conversation, row)
    if "tools" in columns:
        conversation.tools = definitions(row.take("tools"), quoted(columns["tools"]), notes)
    if "reasoning" in columns:
        _think(conversation, row)
    _check_conversation(conversation)
    for message in [*conversation, *(conversation.rejected or ())]:
        if "</img>" in text_of(message):
            notes.say(PICTURES)
    row.close()
    return conversation


def _plain_pair(record: dict[str, Any], columns: Mapping[ColumnRole, str]) -> Conversation | None:
    """The conversation of a question and an answer that are plain text, as nearly all are; None for all others."""
    if not columns.keys() <= _PAIR or "response" not in columns or not MEDIA_COLUMNS.isdisjoint(record):
        return None
    asked, answered = record.get(columns["prompt"]), record.get(columns["response"])
    added = record.get(columns["input"], "") if "input" in columns else ""
    if not (isinstance(asked, str) and isinstance(answered, str) and isinstance(added, str)):
        return None
    for text in (asked, answered, added):
        if text.lstrip()[:2] == "[{" or ("<" in text and any(mark in text for mark in (*MEDIA, "</img>"))):
            return None  # a list of messages, or the place or the address of an image
    if not asked.strip() or not answered.strip():
        return None
    content = f"{asked}\n\n{added}" if added and not added.isspace() else asked
    return Conversation(({"role": "user", "content": content}, {"role": "assistant", "content": answered}))


def _read(row: Row, form: Form) -> Conversation:
    if form in {"messages", "sharegpt"}:
        return Conversation(messages_of(row.need("messages"), row.columns["messages"], row.notes))
    if form == "preference":
        prompt: list[Message] = []
        if row.has("messages"):
            prompt = messages_of(row.take("messages"), row.columns["messages"], row.notes)
        elif row.has("prompt"):
            prompt = [*_history(row), *_prompt(row)]
        return preference(row, prompt)
    prompt = [*_history(row), *_prompt(row)]
    # TRL learns the completion and nothing before it where both are lists of messages.
    apart = isinstance(parsed_list(row.peek("prompt")), list)
    return Conversation(prompt + _response(row), completion=len(prompt) if apart else None)


def parsed_list(value: Any) -> Any:
    """A list of messages, also as JSON text; other text stays what it is, whatever brackets it begins with."""
    if isinstance(value, str) and value.lstrip().startswith("[{"):
        made = parsed(value)
        if isinstance(made, list) and all(isinstance(turn, dict) and {"role", "from"} & turn.keys() for turn in made):
            return made
    return value


def _history(row: Row) -> list[Message]:
    """Earlier rounds: pairs of a question and its answer, or messages.

    Raises:
        RowError: They are neither.
    """
    if not row.has("history"):
        return []
    rounds, column = parsed(row.take("history")), row.columns["history"]
    if rounds in ("", [], {}):
        return []
    if not isinstance(rounds, list):
        raise RowError(f"column {quoted(column)} holds {kind(rounds)}, not a list of rounds", code="wrong-type")
    turns: list[Any] = []
    for number, round_ in enumerate(rounds, 1):
        if not isinstance(round_, (list, tuple)):
            turns.append(round_)
        elif len(round_) == 2:
            turns += [{"role": role, "content": said} for role, said in zip(("user", "assistant"), round_, strict=True)]
        else:
            raise RowError(
                f"round {number} of column {quoted(column)} is no pair of a question and an answer", code="wrong-type"
            )
    return messages_of(turns, column, row.notes)


def _prompt(row: Row) -> list[Message]:
    asked, column = parsed_list(row.need("prompt")), row.columns["prompt"]
    if isinstance(asked, list):
        if not asked:
            raise RowError(f"column {quoted(column)} is empty", code="empty-prompt")
        return messages_of(asked, column, row.notes)
    parts = [_text(row, "prompt", code=None)]
    for role in _ADDED:
        if row.has(role):
            parts += _added(row.take(role), row.columns[role], row.notes)
    said = [part for part in parts if part.strip()]
    if not said:
        raise RowError(f"column {quoted(column)} is empty", code="empty-prompt")
    return [{"role": "user", "content": "\n\n".join(said)}]


def _added(value: Any, column: str, notes: Notes) -> list[str]:
    """What a column adds to the prompt: text, or several texts.

    Raises:
        RowError: It holds something else.
    """
    texts = value if isinstance(value, list) and value and column.lower() not in {"input"} else [value]
    found: list[str] = []
    for text in texts:
        made = number_text(text, notes) or text
        if not isinstance(made, str):
            raise RowError(f"column {quoted(column)} holds {kind(text)}, not text", code="wrong-type")
        check_media(made, f"column {quoted(column)}")
        found.append(made)
    return found


def _response(row: Row) -> list[Message]:
    answered, column = parsed_list(row.need("response")), row.columns["response"]
    if isinstance(answered, dict) and isinstance(answered.get("text"), (str, list)):
        answered = _extracted(Fields(answered, column, row.notes))
    if isinstance(answered, list):
        if not answered:
            raise RowError(f"column {quoted(column)} is empty", code="empty-response")
        if all(isinstance(item, str) for item in answered) and len(set(answered)) == 1:
            return [{"role": "assistant", "content": answered[0]}]
        return messages_of(answered, column, row.notes)
    return [{"role": "assistant", "content": _text(row, "response", code="empty-response", value=answered)}]


def _extracted(answers: Fields) -> Any:
    """The answer in ``{"text": [...], "answer_start": [...]}``, as SQuAD has it: the first where there are several."""
    texts = answers.take("text")
    answers.close()
    if isinstance(texts, list) and any(text != texts[0] for text in texts):
        answers.notes.say(f"column {quoted(answers.path)} holds several answers, of which the first is learned")
        return texts[0]
    return texts


def _instruct(conversation: Conversation, row: Row) -> None:
    """Put the system message of a column first, where the conversation has none.

    Raises:
        RowError: It is no text.
    """
    said = row.peek("system")
    if said is not None and not isinstance(said, str):
        raise RowError(f"column {quoted(row.columns['system'])} holds {kind(said)}, not text", code="wrong-type")
    if said is None or not said.strip() or not conversation:
        return
    if conversation[0]["role"] != "system":
        conversation.insert(0, {"role": "system", "content": said})
        if conversation.completion is not None:
            conversation.completion += 1
    if text_of(conversation[0]).strip() == said.strip():
        row.take("system")


def _think(conversation: Conversation, row: Row) -> None:
    """Put the reasoning of a column on the last assistant turn.

    Raises:
        RowError: It is no text.
    """
    thought = row.peek("reasoning")
    if thought is None or thought == "":
        return
    if not isinstance(thought, str):
        raise RowError(f"column {quoted(row.columns['reasoning'])} holds {kind(thought)}, not text", code="wrong-type")
    last = next((message for message in reversed(conversation) if message["role"] == "assistant"), None)
    if last is not None and "reasoning_content" not in last and thought.strip():
        last["reasoning_content"] = thought
    if last is not None and last.get("reasoning_content", "").strip() == thought.strip():
        row.take("reasoning")


def _text(row: Row, role: ColumnRole, *, code: str | None, value: Any = None) -> str:
    # Null counts as empty, and empty is an error where the caller has a code for it.
    value = row.need(role) if value is None else value
    where = f"column {quoted(row.columns[role])}"
    if value is not None and not isinstance(value, str):
        made = number_text(value, row.notes)
        if made is None:
            raise RowError(f"{where} holds {kind(value)}, not text", code="wrong-type")
        value = made
    text = value or ""
    if code is not None and not text.strip():
        raise RowError(f"{where} is {'null' if value is None else 'empty'}", code=code)
    check_media(text, where)
    return text


def _check_conversation(conversation: Conversation) -> None:
    answers = [index for index, message in enumerate(conversation) if message["role"] == "assistant"]
    if not answers:
        raise RowError("the conversation has no assistant message", code="no-assistant-turn")
    last = answers[-1]
    if not _says(conversation[last]):
        raise RowError("the last assistant message is empty", code="empty-response")
    before = conversation[:last]
    if not any(message["role"] in {"user", "tool"} and text_of(message).strip() for message in before):
        raise RowError("no user message that is not empty comes before the last answer", code="empty-prompt")
    if conversation.is_preference:
        return
    if all(_unlearned(conversation[index]) for index in answers if _says(conversation[index])):
        raise RowError("every answer has the weight 0, so nothing is learned", code="nothing-to-learn")


def _says(message: Message) -> bool:
    return bool(text_of(message).strip() or message.get("tool_calls"))


def _unlearned(message: Message) -> bool:
    if message.get("weight", 1) == 0:
        return True
    spans = message.get("part_weights")
    return bool(spans) and not message.get("tool_calls") and all(not (size and weight) for size, weight in spans or [])


def row_sha256(record: str) -> str:
    """Digest (hex) of one row: sha256 of the UTF-8 bytes of its compact JSON, its line in ``selected.jsonl``."""
    return hashlib.sha256(record.encode()).hexdigest()


def rows_sha256(digests: Iterable[str]) -> str:
    """Digest (hex) of rows in order: sha256 over their hex digests, each followed by a newline."""
    whole = hashlib.sha256()
    for digest in digests:
        whole.update(digest.encode() + b"\n")
    return whole.hexdigest()
