"""Column types and the database's own clock, for PostgreSQL and SQLite."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from sqlalchemy import JSON, Boolean, DateTime, Double, String, Text, literal
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.engine import Dialect
from sqlalchemy.ext.compiler import compiles
from sqlalchemy.sql.compiler import SQLCompiler
from sqlalchemy.sql.expression import FunctionElement
from sqlalchemy.types import TypeDecorator


def storable(value: Any) -> Any:
    """Replace what PostgreSQL cannot hold in text (NUL, lone surrogates) by the replacement character, at any depth."""
    if isinstance(value, str):
        return value.replace("\x00", "\ufffd").encode("utf-8", "replace").decode("utf-8")
    if isinstance(value, dict):
        return {storable(key): storable(entry) for key, entry in value.items()}
    if isinstance(value, list | tuple):
        return [storable(entry) for entry in value]
    return value


class SafeText(TypeDecorator[str]):
    """Text from strangers."""

    impl = Text
    cache_ok = True

    def process_bind_param(self, value: str | None, _dialect: Dialect) -> str | None:
        """Make the text storable."""
        return None if value is None else str(storable(value))


class SafeString(TypeDecorator[str]):
    """Short text from strangers, such as an id in a path: an unstorable one must be unknown, not an error."""

    impl = String
    cache_ok = True

    def process_bind_param(self, value: str | None, _dialect: Dialect) -> str | None:
        """Make the text storable."""
        return None if value is None else str(storable(value))


class SafeJSON(TypeDecorator[Any]):
    """JSON from strangers: JSONB on PostgreSQL, text on SQLite."""

    impl = JSON
    cache_ok = True

    def load_dialect_impl(self, dialect: Dialect) -> Any:
        """Choose the dialect's own type; a Python None is SQL NULL."""
        if dialect.name == "postgresql":
            return dialect.type_descriptor(JSONB(none_as_null=True))
        return dialect.type_descriptor(JSON(none_as_null=True))

    def process_bind_param(self, value: Any, _dialect: Dialect) -> Any:
        """Make every string storable."""
        return storable(value)


class Instant(TypeDecorator[datetime]):
    """A point in time; always aware and in UTC on the Python side."""

    impl = DateTime(timezone=True)
    cache_ok = True

    def process_bind_param(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        """SQLite keeps naive text, so the zone is taken off there."""
        if value is None:
            return None
        value = value.astimezone(UTC)
        return value.replace(tzinfo=None) if dialect.name == "sqlite" else value

    def process_result_value(self, value: datetime | None, _dialect: Dialect) -> datetime | None:
        """Give the zone back."""
        if value is None:
            return None
        return value.replace(tzinfo=UTC) if value.tzinfo is None else value.astimezone(UTC)


class clock(FunctionElement[datetime]):  # ruff: ignore[invalid-class-name]  (reads as the SQL function it stands for)
    """The database's wall clock, now plus some seconds. Leases compare only this clock, never a worker's.

    Args:
        seconds: Added to now; may be negative. A parameter of the statement, which is compiled once for all of them.
    """

    type = Instant()
    inherit_cache = True
    name = "clock"

    def __init__(self, seconds: float = 0.0) -> None:
        super().__init__(*([literal(float(seconds), Double())] if seconds else []))


@compiles(clock, "postgresql")
def _clock_postgresql(element: clock, compiler: SQLCompiler, **given: Any) -> str:
    seconds = compiler.process(element.clauses, **given)
    return f"(clock_timestamp() + make_interval(secs => {seconds}))" if seconds else "clock_timestamp()"


@compiles(clock, "sqlite")
def _clock_sqlite(element: clock, compiler: SQLCompiler, **given: Any) -> str:
    # Six digits, so that the text compares and parses like the timestamps the driver writes.
    seconds = compiler.process(element.clauses, **given)
    shift = f", printf('%+.3f seconds', {seconds})" if seconds else ""
    return f"strftime('%Y-%m-%d %H:%M:%f000', 'now'{shift})"


class has_target(FunctionElement[bool]):  # ruff: ignore[invalid-class-name]  (as above)
    """Whether the settings of a job have a target of a name.

    Args:
        config: Column of the settings.
        name: Of the target.
    """

    type = Boolean()
    inherit_cache = True
    name = "has_target"


@compiles(has_target, "postgresql")
def _target_postgresql(element: has_target, compiler: SQLCompiler, **given: Any) -> str:
    config, name = (compiler.process(clause, **given) for clause in element.clauses)
    path = "'$.conditions.targets[*] ? (@.name == $wanted)'"
    return f"jsonb_path_exists({config}, {path}, jsonb_build_object('wanted', {name}::text))"


@compiles(has_target, "sqlite")
def _target_sqlite(element: has_target, compiler: SQLCompiler, **given: Any) -> str:
    config, name = (compiler.process(clause, **given) for clause in element.clauses)
    rows = f"json_each({config}, '$.conditions.targets') AS asked"
    return f"EXISTS (SELECT 1 FROM {rows} WHERE json_extract(asked.value, '$.name') = {name})"  # ruff: ignore[hardcoded-sql-expression]  # nosec B608: compiled clauses


class seconds_between(FunctionElement[float]):  # ruff: ignore[invalid-class-name]  (as above)
    """Seconds from one point in time to another."""

    type = Double()
    inherit_cache = True
    name = "seconds_between"


@compiles(seconds_between, "postgresql")
def _between_postgresql(element: seconds_between, compiler: SQLCompiler, **given: Any) -> str:
    begin, end = (compiler.process(clause, **given) for clause in element.clauses)
    return f"extract(epoch FROM {end} - {begin})::double precision"


@compiles(seconds_between, "sqlite")
def _between_sqlite(element: seconds_between, compiler: SQLCompiler, **given: Any) -> str:
    begin, end = (compiler.process(clause, **given) for clause in element.clauses)
    return f"(julianday({end}) - julianday({begin})) * 86400.0"
