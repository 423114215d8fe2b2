"""The forms a record may have, the columns they are found by, and which form a data set is in.

In the order of preference when a record fits several; letter case of a column name does not matter:

    preference          ``chosen`` and ``rejected`` (text, a turn or a conversation), or a ``label`` of true or false beside an answer
    messages            ``messages`` | ``conversations`` | ``conversation`` | ... of {role, content}, also as JSON text
    sharegpt            the same columns, of {from, value}
    alpaca              ``instruction``, and ``output`` | ``response`` | ``completion`` | ``answer`` | ...
    prompt_completion   ``prompt``, and ``completion`` | ``response`` | ``output`` | ...; each text or a list of messages
    question_answer     ``question`` | ``query`` | ``problem`` | ``input`` | ``source`` | ``user`` | ..., and its answer
    text                ``text`` | ``content``; everything is learned

Optional beside them: ``input`` and ``context`` (part of the prompt), ``history`` (earlier rounds), ``system``, ``tools``,
``reasoning``. Columns beyond these are kept, and named in a warning. Where two readings are possible the data set is
refused with both (``AmbiguousColumnsError``).
"""  # ruff: ignore[line-too-long]

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any, Final, Literal, get_args

from spice_select.records.tool_calls import parsed
from spice_select.records.turns import is_pair

Form = Literal["preference", "messages", "sharegpt", "alpaca", "prompt_completion", "question_answer", "text"]
ColumnRole = Literal[
    "prompt", "input", "context", "history", "response", "reasoning", "system", "messages", "tools", "text",
    "chosen", "rejected", "label",
]  # fmt: skip

FORMS: Final[tuple[Form, ...]] = get_args(Form)
"""Every form, in the order of preference."""

Columns = dict[ColumnRole, str]

CONVERSATION: Final = ("messages", "conversations", "conversation", "dialogue", "dialog", "chat", "turns")
_SYSTEM: Final = ("system", "system_prompt", "system_message")
_TOOLS: Final = ("tools", "functions")
_REASONING: Final = (
    "reasoning_content", "reasoning", "thinking", "thought", "complex_cot", "cot", "chain_of_thought", "think",
)  # fmt: skip
_CONTEXT: Final = ("context", "passage", "paragraph", "document", "background", "knowledge", "documents", "contexts")
_HISTORY: Final = ("history", "chat_history", "conversation_history")
_ANSWERS: Final = (
    "output", "outputs", "response", "responses", "completion", "answer", "answers", "target", "targets", "solution",
    "assistant", "bot", "gpt", "reply",
)  # fmt: skip
_LABEL: Final = ("label", "kto_tag", "desirable")
_BESIDE: Final[dict[ColumnRole, tuple[str, ...]]] = {
    "input": ("input", "inputs", *_CONTEXT),
    "context": _CONTEXT,
    "history": _HISTORY,
    "reasoning": _REASONING,
    "system": _SYSTEM,
    "tools": _TOOLS,
}


def _first(*names: str) -> tuple[str, ...]:
    return (*names, *(name for name in _ANSWERS if name not in names))


