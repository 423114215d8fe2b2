"""An ``ingest`` unit: uploaded or fetched bytes become shards of usable rows in the store."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pyarrow.compute as pc
import pyarrow.parquet as pq

from app.errors import ServiceError
from app.services.compat import understood
from app.services.units.commits import IngestOutcome
from app.services.units.inputs import IngestInputs
from app.services.units.service import Claim, UnitService
from app.storage import ArtifactStore
from spice_select.errors import ConfigError, Stopped
from spice_select.ingest import DatasetManifest, IntakeLimits, IntakeOptions, read_dataset
from spice_select.ingest.manifest import ShardInfo
from spice_select.ingest.source_urls import parse_source
from workers.heartbeat import Heartbeat
from workers.sources import Meter, fetch

LISTED_FILES = 1000
"""Files of a source that its data set lists; the count is always whole."""


def ingest(
    claim: Claim, brief: IngestInputs, store: ArtifactStore, units: UnitService, folder: Path, heartbeat: Heartbeat
) -> IngestOutcome:
    """Fetch what is not here, parse it in a limited child process and move what came out into the store.

    Args:
        claim: The lease.
        brief: Which bytes, and how the client said to read them.
        store: Artifacts.
        units: Told what a source stands for; has the settings.
        folder: Scratch folder; must outlive the outcome's ``rejected``.
        heartbeat: Told the progress.

    Raises:
        DatasetError: The file as a whole cannot be used.
        ServiceError: The source cannot be fetched.
        Stopped: The heartbeat said so.
    """  # ruff: ignore[docstring-extraneous-exception] - raised by read_dataset()
    settings, out = units.settings, folder / "rows"
    resolved: dict[str, Any] = {}
    if brief.source is None:
        place = store.path(claim.project_id, brief.sha256)
    else:
        place = folder / "source"
        place.mkdir()
        resolved = {"resolved_source": _fetched(claim, brief.source, brief.resolved_source, place, units, heartbeat)}
    heartbeat.phase("validating", measure="bytes")
    manifest = read_dataset(
        place,
        out,
        understood(IntakeOptions, brief.requested, f"data set {claim.dataset_id}"),
        IntakeLimits(
            max_bytes=settings.max_upload_bytes,
            max_rows=settings.max_rows,
            max_row_bytes=settings.max_row_bytes,
            memory_bytes=settings.ingest_memory_bytes,
            wall_seconds=settings.ingest_seconds,
        ),
        on_progress=lambda _rows, done, total: heartbeat.advance(done, total),
        should_stop=heartbeat.should_stop,
    )
    shards = [
        {**_kept(store, claim, out, shard), "last_source_row": last, "text_bytes": text}
        for shard, last, text in ((shard, *_looked_at(out / shard.name)) for shard in manifest.shards)
    ]
    source_shards = [_kept(store, claim, out, shard) for shard in manifest.source_shards]
    values = _columns(manifest, shards, source_shards) | resolved
    if resolved:
        values |= {"bytes": manifest.bytes, "sha256": manifest.sha256}
    return IngestOutcome(values, _rejected(out / "rejected.jsonl"))


def _fetched(
    claim: Claim,
    source: dict[str, Any],
    resolved: dict[str, Any] | None,
    folder: Path,
    units: UnitService,
    heartbeat: Heartbeat,
) -> dict[str, Any]:
    """Bring the files of a source into a folder; what the source was, as the data set's row keeps it.

    Raises:
        ServiceError: ``newer-settings``: a kind of source that this release does not know.
    """
    settings = units.settings
    heartbeat.phase("fetching", measure="bytes")

    def pin(found: dict[str, Any]) -> None:
        if not units.pin_source(claim, found):
            raise Stopped("the data set is somebody else's by now")

    meter = Meter(settings.max_upload_bytes, settings.source_seconds, heartbeat.advance, heartbeat.should_stop)
    pinned = (resolved or {}).get("revision")
    try:
        asked = parse_source(source)
    except ConfigError as error:  # whoever stored it could read it
        detail = f"data set {claim.dataset_id} has a source that this release cannot read: {error.detail}"
        raise ServiceError("newer-settings", detail) from error
    found = fetch(asked, folder, settings, meter, pinned=pinned, pin=pin)
    listed = [
        {key: value for key, value in asdict(file).items() if value is not None} for file in found.files[:LISTED_FILES]
    ]
    return {
        "uri": found.uri,
        **({"revision": found.revision} if found.revision is not None else {}),
        "num_files": len(found.files),
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
    taken = {"bytes", "sha256", "shards", "source_shards", "schema_version"}
    return {**manifest.model_dump(exclude=taken), "shards": shards, "source_shards": source_shards}


def _rejected(path: Path) -> Iterator[dict[str, Any]]:
    if not path.exists():
        return
    with path.open(encoding="utf-8") as lines:
        for line in lines:
            yield json.loads(line)
