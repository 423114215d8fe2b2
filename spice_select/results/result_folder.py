"""What a result folder holds and says of itself: its files, ranking, rows and provenance. No torch, no numpy."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from spice_select.errors import VerificationError
from spice_select.results.provenance import CROISSANT_MEDIA_TYPE, STATEMENT_MEDIA_TYPE
from spice_select.results.selected_sample import SelectedSample

if TYPE_CHECKING:
    import pyarrow as pa

    from spice_select.ingest import IntakeOptions

MEDIA_TYPES = {
    "selected.jsonl": "application/jsonl",
    "selected.parquet": "application/vnd.apache.parquet",
    "ranking.parquet": "application/vnd.apache.parquet",
    "trace.parquet": "application/vnd.apache.parquet",
    "evidence.parquet": "application/vnd.apache.parquet",
    "dataset_info.json": "application/json",
    "README.md": "text/markdown",
    "croissant.json": CROISSANT_MEDIA_TYPE,
    "provenance.intoto.jsonl": STATEMENT_MEDIA_TYPE,
    "SHA256SUMS": "text/plain",
}
"""Every file of a result, in the order in which they are listed; ``evidence.parquet`` is not in every result."""
STATED = tuple(name for name in MEDIA_TYPES if name not in {"provenance.intoto.jsonl", "SHA256SUMS"})
"""The subject of the provenance statement: every file that is written before it."""
DATED = frozenset({"croissant.json", "provenance.intoto.jsonl", "SHA256SUMS"})
"""Files that hold times and names of the run, or digests of such files; all others follow from the input alone."""


def ranking_schema() -> pa.Schema:
    """The columns of ``ranking.parquet``: the fields of ``SelectedSample``."""
    import pyarrow as pa

    types: dict[Any, pa.DataType] = {int: pa.int64(), float: pa.float64(), str: pa.string()}
    types |= {int | None: pa.int64(), float | None: pa.float64(), str | None: pa.string()}
    return pa.schema([(name, types[field.annotation]) for name, field in SelectedSample.model_fields.items()])


def ranking_rows(folder: Path) -> Iterator[dict[str, Any]]:
    """The rows of ``ranking.parquet``.

    Raises:
        VerificationError: It has other columns.
    """
    import pyarrow.parquet as pq

    with pq.ParquetFile(folder / "ranking.parquet") as file:
        if not file.schema_arrow.equals(ranking_schema()):
            raise VerificationError("ranking.parquet does not have the columns of a ranking")
        for batch in file.iter_batches():
            yield from batch.to_pylist()


def selected_lines(folder: Path) -> Iterator[bytes]:
    """The lines of ``selected.jsonl``, without their line ends.

    Raises:
        VerificationError: The last one has none.
    """
    with (folder / "selected.jsonl").open("rb") as file:
        for line in file:
            if not line.endswith(b"\n"):
                raise VerificationError("selected.jsonl does not end with a line end")
            yield line[:-1]


def read_statement(folder: Path) -> dict[str, Any]:
    """The provenance statement of a result.

    Raises:
        VerificationError: There is not one statement in its file.
    """
    lines = (folder / "provenance.intoto.jsonl").read_text(encoding="utf-8").splitlines()
    statement = json.loads(lines[0]) if len(lines) == 1 else None
    if not isinstance(statement, dict):
        raise VerificationError("provenance.intoto.jsonl does not hold one statement")
    return statement


def stated_dependencies(folder: Path, name: str) -> list[dict[str, Any]]:
    """What the provenance says about all that a selection was made from under one name, as ``target-dataset``."""
    dependencies = read_statement(folder)["predicate"]["buildDefinition"]["resolvedDependencies"]
    return [dependency for dependency in dependencies if dependency.get("name") == name]


def stated_dataset(folder: Path) -> dict[str, Any]:
    """What the provenance says about the data set.

    Raises:
        VerificationError: It does not name one.
    """
    found = stated_dependencies(folder, "dataset")
    if len(found) != 1:
        raise VerificationError("the provenance does not name one data set")
    return found[0]


def stated_options(folder: Path) -> IntakeOptions:
    """How the data set has to be read to give the rows that the provenance states."""
    from spice_select.ingest import IntakeOptions

    stated = stated_dataset(folder)["annotations"]
    return IntakeOptions(
        format=stated["format"],
        columns=stated["columns"],
        encoding=stated.get("encoding"),
        split=stated.get("split"),
    )