_COLUMNS: Final[dict[Form, dict[ColumnRole, tuple[str, ...]]]] = {
    "preference": {
        "prompt": ("prompt", "question", "instruction", "query", "input"),
        "messages": CONVERSATION,
        "response": _first("completion", "response", "output"),
        "chosen": ("chosen", "chosen_response", "response_chosen"),
        "rejected": ("rejected", "rejected_response", "response_rejected"),
        "label": _LABEL,
        **_BESIDE,
    },
    "messages": {"messages": CONVERSATION, "reasoning": _REASONING, "system": _SYSTEM, "tools": _TOOLS},
    "sharegpt": {"messages": CONVERSATION, "reasoning": _REASONING, "system": _SYSTEM, "tools": _TOOLS},
    "alpaca": {"prompt": ("instruction",), "response": _first("output", "response", "completion"), **_BESIDE},
    "prompt_completion": {"prompt": ("prompt",), "response": _first("completion", "response", "output"), **_BESIDE},
    "question_answer": {
        "prompt": ("question", "query", "problem", "user", "human", "input", "inputs", "source"),
        "response": _first("answer", "response", "output", "solution"),
        **_BESIDE,
    },
    "text": {"text": ("text", "content")},
}
_OPTIONAL: Final[frozenset[ColumnRole]] = frozenset(_BESIDE)
_WEAK: Final[dict[str, tuple[str, ...]]] = {
    "user": ("assistant", "bot", "gpt", "response", "answer"),
    "human": ("assistant", "bot", "gpt", "response", "answer"),
    "input": ("output", "outputs", "target", "targets", "response", "completion", "answer"),
    "inputs": ("output", "outputs", "target", "targets", "response", "completion", "answer"),
    "source": ("target", "targets"),
}
"""Names that are a prompt only beside one of these: alone they are often something else."""
_BESIDE_TEXT: Final[dict[str, ColumnRole]] = {
    **dict.fromkeys(("prompt", "title", "question", "instruction", "query", "headline", "input", "problem"), "prompt"),
    **dict.fromkeys(("summary", "highlights", "abstract", "translation", "tldr", *_ANSWERS), "response"),
}
"""Columns that make a ``text`` column ambiguous, and what they would be."""
_SETS: Final[dict[Form, tuple[frozenset[ColumnRole], ...]]] = {
    "preference": (
        frozenset({"chosen", "rejected"}),
        frozenset({"messages", "label"}),
        frozenset({"prompt", "response", "label"}),
    ),
    **{
        form: (frozenset(role for role in roles if role not in _OPTIONAL),)
        for form, roles in _COLUMNS.items()
        if form != "preference"
    },
}
"""Roles that a record has to have; of ``preference`` one of three sets."""


class AmbiguousColumnsError(ValueError):
    """Two readings of the columns are possible.

    Args:
        readings: What each would be: the ``columns`` mapping that settles it.
        why: Which columns leave it open.
    """

    def __init__(self, readings: Sequence[Columns], why: str) -> None:
        super().__init__(why)
        self.readings, self.why = list(readings), why


def roles_of(form: Form) -> tuple[ColumnRole, ...]:
    """The column roles a form reads."""
    return tuple(_COLUMNS[form])


def required_roles(form: Form) -> tuple[ColumnRole, ...]:
    """The column roles a form cannot do without; of ``preference`` those of pairs."""
    needed = _SETS[form][0]
    return tuple(role for role in _COLUMNS[form] if role in needed)


def usual_columns(form: Form, role: ColumnRole) -> tuple[str, ...]:
    """The column names that a role of a form is looked for under."""
    return _COLUMNS[form][role]


def detect_form(
    records: Sequence[object], *, form: Form | None = None, columns: Mapping[ColumnRole, str] | None = None
) -> tuple[Form, Columns] | None:
    """Form of the records and the columns that play its roles, decided by most of the records.

    Args:
        records: The first records of a data set; those that are no objects are passed over.
        form: The form, when it is known; only the columns are looked for then.
        columns: Role to column, when known. Roles left out are looked for; only forms that read every given role
            and have all they need are considered.

    Returns:
        The form and a role-to-column map that holds every required role and those optional ones that some record
        has; None when no record has the columns of any form considered. Equally many: the earlier in ``FORMS`` wins.

    Raises:
        AmbiguousColumnsError: Two readings are possible, and nobody has said which is meant.
    """  # ruff: ignore[docstring-extraneous-exception] - raised by _refuse_two_readings()
    given = dict(columns or {})
    objects = [record for record in records if isinstance(record, dict)]
    considered = [form] if form is not None else [candidate for candidate in FORMS if _reads(candidate, given)]
    judged = all(
        is_judgement(value)
        for record in objects
        for name, value in record.items()
        if name.lower() in _LABEL and value is not None
    )
    votes: dict[Form, Counter[tuple[tuple[ColumnRole, str], ...]]] = {candidate: Counter() for candidate in considered}
    for record in objects:
        names = {name.lower(): name for name in reversed(record)}
        for candidate in considered:
            matched = _required_columns(record, names, candidate, given, check_values=form is None, judged=judged)
            if matched is not None:
                votes[candidate][tuple(matched.items())] += 1
                break
    # The first of equals wins in both: `considered` is in the order of preference, a Counter in that of appearance.
    winner = max(considered, key=lambda candidate: votes[candidate].total(), default=None)
    if winner is None or not votes[winner]:
        return None
    chosen: Columns = dict(votes[winner].most_common(1)[0][0])
    if form is None:
        _refuse_two_readings(objects, winner, chosen, given)
    unnamed = "prompt" in given and given["prompt"].lower() not in usual_columns(winner, "prompt")
    for role in roles_of(winner):
        if unnamed and role in {"input", "context", "history"} and role not in given:
            continue  # a prompt under an unusual name says nothing about other columns that happen to be there
        if role not in chosen and (role in _OPTIONAL or role in given or winner == "preference"):
            column = given.get(role) or _first_present(objects, winner, role, taken=set(chosen.values()))
            if column is not None:
                chosen[role] = column
    return winner, {role: chosen[role] for role in roles_of(winner) if role in chosen}


