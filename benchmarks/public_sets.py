"""How the data files of public repositories are read: form, rows, what is left out and why, columns without a use.

    python -m benchmarks.public_sets FOLDER... [--json]

Each folder is a checkout, or a part of one; nothing of it is kept. Every data file is read by itself.
"""

from __future__ import annotations

import argparse
import json
import tempfile
from pathlib import Path
from typing import Any

from spice_select.errors import DatasetError
from spice_select.ingest import IntakeOptions, read_dataset

KINDS = {".json", ".jsonl", ".csv", ".tsv", ".parquet", ".arrow", ".xlsx", ".zst", ".gz", ".bz2", ".xz", ".zip"}


def data_files(folder: Path) -> list[Path]:
    return sorted(file for file in folder.rglob("*") if file.is_file() and file.suffix in KINDS)


def read(file: Path) -> dict[str, Any]:
    """What the intake says of a file."""
    with tempfile.TemporaryDirectory() as scratch:
        try:
            found = read_dataset(file, Path(scratch), IntakeOptions())
        except DatasetError as error:
            return {"refused": error.code, "reasons": dict(error.reasons), "detail": error.detail[:200]}
    return {
        "form": found.format,
        "columns": found.columns,
        "rows": found.num_rows,
        "usable": found.num_usable,
        "rejected": found.rejected,
        "unused": getattr(found, "unused_columns", {}),
        "warnings": found.warnings,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folders", nargs="+", type=Path)
    parser.add_argument("--json", action="store_true", help="one line of JSON alone")
    given = parser.parse_args()
    found = [
        {"file": f"{folder.name}/{file.relative_to(folder).as_posix()}", **read(file)}
        for folder in given.folders
        for file in data_files(folder)
    ]
    if not given.json:
        print(
            "| file | form | rows | read | left out | columns not used | warnings |\n|---|---|---:|---:|---|---|---:|"
        )
        for row in found:
            if "refused" in row:
                print(f"| {row['file']} | refused: {row['refused']} | | | {_counts(row['reasons'])} | | |")
                continue
            cells = (row["file"], row["form"], row["rows"], row["usable"])
            unused = ", ".join(row["unused"])
            print(f"| {' | '.join(map(str, cells))} | {_counts(row['rejected'])} | {unused} | {len(row['warnings'])} |")
    print(json.dumps({"benchmark": "public_sets", "files": found}))


def _counts(reasons: dict[str, int]) -> str:
    return ", ".join(f"{code} {count}" for code, count in reasons.items())


if __name__ == "__main__":
    main()
