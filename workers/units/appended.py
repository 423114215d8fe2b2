"""Rows that were appended to a data set: what is said of them is said in the words of who sent them."""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Callable
from pathlib import Path

from spice_select.errors import DatasetError
from spice_select.ingest import DatasetManifest

PART = re.compile(r"^part-(\d{5})(?=: | has no column )")
"""Our name of a file of the archive that holds the old rows and the new ones."""
UNPACKED = "the file was unpacked: it is a zip archive"
"""True of that archive, which nobody sent."""
MOST_LISTED = 10


def read_appended(read: Callable[[], DatasetManifest], rejected: Path, old_rows: int) -> DatasetManifest:
    """Read a data set together with the rows appended to it.

    Args:
        read: Reads it.
        rejected: Where that lists the rows that cannot be used.
        old_rows: Rows that it had before.

    Returns:
        What was read, without warnings about our archive, and with one where most of the new rows cannot be used.

    Raises:
        DatasetError: It cannot be read, or no new row is usable: the new version would be the old one.
    """
    try:
        manifest = read()
    except DatasetError as error:
        how = ": all rows are read alike, so register them anew" if error.code == "dataset-columns-ambiguous" else ""
        raise DatasetError(
            _in_their_words(error.detail) + how, code=error.code, errors=error.errors, reasons=error.reasons
        ) from error
    new = manifest.num_rows - old_rows
    if new == 0:
        raise DatasetError("the appended file has no rows", code="dataset-empty")
    reasons: Counter[str] = Counter()
    first: list[dict[str, str]] = []
    with rejected.open(encoding="utf-8") as lines:
        for line in lines:
            row = json.loads(line)
            if row["row"] >= old_rows:
                reasons[row["code"]] += 1
                if len(first) < MOST_LISTED:
                    first.append({"detail": f"{row['code']}: {row['detail']}", "pointer": f"#/rows/{row['row']}"})
    refused = reasons.total()
    if refused == new:
        listed = ", ".join(f"{code} {number}" for code, number in reasons.most_common())
        raise DatasetError(
            f"none of the {new} new rows can be used: {listed} ({first[0]['detail']})",
            code="dataset-no-usable-rows",
            errors=first,
            reasons=dict(reasons.most_common()),
        )
    warnings = [_in_their_words(warning) for warning in manifest.warnings if warning != UNPACKED]
    if refused * 2 > new:
        warnings.insert(0, f"{refused} of the {new} new rows cannot be used")
    return manifest.model_copy(update={"warnings": warnings})


def _in_their_words(text: str) -> str:
    return PART.sub(lambda part: f"appended file {int(part[1])}" if int(part[1]) else "the first file", text)
