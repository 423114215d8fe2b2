"""What a result folder says of itself: its ranking, its rows, its provenance."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from spice_select.errors import VerificationError


def ranking_rows(folder: Path) -> Iterator[dict[str, Any]]:
    """The rows of ``ranking.parquet``.

    Raises:
        VerificationError: It has other columns.
    """
    import pyarrow.parquet as pq

    from spice_select.results.write import RANKING_SCHEMA

    with pq.ParquetFile(folder / "ranking.parquet") as file:
        if not file.schema_arrow.equals(RANKING_SCHEMA):
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
