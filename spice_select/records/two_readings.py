"""Columns that can be read in two ways: by what the first records say, or by what a later one does."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from spice_select.errors import DatasetError
from spice_select.records.column_names import ANSWERS, ASKED, BESIDE_TEXT, ColumnRole, Columns, Form
from spice_select.records.exact_numbers import compact_json


class AmbiguousColumnsError(DatasetError):
    """Two readings of the columns are possible.

    Args:
        readings: What each would be: the ``columns`` mapping that settles it.
        why: Which columns leave it open.
    """

    def __init__(self, readings: Sequence[Columns], why: str) -> None:
        choices = " or ".join(compact_json(reading) for reading in readings)
        super().__init__(
            f"the columns can be read in two ways ({why}); send columns {choices}",
            code="dataset-columns-ambiguous",
            pointer="#/columns",
        )


def _filled(objects: Sequence[dict[str, Any]], name: str) -> list[Any]:
    return [record[name] for record in objects if record.get(name) not in (None, "", [])]


def refuse_two_readings(
    objects: Sequence[dict[str, Any]], form: Form, chosen: Columns, given: Mapping[ColumnRole, str]
) -> None:
    """Refuse what can be read in two ways.

    Raises:
        AmbiguousColumnsError: It can.
    """
    present = {name.lower(): name for record in reversed(objects) for name in record}
    if form == "text" and "text" not in given:
        for name in BESIDE_TEXT:
            column = present.get(name)
            if column is None or column == chosen["text"] or not _is_text(objects, column):
                continue
            raise AmbiguousColumnsError(
                [beside_text(column, chosen["text"]), {"text": chosen["text"]}],
                f"{column!a} stands beside {chosen['text']!a}",
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


def beside_text(column: str, text: str) -> Columns:
    """What the columns would be if a column of text and one beside it were a prompt and its response."""
    if BESIDE_TEXT[column.lower()] == "prompt":
        return {"prompt": column, "response": text}
    return {"prompt": text, "response": column}


def _rivals(present: Mapping[str, str], role: ColumnRole, chosen: Columns) -> list[str]:
    """Other columns that could play a role just as well."""
    names = ANSWERS if role == "response" else ASKED
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
