"""Arrow columns as JSON values. What JSON lacks becomes text: times in ISO 8601, decimals, bytes in base64.

Integers stand in for times until they are written out here: Arrow's own conversion needs a time zone database, loses
nanoseconds without pandas and fails outside the years 1 to 9999.
"""

from __future__ import annotations

import base64
import math
from collections.abc import Callable
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from typing import Any, Final

import pyarrow as pa
import pyarrow.compute as pc

Convert = Callable[[Any], Any]

_PER_SECOND: Final = {"s": 1, "ms": 10**3, "us": 10**6, "ns": 10**9}
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_FIRST_DAY: Final = date(1970, 1, 1)


class ArrowColumn:
    """One column's way into JSON.

    Args:
        field: The column.

    Attributes:
        name: Its name.
        changes: How values differ from the source's, None when they do not; for a warning.
        lost: Whether a NaN or an infinity, which JSON does not have, has been written as null.
    """

    def __init__(self, field: pa.Field) -> None:
        self.name: str = field.name
        self.changes: str | None = None
        self.lost = False
        self._type = field.type
        self._plain, self._convert = self._way(field.type)

    def values(self, array: pa.Array) -> list[Any]:
        """Values of a piece of the column; raises ``UnicodeDecodeError`` where text is no UTF-8."""
        values: list[Any] = (array if self._plain == self._type else pc.cast(array, self._plain)).to_pylist()
        convert = self._convert
        return values if convert is None else [None if value is None else convert(value) for value in values]

    def _way(self, kind: pa.DataType) -> tuple[pa.DataType, Convert | None]:
        """Type to cast to, and what to do with each value of it that is not null."""
        types = pa.types
        if isinstance(kind, pa.BaseExtensionType):
            return self._way(kind.storage_type)
        if types.is_dictionary(kind):
            return self._way(kind.value_type)
        if types.is_floating(kind):
            return (pa.float64() if types.is_float16(kind) else kind), self._finite
        if types.is_decimal(kind):
            return kind, self._changed("decimals are text", _decimal)
        if types.is_timestamp(kind):
            return pa.int64(), self._changed("times are ISO 8601 text", _timestamp(kind))
        if types.is_date(kind):
            whole, per_day = (pa.int32(), 1) if types.is_date32(kind) else (pa.int64(), 86_400_000)
            return whole, self._changed("dates are ISO 8601 text", lambda value: _day(value // per_day))
        if types.is_time(kind):
            whole = pa.int32() if types.is_time32(kind) else pa.int64()
            return whole, self._changed("times are ISO 8601 text", lambda value: _clock(value, kind.unit))
        if types.is_duration(kind):
            return pa.int64(), self._changed("durations are ISO 8601 text", lambda value: _duration(value, kind.unit))
        if _is_bytes(kind):
            return kind, self._changed("bytes are base64 text", lambda value: base64.b64encode(value).decode())
        return self._nested(kind)

    def _nested(self, kind: pa.DataType) -> tuple[pa.DataType, Convert | None]:
        types = pa.types
        if types.is_list(kind) or types.is_large_list(kind) or types.is_fixed_size_list(kind):
            plain, convert = self._way(kind.value_type)
            if types.is_fixed_size_list(kind):
                made = pa.list_(plain, kind.list_size)
            else:
                made = pa.large_list(plain) if types.is_large_list(kind) else pa.list_(plain)
            return (kind if plain == kind.value_type else made), convert and _each(convert)
        if types.is_struct(kind):
            ways = {field.name: self._way(field.type) for field in kind}
            made = pa.struct([(name, plain) for name, (plain, _) in ways.items()])
            same = all(field.type == ways[field.name][0] for field in kind)
            changing = {name: convert for name, (_, convert) in ways.items() if convert is not None}
            return (kind if same else made), _fields(changing) if changing else None
        if types.is_map(kind):
            key, of_key = self._way(kind.key_type)
            item, of_item = self._way(kind.item_type)
            same = key == kind.key_type and item == kind.item_type
            return (kind if same else pa.map_(key, item)), _pairs(of_key, of_item)
        return kind, None

    def _changed(self, how: str, convert: Convert) -> Convert:
        self.changes = how
        return convert

    def _finite(self, value: float) -> float | None:
        if math.isfinite(value):
            return value
        self.lost = True
        return None


def depth_of(kind: pa.DataType) -> int:
    """How deep a type nests: 1 for a number or a text."""
    return 1 + max((depth_of(kind.field(position).type) for position in range(kind.num_fields)), default=0)


def repeated_field(fields: list[pa.Field]) -> str | None:
    """A name that two of these fields, or two fields inside one of them, share."""
    names: list[str] = [field.name for field in fields]
    twice = next((name for position, name in enumerate(names) if name in names[:position]), None)
    if twice is not None:
        return twice
    for field in fields:
        inner = repeated_field([field.type.field(position) for position in range(field.type.num_fields)])
        if inner is not None:
            return inner
    return None


def _is_bytes(kind: pa.DataType) -> bool:
    types = pa.types
    return bool(
        types.is_binary(kind)
        or types.is_large_binary(kind)
        or types.is_fixed_size_binary(kind)
        or types.is_binary_view(kind)
    )


def _each(convert: Convert) -> Convert:
    return lambda values: [None if value is None else convert(value) for value in values]


def _fields(changing: dict[str, Convert]) -> Convert:
    def convert(value: dict[str, Any]) -> dict[str, Any]:
        for name, change in changing.items():
            if value[name] is not None:
                value[name] = change(value[name])
        return value

    return convert


def _pairs(of_key: Convert | None, of_item: Convert | None) -> Convert:
    def change(value: Any, how: Convert | None) -> Any:
        return value if value is None or how is None else how(value)

    return lambda pairs: [[change(key, of_key), change(item, of_item)] for key, item in pairs]


def _decimal(value: Decimal) -> str:
    return format(value, "f")


def _fraction(part: int, unit: str) -> str:
    digits = len(str(_PER_SECOND[unit])) - 1
    return f".{part:0{digits}d}" if part else ""


def _timestamp(kind: pa.DataType) -> Convert:
    unit, suffix = kind.unit, "" if kind.tz is None else "Z"

    def convert(value: int) -> str:
        seconds, part = divmod(value, _PER_SECOND[unit])
        try:
            moment = _EPOCH + timedelta(seconds=seconds)
        except OverflowError:
            return f"{value} {unit} since 1970"
        return moment.strftime("%Y-%m-%dT%H:%M:%S").rjust(19, "0") + _fraction(part, unit) + suffix

    return convert


def _day(days: int) -> str:
    try:
        return (_FIRST_DAY + timedelta(days=days)).isoformat()
    except OverflowError:
        return f"{days} days since 1970"


def _clock(value: int, unit: str) -> str:
    seconds, part = divmod(value, _PER_SECOND[unit])
    return f"{seconds // 3600:02d}:{seconds // 60 % 60:02d}:{seconds % 60:02d}" + _fraction(part, unit)


def _duration(value: int, unit: str) -> str:
    seconds, part = divmod(abs(value), _PER_SECOND[unit])
    return f"{'-' if value < 0 else ''}PT{seconds}{_fraction(part, unit)}S"
