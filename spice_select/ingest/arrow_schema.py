"""One schema for files whose columns differ in order, in nulls, in kinds of text, or in being there at all."""

from __future__ import annotations

from collections.abc import Sequence

import pyarrow as pa
import pyarrow.compute as pc

from spice_select.errors import DatasetError


def plain_schema(schema: pa.Schema) -> pa.Schema:
    """The schema with views of text and bytes as text and bytes, which every kernel knows."""
    fields = [field.with_type(_plain(field.type)) for field in schema]
    return pa.schema(fields, schema.metadata)


def united(schemas: Sequence[pa.Schema], names: Sequence[str]) -> pa.Schema:
    """The schema that can hold the rows of all; columns in the order of the first.

    Args:
        schemas: One of each file.
        names: What the files are called.

    Raises:
        DatasetError: ``dataset-files-differ``: a column is of types that no other type can hold.
    """
    whole = schemas[0]
    for schema, name in zip(schemas[1:], names[1:], strict=True):
        try:
            whole = pa.unify_schemas([whole, _as_wide(schema, whole)], promote_options="permissive")
        except (pa.ArrowException, TypeError):
            column = next((f.name for f in schema if f.name in whole.names and not _joins(whole.field(f.name), f)), "?")
            detail = f"{name}: column {column[:60]!a} is of another type than in the files before it"
            raise DatasetError(detail, code="dataset-files-differ") from None
    return whole.with_metadata(schemas[0].metadata)


def missing_columns(schema: pa.Schema, whole: pa.Schema) -> list[str]:
    """Columns of the whole that a file does not have."""
    return [name for name in whole.names if name not in schema.names]


def aligned(batch: pa.RecordBatch, schema: pa.Schema) -> pa.RecordBatch:
    """The batch in another schema: columns in its order, missing ones null."""
    return pa.RecordBatch.from_arrays([_column(batch, field) for field in schema], schema=schema)


def _column(batch: pa.RecordBatch, field: pa.Field) -> pa.Array:
    place = batch.schema.get_field_index(field.name)
    if place < 0:
        return pa.nulls(batch.num_rows, field.type)
    column = batch.column(place)
    if column.type == field.type:
        return column
    try:
        return pc.cast(column, field.type)
    except pa.ArrowException:
        return pa.array(column.to_pylist(), field.type)


def _joins(first: pa.Field, second: pa.Field) -> bool:
    try:
        pa.unify_schemas([pa.schema([first]), pa.schema([second])], promote_options="permissive")
    except (pa.ArrowException, TypeError):
        return False
    return True


def _as_wide(schema: pa.Schema, whole: pa.Schema) -> pa.Schema:
    """Text as the kind of text that the whole has: 32 or 64 bits of offsets say nothing about the values."""
    fields = []
    for field in schema:
        place = whole.get_field_index(field.name)
        kind = whole.field(place).type if place >= 0 else None
        texts = (pa.string(), pa.large_string())
        nested = (
            kind is not None
            and field.type.num_fields
            and str(field.type).replace("large_", "") == str(kind).replace("large_", "")
        )
        fields.append(field.with_type(kind) if nested or (kind in texts and field.type in texts) else field)
    return pa.schema(fields)


def _plain(kind: pa.DataType) -> pa.DataType:
    types = pa.types
    if kind == pa.string_view():
        return pa.string()
    if kind == pa.binary_view():
        return pa.binary()
    if types.is_list(kind):
        return pa.list_(kind.value_field.with_type(_plain(kind.value_type)))
    if types.is_large_list(kind):
        return pa.large_list(kind.value_field.with_type(_plain(kind.value_type)))
    if types.is_struct(kind):
        return pa.struct(
            [kind.field(place).with_type(_plain(kind.field(place).type)) for place in range(kind.num_fields)]
        )
    return kind