def late_columns(record: dict[str, Any], form: Form, columns: Columns) -> Columns:
    """Optional columns of a record that no record before it had, for the roles that nothing plays yet.

    Args:
        record: A record with names of columns not seen before.
        form: The form of the data set.
        columns: Role to column so far.
    """
    added: Columns = {}
    for role in roles_of(form):
        if role in _OPTIONAL and role not in columns:
            taken = {*columns.values(), *added.values()}
            column = _first_present([record], form, role, taken=taken)
            if column is not None:
                added[role] = column
    return added


def is_judgement(value: object) -> bool:
    """Whether a value can say that an answer is good or bad: true or false, 0 or 1, or either as text."""
    if isinstance(value, str):
        return value.strip().lower() in {"true", "false", "0", "1"}
    return isinstance(value, bool | int | float) and value in (0, 1)


def _reads(form: Form, given: Mapping[ColumnRole, str]) -> bool:
    if any(role not in _COLUMNS[form] for role in given):
        return False
    if form == "preference":
        return not given or bool({"chosen", "rejected", "label"} & given.keys())
    # A prompt under an unusual name says nothing about an `input` column that happens to be there.
    return form != "alpaca" or "prompt" not in given or "input" in given or given["prompt"].lower() == "instruction"


def _required_columns(
    record: dict[str, Any],
    names: dict[str, str],
    form: Form,
    given: Mapping[ColumnRole, str],
    *,
    check_values: bool,
    judged: bool,
) -> Columns | None:
    """Columns of a record that play the required roles of a form; None where one is missing or plainly another's."""
    for needed in _SETS[form]:
        matched: Columns = {}
        for role in _COLUMNS[form]:
            if role not in needed:
                continue
            if role in given:
                column = given[role] if given[role] in record else None
            else:
                column = _named(record, names, form, role, matched, check_values=check_values)
            if column is None or (check_values and role == "messages" and not _speaks(record[column], form)):
                break
            if role == "label" and check_values:
                label = record[column]
                # 0 and 1 say whether an answer is good only where the column never says anything else.
                if not isinstance(label, bool) and not (is_judgement(label) and (judged or role in given)):
                    break
            matched[role] = column
        else:
            return matched
    return None


def _named(
    record: dict[str, Any], names: dict[str, str], form: Form, role: ColumnRole, matched: Columns, *, check_values: bool
) -> str | None:
    """The first usual name of a role that a record has."""
    for name in usual_columns(form, role):
        if name not in names or names[name] in matched.values():
            continue
        weak = role == "prompt" and form == "question_answer" and name in _WEAK and check_values
        if weak and not any(answer in names for answer in _WEAK[name]):
            continue
        if role == "messages" and check_values and not _speaks(record[names[name]], form):
            continue
        asked = matched.get("prompt", "").lower()
        if role == "response" and form == "question_answer" and asked in _WEAK and name not in _WEAK[asked]:
            continue
        return names[name]
    return None


