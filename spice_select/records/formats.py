"""The forms a record may have, the columns they are found by, and which form a data set is in.

In the order of preference when a record fits several; letter case of a column name does not matter:

    messages            ``messages`` | ``conversations`` | ``conversation`` of {role, content}; content is text or parts
    sharegpt            the same columns, of {from, value}
    alpaca              ``instruction``, optional ``input`` | ``context``, ``output`` | ``response`` | ``completion``
    prompt_completion   ``prompt``, and ``completion`` | ``response`` | ``output``; each text or a list of messages
    question_answer     ``question`` | ``query``, and ``answer`` | ``response`` | ``output``
    text                ``text`` | ``content``; everything is learned

Every form but ``text`` also takes ``system`` | ``system_prompt``. Columns beyond these are kept and ignored.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final, Literal, get_args

Form = Literal["messages", "sharegpt", "alpaca", "prompt_completion", "question_answer", "text"]
ColumnRole = Literal["prompt", "input", "response", "system", "messages", "text"]

FORMS: Final[tuple[Form, ...]] = get_args(Form)
"""Every form, in the order of preference."""

_CONVERSATION: Final = ("messages", "conversations", "conversation")
_SYSTEM: Final = ("system", "system_prompt")
_COLUMNS: Final[dict[Form, dict[ColumnRole, tuple[str, ...]]]] = {
    "messages": {"messages": _CONVERSATION, "system": _SYSTEM},
    "sharegpt": {"messages": _CONVERSATION, "system": _SYSTEM},
    "alpaca": {
        "prompt": ("instruction",),
        "input": ("input", "context"),
        "response": ("output", "response", "completion"),
        "system": _SYSTEM,
    },
    "prompt_completion": {"prompt": ("prompt",), "response": ("completion", "response", "output"), "system": _SYSTEM},
    "question_answer": {
        "prompt": ("question", "query"),
        "response": ("answer", "response", "output"),
        "system": _SYSTEM,
    },
    "text": {"text": ("text", "content")},
}
_OPTIONAL: Final[frozenset[ColumnRole]] = frozenset({"input", "system"})


def roles_of(form: Form) -> tuple[ColumnRole, ...]:
    """The column roles a form reads."""
    return tuple(_COLUMNS[form])


def required_roles(form: Form) -> tuple[ColumnRole, ...]:
    """The column roles a form cannot do without."""
    return tuple(role for role in _COLUMNS[form] if role not in _OPTIONAL)


def usual_columns(form: Form, role: ColumnRole) -> tuple[str, ...]:
    """The column names that a role of a form is looked for under."""
    return _COLUMNS[form][role]


def detect_form(
    records: Sequence[object], *, form: Form | None = None, columns: Mapping[ColumnRole, str] | None = None
) -> tuple[Form, dict[ColumnRole, str]] | None:
    """Form of the records and the columns that play its roles, decided by most of the records.

    Args:
        records: The first records of a data set; those that are no objects are passed over.
        form: The form, when it is known; only the columns are looked for then.
        columns: Role to column, when known. Roles left out are looked for; only forms that read every given role
            and have all they need are considered.

    Returns:
        The form and a role-to-column map that holds every required role and those optional ones that some record
        has; None when no record has the columns of any form considered. Equally many: the earlier in ``FORMS`` wins.
    """
    given = dict(columns or {})
    objects = [record for record in records if isinstance(record, dict)]
    considered = [form] if form is not None else [candidate for candidate in FORMS if _reads(candidate, given)]
    votes: dict[Form, Counter[tuple[tuple[ColumnRole, str], ...]]] = {candidate: Counter() for candidate in considered}
    for record in objects:
        for candidate in considered:
            found = _required_columns(record, candidate, given, check_values=form is None)
            if found is not None:
                votes[candidate][tuple(found.items())] += 1
                break
    # The first of equals wins in both: `considered` is in the order of preference, a Counter in that of appearance.
    winner = max(considered, key=lambda candidate: votes[candidate].total(), default=None)
    if winner is None or not votes[winner]:
        return None
    chosen = dict(votes[winner].most_common(1)[0][0])
    for role in roles_of(winner):
        if role in _OPTIONAL:
            column = given.get(role) or _first_present(objects, usual_columns(winner, role), taken=set(chosen.values()))
            if column is not None:
                chosen[role] = column
    return winner, {role: chosen[role] for role in roles_of(winner) if role in chosen}


def _reads(form: Form, given: Mapping[ColumnRole, str]) -> bool:
    if any(role not in _COLUMNS[form] for role in given):
        return False
    # A prompt under an unusual name says nothing about an `input` column that happens to be there.
    return form != "alpaca" or "prompt" not in given or "input" in given or given["prompt"].lower() == "instruction"


def _required_columns(
    record: dict[str, Any], form: Form, given: Mapping[ColumnRole, str], *, check_values: bool
) -> dict[ColumnRole, str] | None:
    """Columns of a record that play the required roles of a form; None where one is missing or plainly another's."""
    names = {name.lower(): name for name in reversed(record)}
    found: dict[ColumnRole, str] = {}
    for role in required_roles(form):
        if role in given:
            column = given[role] if given[role] in record else None
        else:
            column = next((names[name] for name in usual_columns(form, role) if name in names), None)
        if column is None or (check_values and role == "messages" and not _speaks(record[column], form)):
            return None
        found[role] = column
    return found


def _speaks(value: object, form: Form) -> bool:
    """Whether a list of turns is in the words of this form; an empty or broken one is taken for ``messages``."""
    turns = [turn for turn in value if isinstance(turn, dict)] if isinstance(value, list) else []
    sharegpt = bool(turns) and "from" in turns[0] and "role" not in turns[0]
    return isinstance(value, list) and sharegpt == (form == "sharegpt")


def _first_present(records: Iterable[dict[str, Any]], usual: Sequence[str], *, taken: set[str]) -> str | None:
    for record in records:
        for name in record:
            if name.lower() in usual and name not in taken:
                return name
    return None
