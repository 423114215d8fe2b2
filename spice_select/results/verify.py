"""Check a result folder against its own record, and against the source it was chosen from.

Whoever can rewrite every file of a folder consistently can only be caught by the signature of the deployment; anything
less, down to one changed byte, is found from the folder alone.
"""

from __future__ import annotations

import hashlib
import json
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from itertools import zip_longest
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from spice_select.errors import SpiceError, VerificationError
from spice_select.records.exact_numbers import ExactNumber, load_record
from spice_select.results.provenance import PREDICATE_TYPE, STATEMENT_TYPE
from spice_select.results.result_folder import (
    MEDIA_TYPES,
    STATED,
    ranking_rows,
    read_statement,
    selected_lines,
    stated_dataset,
    stated_options,
)
from spice_select.results.signature import ENVELOPE_FILE, UNSIGNED, check_signature

if TYPE_CHECKING:
    from securesystemslib.signer import Key


class Check(NamedTuple):
    """One thing that was checked.

    Attributes:
        name: Short name.
        ok: Whether it held; None where it could not be made, for want of a package.
        detail: What was compared, the first thing that is wrong, or what to install.
    """

    name: str
    ok: bool | None
    detail: str


OPTIONAL = ("croissant.json", "evidence.parquet")
"""Files that results of earlier versions lack, or that not every selection has."""
UNREADABLE = (OSError, ValueError, LookupError, TypeError, AttributeError, RecursionError)
"""What reading a file that holds something else may raise."""


@dataclass(frozen=True)
class VerificationReport:
    """What was checked and what came of it.

    Attributes:
        checks: Every check, in order.
        notice: What they do not prove; None where the signature was among them.
    """

    checks: list[Check]
    notice: str | None = None

    @property
    def ok(self) -> bool:
        """Whether every check held that could be made."""
        return all(check.ok is not False for check in self.checks)

    def raise_if_failed(self) -> None:
        """Raise the failed checks.

        Raises:
            VerificationError: At least one failed.
        """
        failed = [check for check in self.checks if check.ok is False]
        if failed:
            raise VerificationError(
                f"{failed[0].name}: {failed[0].detail}",
                errors=[{"detail": f"{check.name}: {check.detail}", "pointer": None} for check in failed],
            )


def verify_folder(
    folder: Path, source: Path | None = None, keys: list[Key] | None = None, job_id: str | None = None
) -> VerificationReport:
    """Check a result folder.

    Args:
        folder: The folder with the files of the result.
        source: The file the rows were chosen from, byte for byte; None checks the folder alone.
        keys: Public keys of which one has to have signed the result; None does not look at the signature.
        job_id: With keys: the job that the result has to be of; None takes the result of any job.

    Returns:
        The report; nothing is raised for a folder that does not hold.
    """
    checks = [
        run_check("digests", lambda: _digests(folder)),
        run_check("provenance", lambda: _provenance(folder)),
        run_check("rows", lambda: _rows(folder)),
        run_check("parquet", lambda: _parquet(folder)),
        run_check("trace", lambda: _trace(folder)),
        run_check("evidence", lambda: _evidence(folder)),
        run_check("conditions", lambda: _conditions(folder)),
        run_check("croissant", lambda: _croissant(folder)),
        run_check("other files", lambda: _other_files(folder)),
    ]
    if source is not None:
        checks += [
            run_check("source", lambda: _source_digest(folder, source)),
            run_check("source rows", lambda: _source_rows(folder, source)),
        ]
    if keys is None:
        return VerificationReport(checks, UNSIGNED)
    return VerificationReport([*checks, run_check("signature", lambda: check_signature(folder, keys, job_id))])


def run_check(name: str, check: Callable[[], str]) -> Check:
    """Make a check; whatever is wrong with what it reads makes it fail.

    Args:
        name: Short name.
        check: Returns what was compared, or raises what is wrong.

    Raises:
        ModuleNotFoundError: A module of our own is missing.
    """
    try:
        return Check(name, True, check())
    except SpiceError as error:
        return Check(name, False, error.detail)
    except FileNotFoundError as error:
        return Check(name, False, f"{error.filename} is missing")
    except ModuleNotFoundError as error:
        missing = (error.name or "").partition(".")[0]
        if missing in {"", "spice_select"}:
            raise
        return Check(name, None, f"not checked, as it needs {missing}: pip install {missing}")
    except Exception as error:
        if not isinstance(error, (*UNREADABLE, *_arrow_errors())):
            raise
        first = str(error).partition("\n")[0][:200]
        return Check(name, False, f"cannot be read: {first or type(error).__name__}")


def _arrow_errors() -> tuple[type[Exception], ...]:
    """What Arrow raises, where it is installed."""
    arrow = sys.modules.get("pyarrow")
    return () if arrow is None else (arrow.ArrowException,)


def _absent(folder: Path) -> frozenset[str]:
    """Files that the result does not have: they are neither there nor in its statement."""
    stated = {subject["name"] for subject in read_statement(folder)["subject"]}
    return frozenset(name for name in OPTIONAL if name not in stated and not (folder / name).exists())


