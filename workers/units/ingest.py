"""An ``ingest`` unit: uploaded or fetched bytes become shards of usable rows in the store."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

import pyarrow.compute as pc
import pyarrow.parquet as pq

from app.errors import ServiceError
from app.persistence.repositories import Datasets, Events
from app.services.compat import understood
from app.services.quotas import Quotas
from app.services.units.commits import Outcome
from app.services.units.leases import Claim
from app.services.units.service import UnitService
from app.status import DatasetStatus, UnitKind
from app.storage import ArtifactStore
from spice_select.errors import ConfigError, Stopped
from spice_select.ingest import DatasetManifest, IntakeLimits, IntakeOptions, read_dataset
from spice_select.ingest.manifest import ShardInfo
from spice_select.ingest.source_urls import parse_source
from workers.heartbeat import Heartbeat
from workers.sources import Meter, fetch
from workers.units.appended import read_appended
from workers.units.handler import UnitHandler

LISTED_FILES = 1000
"""Files of a source that its data set lists; the count is always whole."""


@dataclass(frozen=True)
class IngestInputs:
    """Which bytes, or where they come from, and how the client said to read them.

    ``old_rows`` are the rows of the data set that new ones were appended to, ``continues`` the form and the columns
    that were found in it; None where none was.
    """

    sha256: str
    requested: dict[str, Any]
    source: dict[str, Any] | None
    resolved_source: dict[str, Any] | None
    old_rows: int | None
    continues: IntakeOptions | None


@dataclass(frozen=True)
class RejectedRows:
    """Rows that cannot be used, as the ingest listed them; may be read again when a commit is repeated.

    Attributes:
        path: One row on each line: ``row``, ``code``, ``detail``. Missing where there is none.
    """

    path: Path

    def __iter__(self) -> Iterator[dict[str, Any]]:
        """Each row."""
        if not self.path.exists():
            return
        with self.path.open(encoding="utf-8") as lines:
            for line in lines:
                yield json.loads(line)


@dataclass(frozen=True)
class IngestOutcome(Outcome):
    """A parsed data set.

    Attributes:
        values: Columns of the data set's row.
        rejected: Rows that cannot be used: ``row``, ``code``, ``detail``.
    """

    values: dict[str, Any]
    rejected: Iterable[dict[str, Any]]


class IngestHandler(UnitHandler[IngestInputs, IngestOutcome]):
    """Parses a data set."""

    kind = UnitKind.INGEST

    def load(self, session: Any, claim: Claim) -> IngestInputs:
        """Read which bytes it is about."""
        dataset = Datasets(session).get_even_deleted(claim.dataset_id)
        before = None if dataset.appended_to is None else Datasets(session).get_even_deleted(dataset.appended_to)
        return IngestInputs(
            sha256=dataset.sha256,
            requested=dataset.requested,
            source=dataset.source,
            resolved_source=dataset.resolved_source,
            old_rows=None if before is None else before.num_rows,
            continues=None
            if before is None
            else IntakeOptions.model_validate({"format": before.format, "columns": before.columns}),
        )

    def run(self, claim: Claim, inputs: IngestInputs, heartbeat: Heartbeat, folder: Path) -> IngestOutcome:
        """Fetch what is not here, parse it in a limited child process and move what came out into the store.

        Raises:
            DatasetError: The file as a whole cannot be used.
            ServiceError: The source cannot be fetched.
            Stopped: The heartbeat said so.
        """  # ruff: ignore[docstring-extraneous-exception] - raised by read_dataset()
        store, units = self.resources.store, self.resources.units
        settings, out = units.settings, folder / "rows"
        resolved: dict[str, Any] = {}
        if inputs.source is None:
            source = store.path(claim.project_id, inputs.sha256)
        else:
            source = folder / "source"
            source.mkdir()
            fetched = _fetched(claim, inputs.source, inputs.resolved_source, source, store, units, heartbeat)
            resolved = {"resolved_source": fetched}
        heartbeat.phase("validating", measure="bytes")
        read = partial(
            read_dataset,
            source,
            out,
            understood(IntakeOptions, inputs.requested, f"data set {claim.dataset_id}"),
            IntakeLimits(
                max_bytes=settings.max_upload_bytes,
                max_rows=settings.max_rows,
                max_row_bytes=settings.max_row_bytes,
                memory_bytes=settings.ingest_memory_bytes,
                wall_seconds=settings.ingest_seconds,
            ),
            on_progress=lambda _rows, done, total: heartbeat.advance(done, total),
            should_stop=heartbeat.should_stop,
            continues=inputs.continues,
        )
        manifest = read() if inputs.old_rows is None else read_appended(read, out / "rejected.jsonl", inputs.old_rows)
        shards = [
            {**_kept(store, claim, out, shard), "last_source_row": last, "text_bytes": text}
            for shard, last, text in ((shard, *_looked_at(out / shard.name)) for shard in manifest.shards)
        ]
        source_shards = [_kept(store, claim, out, shard) for shard in manifest.source_shards]
        values = _columns(manifest, shards, source_shards) | resolved
        if resolved:
            values |= {"bytes": manifest.bytes, "sha256": manifest.sha256}
        record = {"num_usable": values["num_usable"]}
        return IngestOutcome(None, record, values, RejectedRows(out / "rejected.jsonl"))

    def commit(self, session: Any, claim: Claim, outcome: IngestOutcome) -> None:
        """Make the data set ready."""
        datasets = Datasets(session)
        if datasets.settle(claim.dataset_id, DatasetStatus.READY, outcome.values):
            datasets.reject_rows(claim.dataset_id, outcome.rejected)
            data = {key: outcome.values[key] for key in ("num_rows", "num_usable", "num_rejected")}
            Events(session).append(claim.project_id, "dataset.ready", dataset_id=claim.dataset_id, data=data)


def _fetched(
    claim: Claim,
    source: dict[str, Any],
    resolved: dict[str, Any] | None,
    folder: Path,
    store: ArtifactStore,
    units: UnitService,
    heartbeat: Heartbeat,
) -> dict[str, Any]:
    """Bring the files of a source into a folder; what the source was, as the data set's row keeps it.

    Raises:
        ServiceError: ``newer-settings``: a kind of source that this release does not know; ``quota-bytes``.
    """
    settings = units.settings
    heartbeat.phase("fetching", measure="bytes")

    def pin(revision: dict[str, Any]) -> None:
        if not units.pin_source(claim, revision):
            raise Stopped("the data set is somebody else's by now")

    with units.database.read() as session:
        left = Quotas(store, settings).bytes_left(session, claim.project_id)
    most = settings.max_upload_bytes if left is None else min(left, settings.max_upload_bytes)
    meter = Meter(most, settings.source_seconds, heartbeat.advance, heartbeat.should_stop)
    pinned = (resolved or {}).get("revision")
    try:
        asked = parse_source(source)
    except ConfigError as error:  # whoever stored it could read it
        detail = f"data set {claim.dataset_id} has a source that this release cannot read: {error.detail}"
        raise ServiceError("newer-settings", detail) from error
    try:
        fetched = fetch(asked, folder, settings, meter, pinned=pinned, pin=pin)
    except ServiceError as error:
        if error.code == "download-limit" and most < settings.max_upload_bytes and meter.seconds_left:
            raise ServiceError("quota-bytes", f"the project may store {most} more bytes: {error.detail}") from error
        raise
    listed = [
        {key: value for key, value in asdict(file).items() if value is not None}
        for file in fetched.files[:LISTED_FILES]
    ]
    return {
        "uri": fetched.uri,
        **({"revision": fetched.revision} if fetched.revision is not None else {}),
        "num_files": len(fetched.files),
        "files": listed,
    }


def _looked_at(path: Path) -> tuple[int, int]:
    """Source row of a shard's last row, so that pages of rows can skip whole shards, and the bytes of its text."""
    table = pq.read_table(path, columns=["source_row", "messages"])
    text = pc.sum(pc.binary_length(table.column("messages"))).as_py()
    return int(table.column("source_row")[-1].as_py()), int(text or 0)


def _kept(store: ArtifactStore, claim: Claim, out: Path, shard: ShardInfo) -> dict[str, Any]:
    store.add(claim.project_id, out / shard.name, shard.sha256)
    return shard.model_dump()


def _columns(
    manifest: DatasetManifest, shards: list[dict[str, Any]], source_shards: list[dict[str, Any]]
) -> dict[str, Any]:
    # Size and digest of the bytes were recorded when they came.
    known = {name: value for name, value in manifest.recorded().items() if name not in {"bytes", "sha256"}}
    return {**known, "shards": shards, "source_shards": source_shards}
