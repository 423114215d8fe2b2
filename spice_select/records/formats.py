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
from typing import Any

from spice_select.records.column_names import (
    COLUMNS,
    CONVERSATION,
    FORMS,
    LABEL,
    OPTIONAL,
    SETS,
    WEAK,
    ColumnRole,
    Columns,
    Form,
    required_roles,
    roles_of,
    usual_columns,
)
from spice_select.records.tool_calls import parsed
from spice_select.records.turns import is_pair
from spice_select.records.two_readings import AmbiguousColumnsError, refuse_two_readings

__all__ = [
    "CONVERSATION",
    "FORMS",
    "AmbiguousColumnsError",
    "ColumnRole",
    "Columns",
    "Form",
    "detect_form",
    "form_of",
    "is_judgement",
    "late_columns",
    "required_roles",
    "roles_of",
    "settled_form",
    "usual_columns",
]


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
    """  # ruff: ignore[docstring-extraneous-exception] - raised by refuse_two_readings()
    given = dict(columns or {})
    objects = [record for record in records if isinstance(record, dict)]
    considered = _considered(form, given)
    judged = all(
        is_judgement(value)
        for record in objects
        for name, value in record.items()
        if name.lower() in LABEL and value is not None
    )
    votes: dict[Form, Counter[tuple[tuple[ColumnRole, str], ...]]] = {candidate: Counter() for candidate in considered}
    for record in objects:
        found = _form_of(record, considered, given, check_values=form is None, judged=judged)
        if found is not None:
            votes[found[0]][tuple(found[1].items())] += 1
    # The first of equals wins in both: `considered` is in the order of preference, a Counter in that of appearance.
    winner = max(considered, key=lambda candidate: votes[candidate].total(), default=None)
    if winner is None or not votes[winner]:
        return None
    chosen: Columns = dict(votes[winner].most_common(1)[0][0])
    if form is None:
        refuse_two_readings(objects, winner, chosen, given)
    closed = _closed_by(winner, given)
    for role in roles_of(winner):
        if role not in chosen and role not in closed and (role in OPTIONAL or role in given or winner == "preference"):
            column = given.get(role) or _first_present(objects, winner, role, taken=set(chosen.values()))
            if column is not None:
                chosen[role] = column
    return winner, {role: chosen[role] for role in roles_of(winner) if role in chosen}


def form_of(
    record: dict[str, Any], form: Form | None = None, given: Mapping[ColumnRole, str] | None = None
) -> tuple[Form, Columns] | None:
    """Form of one record by itself and the columns of the required roles; a label of 0 or 1 is taken for a judgement.

    Args:
        record: The record; a column that holds nothing is as good as none.
        form: The form, when it is known.
        given: Role to column, when known.
    """
    filled = {name: value for name, value in record.items() if value is not None and value != ""}
    given = given or {}
    return _form_of(filled, _considered(form, given), given, check_values=form is None, judged=True)


def settled_form(given: Mapping[ColumnRole, str], form: Form | None = None) -> Form | None:
    """The form that reads a mapping of columns which names all it needs; None where something is left open."""
    for candidate in _considered(form, given):
        if any(needed <= given.keys() for needed in SETS[candidate]):
            return candidate
    return None


def late_columns(
    record: dict[str, Any], form: Form, columns: Columns, given: Mapping[ColumnRole, str] | None = None
) -> Columns:
    """Optional columns of a record that no record before it had, for the roles that nothing plays yet.

    Args:
        record: A record with names of columns not seen before.
        form: The form of the data set.
        columns: Role to column so far.
        given: What of it the owner of the data named.
    """
    added: Columns = {}
    closed = _closed_by(form, given or {})
    for role in roles_of(form):
        if (role in OPTIONAL or form == "preference") and role not in columns and role not in closed:
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


def _considered(form: Form | None, given: Mapping[ColumnRole, str]) -> list[Form]:
    return [form] if form is not None else [candidate for candidate in FORMS if _reads(candidate, given)]


def _form_of(
    record: dict[str, Any], considered: list[Form], given: Mapping[ColumnRole, str], *, check_values: bool, judged: bool
) -> tuple[Form, Columns] | None:
    names = {name.lower(): name for name in reversed(record)}
    for candidate in considered:
        matched = _required_columns(record, names, candidate, given, check_values=check_values, judged=judged)
        if matched is not None:
            return candidate, matched
    return None


def _closed_by(form: Form, given: Mapping[ColumnRole, str]) -> frozenset[ColumnRole]:
    """Roles that are not looked for: a prompt under an unusual name says nothing about other columns."""
    if "prompt" not in given or given["prompt"].lower() in usual_columns(form, "prompt"):
        return frozenset()
    others: tuple[ColumnRole, ...] = ("input", "context", "history")
    return frozenset(role for role in others if role not in given)


def _reads(form: Form, given: Mapping[ColumnRole, str]) -> bool:
    if any(role not in COLUMNS[form] for role in given):
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
    for needed in SETS[form]:
        matched: Columns = {}
        for role in COLUMNS[form]:
            if role not in needed:
                continue
            if role in given:
                column = given[role] if given[role] in record else None
            else:
                column = _named(record, names, form, role, matched, check_values=check_values)
            if column is None or (check_values and role == "messages" and not _speaks(record[column], form)):
                break
            if role in {"chosen", "rejected"} and check_values and not _is_answer(record[column]):
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
        weak = role == "prompt" and form == "question_answer" and name in WEAK and check_values
        if weak and not any(answer in names for answer in WEAK[name]):
            continue
        if role == "messages" and check_values and not _speaks(record[names[name]], form):
            continue
        asked = matched.get("prompt", "").lower()
        if role == "response" and form == "question_answer" and asked in WEAK and name not in WEAK[asked]:
            continue
        return names[name]
    return None


def _is_answer(value: object) -> bool:
    """Whether a value can be one of two answers: ``rejected: false`` says something else."""
    return isinstance(value, str | list | dict) and bool(value)


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