def _digests(folder: Path) -> str:
    names = [name for name in MEDIA_TYPES if name not in {"SHA256SUMS", *_absent(folder)}]
    said = dict(_split_sum(line) for line in (folder / "SHA256SUMS").read_text(encoding="utf-8").splitlines())
    for name in names:
        if name not in said:
            raise VerificationError(f"SHA256SUMS does not list {name}")
        if _sha256(folder / name) != said[name]:
            raise VerificationError(f"{name} does not have the digest in SHA256SUMS")
    exact = "".join(f"{said[name]}  {name}\n" for name in names)
    if (folder / "SHA256SUMS").read_bytes() != exact.encode():
        raise VerificationError("SHA256SUMS is not in the form it was written in")
    return f"{len(names)} files have the digests in SHA256SUMS"


def _split_sum(line: str) -> tuple[str, str]:
    digest, _, name = line.partition("  ")
    return name, digest


def _provenance(folder: Path) -> str:
    statement = read_statement(folder)
    if (statement["_type"], statement["predicateType"]) != (STATEMENT_TYPE, PREDICATE_TYPE):
        raise VerificationError("provenance.intoto.jsonl is no in-toto statement with SLSA provenance")
    said = {subject["name"]: subject["digest"]["sha256"] for subject in statement["subject"]}
    expected = sorted(set(STATED) - _absent(folder))
    if sorted(said) != expected or len(statement["subject"]) != len(expected):
        raise VerificationError(f"the provenance states the files {sorted(said)}, not {expected}")
    for name, digest in said.items():
        if _sha256(folder / name) != digest:
            raise VerificationError(f"{name} does not have the digest that the provenance states")
    return f"{len(said)} files have the digests that the provenance states"


def _rows(folder: Path) -> str:
    rank, sources = 0, set()
    for rank, (pick, line) in enumerate(zip_longest(ranking_rows(folder), selected_lines(folder)), start=1):
        if pick is None or line is None:
            more, fewer = (
                ("selected.jsonl", "ranking.parquet") if pick is None else ("ranking.parquet", "selected.jsonl")
            )
            raise VerificationError(f"{more} has a row {rank}, {fewer} has not")
        if pick["rank"] != rank:
            raise VerificationError(f"row {rank} of ranking.parquet says it is rank {pick['rank']}")
        if hashlib.sha256(line).hexdigest() != pick["row_sha256"]:
            raise VerificationError(f"line {rank} of selected.jsonl is not the row of rank {rank}")
        if pick["source_row"] in sources:
            raise VerificationError(f"row {pick['source_row']} of the source is there twice")
        sources.add(pick["source_row"])
    return f"{rank} lines of selected.jsonl are the rows of ranking.parquet, in order"


def _parquet(folder: Path) -> str:
    count = 0
    for count, (row, line) in enumerate(zip_longest(_parquet_rows(folder), selected_lines(folder)), start=1):
        if row is None or line is None:
            more, fewer = (
                ("selected.jsonl", "selected.parquet") if row is None else ("selected.parquet", "selected.jsonl")
            )
            raise VerificationError(f"{more} has a row {count}, {fewer} has not")
        if not same_values(row, load_record(line.decode())):
            raise VerificationError(f"row {count} of selected.parquet is not line {count} of selected.jsonl")
    return f"{count} rows of selected.parquet are the lines of selected.jsonl"


def _trace(folder: Path) -> str:
    import pyarrow.parquet as pq

    utility, tokens, count = 0.0, 0, 0
    steps = pq.read_table(folder / "trace.parquet").to_pylist()
    for count, (pick, step) in enumerate(zip_longest(ranking_rows(folder), steps), start=1):
        if pick is None or step is None:
            raise VerificationError(f"trace.parquet and ranking.parquet do not both have a row {count}")
        utility, tokens = utility + pick["gain"], tokens + pick["tokens"]
        if step != {"rank": count, "utility": utility, "tokens": tokens}:
            raise VerificationError(f"row {count} of trace.parquet is not the running sum of ranking.parquet")
    return f"{count} rows of trace.parquet are the running sums of ranking.parquet"


def _evidence(folder: Path) -> str:
    """The rows that the evidence calls selected are those of the ranking, with the same numbers.

    Raises:
        VerificationError: It is otherwise.
    """
    import pyarrow.parquet as pq

    if "evidence.parquet" in _absent(folder):
        return "the result has no evidence for each row"
    columns = ["source_row", "rank", "tokens", "gain", "conflict", "score"]
    said = {row["rank"]: row for row in pq.read_table(folder / "evidence.parquet", columns=columns).to_pylist()}
    said.pop(None, None)
    for pick in ranking_rows(folder):
        if said.pop(pick["rank"], None) != {name: pick[name] for name in columns}:
            raise VerificationError(f"evidence.parquet does not say of rank {pick['rank']} what ranking.parquet says")
    if said:
        raise VerificationError(f"evidence.parquet has a row of rank {min(said)}, ranking.parquet has not")
    return "the rows that evidence.parquet calls selected are those of ranking.parquet"


