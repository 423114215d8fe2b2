"""Column types for JSON records, and the table they make.

pyarrow's own inference is not used: it turns ``true`` beside ``1.5`` into ``1.0`` without a word. Here a column holds
one type, or it is kept as JSON text and named. Objects that differ in their keys are JSON text too: a struct would add
null keys.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

import pyarrow as pa

from spice_select.records.exact_numbers import ExactNumber, dump_record

MAX_FIELDS = 256
"""A column of objects with more distinct keys than this is a dictionary, not a struct, and is kept as JSON text."""
EXACT_IN_FLOAT64 = 2**53
JSON_TEXT = {b"spice_select.content": b"json"}
"""Arrow field metadata of a column that is kept as JSON text."""

Scalar = Literal["null", "bool", "small_int", "int", "float", "string", "mixed"]


@dataclass
class ListOf:
    """A list whose items have one shape."""

    items: Shape


@dataclass
class StructOf:
    """An object whose values have a shape per key, keys in first-seen order."""

    fields: dict[str, Shape]


Shape = Scalar | ListOf | StructOf


@dataclass
class Columns:
    """Types of the columns seen so far, keys in first-seen order.

    Attributes:
        shapes: Shape of each column.
    """

    shapes: dict[str, Shape] = field(default_factory=dict)

    def observe(self, record: Mapping[str, Any]) -> None:
        """Widen the columns so that they can hold this record."""
        for key, value in record.items():
            self.shapes[key] = merge(self.shapes.get(key, "null"), shape_of(value))

    def schema(self) -> pa.Schema:
        """The Arrow schema; a column of mixed types is a string column marked as JSON text."""
        fields = []
        for key, shape in self.shapes.items():
            kind = _arrow(shape)
            fields.append(pa.field(key, pa.string(), metadata=JSON_TEXT) if kind is None else pa.field(key, kind))
        return pa.schema(fields)


def is_json_text(column: pa.Field) -> bool:
    """Whether a column holds JSON text in place of values of different types."""
    return bool(column.metadata) and JSON_TEXT.items() <= column.metadata.items()


def to_table(records: Iterable[Mapping[str, Any]], schema: pa.Schema) -> pa.Table:
    """The records as a table of this schema; a missing key is null."""
    rows = list(records)
    arrays = []
    for column in schema:
        values = [row.get(column.name) for row in rows]
        if is_json_text(column):
            values = [None if value is None else dump_record(value) for value in values]
        arrays.append(pa.array(values, column.type))
    return pa.Table.from_arrays(arrays, schema=schema)


def shape_of(value: Any) -> Shape:
    """The narrowest shape that holds a JSON value."""
    if value is None:
        return "null"
    if isinstance(value, bool):
        return "bool"
    if isinstance(value, int):
        if abs(value) <= EXACT_IN_FLOAT64:
            return "small_int"
        return "int" if -(2**63) <= value < 2**63 else "mixed"
    if isinstance(value, float):
        return "mixed" if isinstance(value, ExactNumber) else "float"
    if isinstance(value, str):
        return "string"
    if isinstance(value, list):
        items: Shape = "null"
        for item in value:
            items = merge(items, shape_of(item))
        return ListOf(items)
    return StructOf({key: shape_of(item) for key, item in value.items()}) if len(value) <= MAX_FIELDS else "mixed"


def merge(first: Shape, second: Shape) -> Shape:
    """The narrowest shape that holds the values of both without changing any; ``mixed`` where there is none."""
    if first == "null":
        return second
    if second == "null" or first == second:
        return first
    if isinstance(first, ListOf) and isinstance(second, ListOf):
        return ListOf(merge(first.items, second.items))
    if isinstance(first, StructOf) and isinstance(second, StructOf):
        if first.fields.keys() != second.fields.keys():
            return "mixed"  # a struct would give every object the keys of all, with null
        return StructOf({key: merge(shape, second.fields[key]) for key, shape in first.fields.items()})
    kinds = {first, second} if isinstance(first, str) and isinstance(second, str) else {"mixed"}
    if kinds == {"small_int", "int"}:
        return "int"
    # An integer beyond 2**53 would be rounded by a float column.
    return "float" if kinds == {"small_int", "float"} else "mixed"


def _arrow(shape: Shape) -> pa.DataType | None:
    """The Arrow type of a shape; None where there is none, at any depth."""
    if isinstance(shape, ListOf):
        items = _arrow(shape.items)
        return None if items is None else pa.list_(items)
    if isinstance(shape, StructOf):
        kinds = {key: _arrow(item) for key, item in shape.fields.items()}
        # Parquet has no struct without fields.
        if not kinds or None in kinds.values():
            return None
        return pa.struct(list(kinds.items()))
    scalars = {
        "null": pa.null(),
        "bool": pa.bool_(),
        "small_int": pa.int64(),
        "int": pa.int64(),
        "float": pa.float64(),
        "string": pa.string(),
    }
    return scalars.get(shape)