def _speaks(value: object, form: Form) -> bool:
    """Whether a list of turns is in the words of this form; an empty or broken one is taken for ``messages``."""
    if isinstance(value, str):
        if value.lstrip()[:1] != "[":
            return False
        value = parsed(value)
        if isinstance(value, str):
            return form != "sharegpt"  # a Python literal, or broken: the rows say so
    if form == "preference":
        return isinstance(value, list)
    turns = [turn for turn in value if isinstance(turn, dict)] if isinstance(value, list) else []
    if isinstance(value, list) and value and not turns:
        return False
    sharegpt = bool(turns) and "from" in turns[0] and "role" not in turns[0] and not is_pair(turns[0])
    return isinstance(value, list) and sharegpt == (form == "sharegpt")


def _first_present(records: Sequence[dict[str, Any]], form: Form, role: ColumnRole, *, taken: set[str]) -> str | None:
    usual = usual_columns(form, role)
    for record in records:
        for name in record:
            if name.lower() in usual and name not in taken and _plays(role, record[name]):
                return name
    return None


def _plays(role: ColumnRole, value: Any) -> bool:
    """Whether a value can be meant for an optional role: a name alone says little."""
    if value is None or role in {"input", "system"}:
        return True
    if role == "reasoning":
        return isinstance(value, str)
    if role == "history":
        return isinstance(parsed(value), list)
    if role == "tools":
        return isinstance(value, (list, dict)) or (isinstance(value, str) and value.lstrip()[:1] in {"[", "{", ""})
    return True


def _filled(objects: Sequence[dict[str, Any]], name: str) -> list[Any]:
    return [record[name] for record in objects if record.get(name) not in (None, "", [])]


def _refuse_two_readings(
    objects: Sequence[dict[str, Any]], form: Form, chosen: Columns, given: Mapping[ColumnRole, str]
) -> None:
    """Refuse what can be read in two ways.

    Raises:
        AmbiguousColumnsError: It can.
    """
    present = {name.lower(): name for record in reversed(objects) for name in record}
    if form == "text" and "text" not in given:
        for name, role in _BESIDE_TEXT.items():
            column = present.get(name)
            if column is None or column == chosen["text"] or not _is_text(objects, column):
                continue
            other: ColumnRole = "response" if role == "prompt" else "prompt"
            pair: Columns = {role: column, other: chosen["text"]}
            ordered: Columns = {"prompt": pair["prompt"], "response": pair["response"]}
            raise AmbiguousColumnsError(
                [ordered, {"text": chosen["text"]}], f"{column!a} stands beside {chosen['text']!a}"
            )
    if form not in {"alpaca", "prompt_completion", "question_answer"}:
        return
    for role in ("prompt", "response"):
        if role in given:
            continue
        for column in _rivals(present, role, chosen):
            if _is_other(objects, chosen[role], column):
                rival: Columns = {**chosen, role: column}
                raise AmbiguousColumnsError([chosen, rival], f"{chosen[role]!a} and {column!a} can both be the {role}")


def _rivals(present: Mapping[str, str], role: ColumnRole, chosen: Columns) -> list[str]:
    """Other columns that could play a role just as well."""
    names = _ANSWERS if role == "response" else ("instruction", "prompt", "question", "query", "problem")
    return [present[name] for name in names if name in present and present[name] not in chosen.values()]


def _is_text(objects: Sequence[dict[str, Any]], column: str) -> bool:
    values = _filled(objects, column)
    return bool(values) and sum(isinstance(value, str) for value in values) * 2 >= len(values)


def _is_other(objects: Sequence[dict[str, Any]], mine: str, column: str) -> bool:
    """Whether a column says, in most rows, something that is no rendering or copy of what another says."""
    both = [(record[mine], record[column]) for record in objects if record.get(mine) and record.get(column)]
    texts = [(a, b) for a, b in both if isinstance(a, str) and isinstance(b, str)]
    if not texts or len(texts) * 2 < len(objects):
        return False
    return sum(a.strip() in b for a, b in texts) * 10 < len(texts) * 9