def _conditions(folder: Path) -> str:
    """Rows that must be included come first, and no excluded row comes at all.

    Raises:
        VerificationError: It is otherwise.
    """
    config = read_statement(folder)["predicate"]["buildDefinition"]["externalParameters"]["config"]
    conditions = config.get("conditions", {})
    must, never = set(conditions.get("must_include", [])), set(conditions.get("exclude", []))
    if not must and not never:
        return "no rows were to be included or excluded"
    for pick in ranking_rows(folder):
        if pick["source_row"] in never:
            raise VerificationError(f"row {pick['source_row']} of the source was to be excluded, but was chosen")
        if pick["rank"] <= len(must) and pick["source_row"] not in must:
            raise VerificationError(f"rank {pick['rank']} is not one of the rows that were to be included first")
    return f"{len(must)} rows to be included come first, {len(never)} to be excluded are not there"


def _croissant(folder: Path) -> str:
    """The Croissant record distributes every file that was written before it.

    Raises:
        VerificationError: It names others, or other bytes.
    """
    if "croissant.json" in _absent(folder):
        return "the result is from before there was a croissant.json"
    described = json.loads((folder / "croissant.json").read_text(encoding="utf-8"))
    said = {file["contentUrl"]: file["sha256"] for file in described["distribution"]}
    expected = sorted(set(STATED) - {"croissant.json"} - _absent(folder))
    if sorted(said) != expected or len(described["distribution"]) != len(expected):
        raise VerificationError(f"croissant.json distributes the files {sorted(said)}, not {expected}")
    for name, digest in said.items():
        if _sha256(folder / name) != digest:
            raise VerificationError(f"{name} does not have the digest in croissant.json")
    return f"{len(said)} files have the digests in croissant.json"


def _other_files(folder: Path) -> str:
    """Nothing lies beside the result: whoever loads a folder as a whole would take it for a part of it.

    Raises:
        VerificationError: Something does.
    """
    others = sorted(path.name for path in folder.iterdir() if path.name not in {*MEDIA_TYPES, ENVELOPE_FILE})
    if others:
        raise VerificationError(f"{others[0][:200]} is no file of the result, and {len(others) - 1} more are not")
    return "no other file is in the folder"


def _source_digest(folder: Path, source: Path) -> str:
    stated = stated_dataset(folder)["digest"]["sha256"]
    found = _sha256(source)
    if found != stated:
        raise VerificationError(f"{source} has sha256 {found}; the rows were chosen from a file with {stated}")
    return f"{source} is the file that the provenance names"


def _source_rows(folder: Path, source: Path) -> str:
    from spice_select.ingest import iter_rows, read_dataset

    stated = stated_dataset(folder)["annotations"]
    wanted = {pick["source_row"]: pick["row_sha256"] for pick in ranking_rows(folder)}
    count = len(wanted)
    with tempfile.TemporaryDirectory(prefix="spice-verify-") as scratch:
        manifest = read_dataset(source, Path(scratch), stated_options(folder))
        if manifest.rows_sha256 != stated["rows_digest"]["sha256"]:
            raise VerificationError(f"{source} does not have the usable rows that the provenance states")
        for shard in manifest.shards:
            for row in iter_rows(Path(scratch) / shard.name):
                digest = wanted.pop(row.source_row, None)
                if digest is not None and hashlib.sha256(row.record.encode()).hexdigest() != digest:
                    raise VerificationError(f"row {row.source_row} of {source} is not the row that was chosen")
    if wanted:
        raise VerificationError(f"row {min(wanted)} of {source} is no usable row, but was chosen")
    return f"{count} rows are rows of {source}"


def same_values(stored: Any, written: Any) -> bool:
    """Whether a value of a typed column says the same as the JSON it was made from.

    A column type may add nulls for absent keys and hold a whole number as a float; it must not change anything else.

    Args:
        stored: The value of the column, as JSON.
        written: The JSON.
    """
    if isinstance(stored, Mapping) and isinstance(written, Mapping):
        keys = stored.keys() | written.keys()
        return all(same_values(stored.get(key), written.get(key)) for key in keys)
    if isinstance(stored, list) and isinstance(written, list):
        return len(stored) == len(written) and all(map(same_values, stored, written))
    if isinstance(stored, bool) or isinstance(written, bool):
        return stored is written
    if isinstance(written, ExactNumber):
        return isinstance(stored, ExactNumber) and stored.text == written.text
    return bool(stored == written)


def _parquet_rows(folder: Path) -> Iterator[dict[str, Any]]:
    import pyarrow.parquet as pq

    from spice_select.ingest.arrow_values import ArrowColumn
    from spice_select.results.json_columns import is_json_text

    with pq.ParquetFile(folder / "selected.parquet") as file:
        ways = [(ArrowColumn(field), is_json_text(field)) for field in file.schema_arrow]
        names = file.schema_arrow.names
        for batch in file.iter_batches(batch_size=256):
            columns = [
                [None if value is None else load_record(value) for value in way.values(column)]
                if is_text
                else way.values(column)
                for (way, is_text), column in zip(ways, batch.columns, strict=True)
            ]
            for offset in range(batch.num_rows):
                yield {name: column[offset] for name, column in zip(names, columns, strict=True)}


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
