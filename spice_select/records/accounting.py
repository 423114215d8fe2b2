"""The account of a record: which of its values were read. Those that nothing reads are named, with their path.

A reader takes the values of an object by way of ``Fields`` (a turn, a part of its content, a tool call) or ``Row`` (the
columns of a record). What holds something and was not taken goes to ``Notes`` as a path, such as
``messages[].cache_control``, without any reader having to know that there is such a key.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import TYPE_CHECKING, Any, Final

from spice_select.errors import RowError

if TYPE_CHECKING:
    from spice_select.records.formats import ColumnRole

Tallies = dict[str, list[int]]
"""Text -> in how many rows, and the first of these."""

MOST_PATHS: Final = 1000
"""Paths that are told apart; what more there are is counted together."""
MOST_SHOWN: Final = 100
"""Paths that a warning names."""
_OTHERS: Final = "further keys"


class Notes:
    """What a person should know about rows that were read all the same, each sentence and each path by rows."""

    def __init__(self) -> None:
        self.columns: Tallies = {}
        """Columns that are not used: in how many rows they hold something, and the first of these."""
        self._keys: Tallies = {}
        self._said: Tallies = {}
        self._now: set[tuple[int, str]] = set()

    def say(self, sentence: str) -> None:
        """Something about the row that is being read."""
        self._now.add((2, sentence))

    def leave(self, path: str) -> None:
        """A value inside the row that is being read is not used."""
        self._now.add((1, path))

    def leave_column(self, column: str) -> None:
        """A column that plays a role is not used in the row that is being read."""
        self._now.add((0, column))

    def end_row(self, row: int) -> None:
        """Count what was noted since the last row.

        Args:
            row: Its 0-based position in the source.
        """
        if self._now:
            for kind, text in sorted(self._now):
                tallies = (self.columns, self._keys, self._said)[kind]
                known = text in tallies or len(tallies) < MOST_PATHS
                tallies.setdefault(text if known else _OTHERS, [0, row])[0] += 1
            self._now.clear()

    def forget_row(self) -> None:
        """Drop what was noted of a row that turned out to be unusable."""
        self._now.clear()

    @property
    def left(self) -> dict[str, int]:
        """Columns, and paths of values inside of them, that are not used, and in how many rows."""
        return {path: count for path, (count, _) in [*self.columns.items(), *self._keys.items()]}

    def in_words(self) -> list[str]:
        """A warning for the columns and one for the keys that are not used, then one for each sentence."""
        counts = {name: f"{count} rows" for name, (count, _) in self.columns.items()}
        said = [f"columns not used: {_listed(counts)}"] if counts else []
        if self._keys:
            said.append(f"keys not used: {_listed({path: _rows(*tally) for path, tally in self._keys.items()})}")
        return [*said, *(f"{sentence}: {_rows(*tally)}" for sentence, tally in sorted(self._said.items()))]


def _listed(counts: Mapping[str, str]) -> str:
    named = [f"{shortened(path, 200)!a} ({count})" for path, count in counts.items()]
    more = [f"and {len(named) - MOST_SHOWN} more"] if len(named) > MOST_SHOWN else []
    return ", ".join([*named[:MOST_SHOWN], *more])


def _rows(count: int, first: int) -> str:
    return f"{count} rows" if first == 0 else f"{count} rows, first row {first}"


def holds(value: Any) -> bool:
    """Whether a value says anything: null, empty text and empty lists and objects do not."""
    return bool(value) or isinstance(value, (int, float))


class Fields:
    """An object whose values are taken one by one.

    Args:
        value: The object.
        path: Where it is in the record.
        notes: Told of what was not taken.
    """

    __slots__ = ("_taken", "notes", "path", "value")

    def __init__(self, value: Mapping[str, Any], path: str, notes: Notes) -> None:
        self.value, self.path, self.notes = value, path, notes
        self._taken: set[str] = set()

    def take(self, *keys: str) -> Any:
        """The value of the first of the keys that there is; all of them count as read."""
        self._taken.update(keys)
        return next((self.value[key] for key in keys if key in self.value), None)

    def first(self, keys: Iterable[str], kind: type | tuple[type, ...] = object) -> Any:
        """The first value that says something; the others count as read where they say the same.

        Args:
            keys: Names for one and the same thing.
            kind: Of what type it has to be.

        Returns:
            None where there is none; an empty value where there are only such.
        """
        found: Any = None
        for key in keys:
            value = self.value.get(key)
            if value is None:
                continue
            if not holds(value):
                found = value if found is None and isinstance(value, kind) else found
            elif not holds(found) and isinstance(value, kind):
                found = value
                self._taken.add(key)
            elif value == found:
                self._taken.add(key)
        return found

    def close(self) -> None:
        """Tell of what holds something and was not taken."""
        for key, value in self.value.items():
            if key not in self._taken and holds(value):
                self.notes.leave(f"{self.path}.{shortened(key)}")


class Row:
    """The columns of a record that play a role, taken one by one.

    Args:
        record: The record.
        columns: Role to column.
        notes: Told of columns that were not taken.
    """

    __slots__ = ("_taken", "columns", "notes", "record")

    def __init__(self, record: Mapping[str, Any], columns: Mapping[ColumnRole, str], notes: Notes) -> None:
        self.record, self.columns, self.notes = record, columns, notes
        self._taken: set[ColumnRole] = set()

    def has(self, role: ColumnRole) -> bool:
        """Whether a column that says something plays a role."""
        return role in self.columns and holds(self.record.get(self.columns[role]))

    def peek(self, role: ColumnRole) -> Any:
        """The value of a role, which does not count as read by that."""
        return self.record.get(self.columns[role]) if role in self.columns else None

    def take(self, role: ColumnRole) -> Any:
        """The value of a role; None where no column plays it."""
        if role not in self.columns:
            return None
        self._taken.add(role)
        return self.record.get(self.columns[role])

    def need(self, role: ColumnRole) -> Any:
        """The value of a role.

        Raises:
            RowError: ``missing-column``.
        """
        column = self.columns[role]
        if column not in self.record:
            raise RowError(f"there is no column {quoted(column)}", code="missing-column")
        return self.take(role)

    def give_back(self, roles: Iterable[ColumnRole], is_said: Callable[[Any], bool]) -> None:
        """Take back that columns were read, but for those that say nothing new.

        Args:
            roles: Roles of the columns.
            is_said: Whether the record says a value elsewhere too.
        """
        for role in roles:
            if self.has(role):
                (self._taken.add if is_said(self.peek(role)) else self._taken.discard)(role)

    def close(self) -> None:
        """Tell of columns that hold something and were not taken."""
        if len(self._taken) == len(self.columns):
            return
        for role, column in self.columns.items():
            if role not in self._taken and holds(self.record.get(column)):
                self.notes.leave_column(column)


def shortened(name: str, length: int = 60) -> str:
    """A name out of the data, of at most so many characters."""
    return name if len(name) <= length else name[: length - 3] + "..."


def quoted(name: str) -> str:
    """A name out of the data, safe to show: escaped and at most 60 characters."""
    return ascii(shortened(name))
