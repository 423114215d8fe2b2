"""How the rows of a data set are read, one after the other, and what in a later one speaks against it.

The first rows decide the form of a data set. A label, a rejected answer or another instruction may turn up behind
them: a row that would be read otherwise by itself, and that holds something that is not read now, makes the data set
ambiguous, however far down it stands. Optional columns may turn up late without harm: they are read from then on.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Set
from typing import Any, Final, NamedTuple

from spice_select.errors import RowError
from spice_select.records.accounting import Notes, holds
from spice_select.records.column_names import (
    ANSWERS,
    ASKED,
    BESIDE_TEXT,
    COLUMNS,
    LABEL,
    OPTIONAL,
    ColumnRole,
    Columns,
    Form,
    usual_columns,
)
from spice_select.records.conversation import Conversation
from spice_select.records.exact_numbers import compact_json
from spice_select.records.formats import form_of, is_judgement, late_columns
from spice_select.records.records import to_messages
from spice_select.records.two_readings import AmbiguousColumnsError, beside_text

_KNOWN: Final = frozenset(name for roles in COLUMNS.values() for names in roles.values() for name in names)
_LOOKS: Final = 20
"""Rows that are looked at by themselves for each combination of columns that are not read."""
_COMBINATIONS: Final = 4096
_NAMES: Final = 1000
_ELSEWHERE: Final = frozenset({"missing-column", "empty-prompt", "empty-response", "no-text", "wrong-type"})
"""Why a row of another form cannot be read in this one."""


class _Doubt(NamedTuple):
    """A row that another reading fits better."""

    row: int
    columns: Columns
    extra: list[str]
    is_sure: bool


class Reading:
    """Reads rows in one form and takes note of what does not fit it.

    Args:
        form: Form of the rows.
        columns: Role to column; an optional one that turns up late is added.
        given_form: The form where the owner of the data named it.
        given: Role to column where the owner of the data named it.

    Attributes:
        notes: What was read otherwise than it stands there, and what was not read.
    """

    def __init__(
        self,
        form: Form,
        columns: Columns,
        given_form: Form | None = None,
        given: Mapping[ColumnRole, str] | None = None,
    ) -> None:
        self.form, self.columns = form, columns
        self.notes = Notes()
        self._given_form, self._given = given_form, given or {}
        self._names: dict[str, None] = {}
        self._last: Set[str] = frozenset()
        self._looked: Counter[tuple[str, ...]] = Counter()
        self._doubts: dict[tuple[str, ...], _Doubt] = {}
        self._rivals: dict[tuple[ColumnRole, str], list[int]] = {}
        self._unjudged: int | None = None
        self._is_judged = False
        self._rows = 0
        self._sort_out()

    def read(self, row: int, record: Any) -> Conversation:
        """The conversation of a row.

        Args:
            row: 0-based position in the source.
            record: The record.

        Raises:
            RowError: It cannot be used.
        """
        left = self._see(row, record) if isinstance(record, dict) else ()
        try:
            conversation = to_messages(record, self.form, self.columns, self.notes)
        except RowError as problem:
            self.notes.forget_row()
            if problem.code in _ELSEWHERE:
                self._note_other_form(row, record)
            raise
        self.notes.end_row(row)
        self._rows += 1
        if left:
            self._look(row, record, left)
        return conversation

    def check(self) -> None:
        """Say whether all rows seen can only be read in this way.

        Raises:
            AmbiguousColumnsError: They cannot.
        """
        mine = {role: column for role, column in self.columns.items() if role not in OPTIONAL}
        if self._unjudged is not None and not self._is_judged:
            others: Columns = {role: column for role, column in mine.items() if role != "label"}
            why = f"{mine['label']!a} is 0 or 1 in the first rows and something else in row {self._unjudged}"
            raise AmbiguousColumnsError([mine, others], why)
        for doubt in self._doubts.values():
            if doubt.is_sure or self._unjudged is None:
                extra = " and ".join(ascii(name[:60]) for name in doubt.extra)
                raise AmbiguousColumnsError([mine, doubt.columns], f"row {doubt.row} has {extra} too")
        for (role, column), (both, alike) in self._rivals.items():
            if both * 2 >= self._rows and alike * 10 < both * 9:
                why = f"{mine[role]!a} and {column!a} can both be the {role}"
                raise AmbiguousColumnsError([mine, {**mine, role: column}], why)

    def _sort_out(self) -> None:
        read = set(self.columns.values())
        self._left = [name for name in self._names if name not in read]
        self._telling = {name for name in self._left if name.lower() in _KNOWN or name.lower() in BESIDE_TEXT}
        playable = {
            name
            for role in COLUMNS[self.form]
            if role not in self.columns and (role in OPTIONAL or self.form == "preference")
            for name in usual_columns(self.form, role)
        }
        self._open = {name for name in self._left if name.lower() in playable}

    def _see(self, row: int, record: dict[str, Any]) -> tuple[str, ...]:
        """Take in the columns of a record; those with telling names that hold something and are not read."""
        if record.keys() != self._last:
            self._last = record.keys()
            new = [name for name in record if name not in self._names]
            if new:
                self._names.update(dict.fromkeys(new[: _NAMES - len(self._names)]))
                self._sort_out()
        if self.form == "preference" and "label" in self.columns and "label" not in self._given:
            self._judge(row, record.get(self.columns["label"]))
        if not self._left:
            return ()
        filled = [name for name in self._left if holds(record.get(name))]
        if not self._open.isdisjoint(filled):
            added = late_columns({name: record[name] for name in filled}, self.form, self.columns, self._given)
            if added:
                self.columns.update(added)
                self._sort_out()
                filled = [name for name in filled if name not in added.values()]
        for name in filled:
            self.notes.columns.setdefault(name, [0, row])[0] += 1
        return tuple(name for name in filled if name in self._telling) if self._telling else ()

    def _judge(self, row: int, label: Any) -> None:
        if isinstance(label, bool):
            self._is_judged = True
        elif label is not None and label != "" and not is_judgement(label) and self._unjudged is None:
            self._unjudged = row if "chosen" not in self.columns and self._given_form is None else None

    def _look(self, row: int, record: dict[str, Any], left: tuple[str, ...]) -> None:
        """Look at a record that was read, and that holds more than what was read of it."""
        for name in left:
            low = name.lower()
            if low in LABEL and self.form != "preference" and not is_judgement(record[name]) and self._unjudged is None:
                self._is_judged, self._unjudged = True, row
            if low in ANSWERS:
                self._compare(record, "response", name)
            if low in ASKED:
                self._compare(record, "prompt", name)
        if self._looked[left] >= _LOOKS or len(self._looked) > _COMBINATIONS:
            return
        self._looked[left] += 1
        if self.form == "text" and self._given_form is None and "text" not in self._given:
            for name in left:
                if name.lower() in BESIDE_TEXT and isinstance(record[name], str):
                    self._doubt(row, beside_text(name, self.columns["text"]), left, record)
        own = form_of(record, self._given_form, self._given)
        if own is not None:
            self._doubt(row, own[1], left, record)

    def _doubt(self, row: int, columns: Columns, left: tuple[str, ...], record: Any) -> None:
        extra = [name for name in columns.values() if name in left]
        key = tuple(columns.values())
        if extra and key not in self._doubts:
            # 0 and 1 say whether an answer is good only where the column never says anything else.
            sure = "label" not in columns or isinstance(record[columns["label"]], bool)
            self._doubts[key] = _Doubt(row, columns, extra, sure)

    def _compare(self, record: dict[str, Any], role: ColumnRole, name: str) -> None:
        """Whether another column that could play a role says something else than the one that does."""
        if self._given_form is not None or role in self._given or role not in self.columns:
            return
        if self.form not in {"alpaca", "prompt_completion", "question_answer"}:
            return
        mine, other = record.get(self.columns[role]), record[name]
        if isinstance(mine, str) and mine and isinstance(other, str):
            counts = self._rivals.setdefault((role, name), [0, 0])
            counts[0] += 1
            counts[1] += mine.strip() in other

    def _note_other_form(self, row: int, record: dict[str, Any]) -> None:
        """Count a row that cannot be read in this form but in another; one of preference data is a doubt."""
        own = form_of(record, self._given_form, self._given)
        if own is None or own[1].items() <= self.columns.items():
            return
        form, columns = own
        left = tuple(name for name in columns.values() if name not in self.columns.values())
        if form == "preference" and self.form != "preference":
            self._doubt(row, columns, left, record)
        self.notes.say(f"rows left out that would be read as {form} with columns {compact_json(columns)[:300]}")
        self.notes.end_row(row)
