"""Targets and protected sets of a job: rows of data sets, of the pool or of the request, stored as one data set."""

from __future__ import annotations

import hashlib
import json
import random
from collections.abc import Generator, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from app.errors import ServiceError
from app.ids import new_id
from app.persistence.repositories import Artifacts, Datasets, Jobs
from app.persistence.repositories.rows import now
from app.persistence.session import Database
from app.persistence.tables import Dataset, Job
from app.services.jobs.validation import check_dataset_objective, usable_dataset
from app.services.quotas import Quotas
from app.status import DatasetStatus
from app.storage import ArtifactStore
from spice_select.config import RunConfig, TargetConfig
from spice_select.errors import DatasetError, SpiceError
from spice_select.records.conversation import Conversation, dump_conversation
from spice_select.records.exact_numbers import compact_json
from spice_select.records.objectives import check_objective
from spice_select.selection.validation import check_protected, check_targets, group_of

MOST_ROWS = 10_000
"""Rows of all targets and protected sets of a job together."""
NAME = "target"
"""Field of a row that names its target or protected set."""
ROW = "target_row"
"""Field of it that says which row it is of what the set was made from."""


@dataclass(frozen=True)
class TargetRows:
    """The rows of all targets and protected sets, stored and not yet recorded.

    Attributes:
        values: Columns of the row of their data set.
    """

    values: dict[str, Any]

    @property
    def digests(self) -> list[str]:
        """Sha256 (hex) of every stored file."""
        return [self.values["sha256"], *(shard["sha256"] for shard in self.values["shards"])]

    def unrecorded(self) -> Dataset:
        """Their data set without an id, for questions about its content."""
        return Dataset(**self.values)

    def record(self, session: Any, project_id: str, job_id: str) -> Dataset:
        """Record the data set of the target rows.

        Args:
            session: The running transaction.
            project_id: Owner.
            job_id: The job they are for.
        """
        datasets, dataset_id = Datasets(session), new_id("ds")
        datasets.add(
            Dataset(
                id=dataset_id,
                project_id=project_id,
                name=f"targets of {job_id}",
                status=DatasetStatus.VALIDATING,
                bytes=self.values["bytes"],
                sha256=self.values["sha256"],
                requested={},
                internal=True,
                metadata_={},
                created_at=now(session),
            )
        )
        rest = {name: value for name, value in self.values.items() if name not in {"bytes", "sha256"}}
        datasets.settle(dataset_id, DatasetStatus.READY, rest)
        session.flush()
        session.expire_all()
        return datasets.get_even_deleted(dataset_id)


def forget_target_rows(session: Any, job: Job) -> set[str]:
    """Take the target rows of a job that is deleted away, unless another job has the same.

    Args:
        session: The running transaction.
        job: The job.

    Returns:
        Digests of their files.
    """
    datasets = Datasets(session)
    rows = None if job.target_dataset_id is None else datasets.lock_to_delete(job.project_id, job.target_dataset_id)
    if (
        rows is None
        or not rows.internal
        or rows.deleted_at is not None
        or Jobs(session).needs_target_rows(rows.id, job.id)
    ):
        return set()
    datasets.mark_deleted(rows.id)
    return {rows.sha256, *(shard["sha256"] for shard in rows.shards or [])}


def gather_targets(
    database: Database,
    store: ArtifactStore,
    project_id: str,
    dataset_id: str,
    config: RunConfig,
    *,
    quotas: Quotas | None,
) -> TargetRows | None:
    """Read the rows of every target and protected set and store them, before the transaction that makes the job.

    Args:
        database: Where the records are.
        store: Where the bytes are.
        project_id: Owner.
        dataset_id: The data set to select from.
        config: Settings of the job.
        quotas: Held before they are stored; None looks at them only, for an estimate.

    Returns:
        The rows; None for a job without any.

    Raises:
        ServiceError: One that cannot be used; the pointer says which.
    """
    targets, protect = config.conditions.targets, config.conditions.protect
    if not (targets or protect):
        return None
    names = [target.name for target in targets]
    check_targets(config, names, [target.weight for target in targets])
    check_protected(config, [one.name for one in protect], [one.weight for one in protect], names)
    wanted = [(f"#/targets/{number}", target) for number, target in enumerate(targets)]
    wanted += [(f"#/protect/{number}", one) for number, one in enumerate(protect)]
    from spice_select.ingest import DatasetManifest
    from spice_select.ingest.writer import FolderWriter

    with store.scratch() as folder:
        source = folder / "targets.jsonl"
        (folder / "rows").mkdir()
        count = 0
        known: dict[frozenset[str], str] = {}
        # The conversations as they are: read anew, a record would lose what no column of it says.
        with source.open("w", encoding="utf-8") as lines, closing(FolderWriter(folder / "rows")) as writer:
            for pointer, target in wanted:
                rows: set[str] = set()
                for row, conversation in _rows(
                    database, store, project_id, dataset_id, target, pointer, folder, config
                ):
                    value = json.loads(dump_conversation(conversation))
                    value = value if isinstance(value, dict) else {"messages": value}
                    rows.add(json.dumps(value, sort_keys=True))
                    record = compact_json({**value, NAME: target.name, ROW: row})
                    lines.write(f"{record}\n")
                    writer.add(count, record, conversation, None)
                    count += 1
                if not rows or count > MOST_ROWS:
                    detail = f"{target.name!r} has no usable row" if not rows else _too_many()
                    raise ServiceError("config-invalid", detail, pointer=pointer)
                if target in protect and frozenset(rows) in known:
                    detail = f"the protected set {target.name!r} has the same rows as {known[frozenset(rows)]!r}"
                    raise ServiceError("config-invalid", detail, pointer=pointer)
                if target in targets:
                    known[frozenset(rows)] = target.name
            writer.finish()
        with source.open("rb") as file:
            digest = hashlib.file_digest(file, "sha256").hexdigest()
        manifest = DatasetManifest(
            container="jsonl",
            compression="none",
            format="messages",
            columns={"messages": "messages"},
            column_names=["messages", NAME, ROW],
            bytes=source.stat().st_size,
            sha256=digest,
            rows_sha256=writer.rows_sha256,
            num_rows=count,
            num_usable=count,
            num_rejected=0,
            rejected={},
            warnings=[],
            shards=writer.shards,
            source_shards=[],
        )
        shards = []
        for shard in manifest.shards:
            path = folder / "rows" / shard.name
            shards.append({**shard.model_dump(), **_looked_at(path)})
        if quotas is not None:
            files = {digest: source, **{one.sha256: folder / "rows" / one.name for one in manifest.shards}}
            more = sum(path.stat().st_size for name, path in files.items() if not store.has(project_id, name))
            with quotas.storing(database, project_id, queued=1, datasets=1, stored_bytes=more):
                for name, path in files.items():
                    store.add(project_id, path, name)
        return TargetRows({**manifest.recorded(), "shards": shards, "source_shards": []})


@contextmanager
def kept_if_made(database: Database, project_id: str, rows: TargetRows | None) -> Generator[None]:
    """Around making a job: targets that were stored for one that is refused go away again.

    Args:
        database: Where the records are.
        project_id: Owner.
        rows: What was stored; None for a job without any.
    """  # ruff: ignore[docstring-missing-exception] - raised within
    try:
        yield
    except (ServiceError, SpiceError):
        if rows is not None:
            with database.write() as session:
                Artifacts(session).mark_obsolete(project_id, rows.digests)
        raise


def _too_many() -> str:
    return f"targets and protected sets have more than {MOST_ROWS} rows together"


def _rows(
    database: Database,
    store: ArtifactStore,
    project_id: str,
    pool_id: str,
    target: TargetConfig,
    pointer: str,
    folder: Path,
    config: RunConfig,
) -> Iterator[tuple[int, Conversation]]:
    """The conversations of a target or protected set, each with its row in what the set is made from.

    Raises:
        ServiceError: It cannot be used.
    """
    from spice_select.ingest import iter_rows

    paths: list[Path]
    if target.dataset_id is not None:
        with database.read() as session:
            dataset = usable_dataset(session, project_id, target.dataset_id, f"{pointer}/dataset_id")
            pool = Datasets(session).get(project_id, pool_id)
        check_dataset_objective(config, dataset, f"{pointer}/dataset_id")
        if pool is not None and pool.rows_sha256 == dataset.rows_sha256:
            raise ServiceError(
                "config-invalid",
                f"{target.name!r} is the data set to select from: nothing would be left of it",
                pointer=f"{pointer}/dataset_id",
            )
        paths = [store.intact(project_id, shard["sha256"]) for shard in dataset.shards or []]
    elif isinstance(target.rows, list):
        paths = _inline(target, target.rows, pointer, folder, config)
    else:
        with database.read() as session:
            pool = usable_dataset(session, project_id, pool_id, "#/dataset_id")
        if target.column not in (pool.column_names or []):
            raise ServiceError(
                "config-invalid",
                f"the data set has no column {target.column!r}",
                pointer=f"{pointer}/column",
            )
        paths = [store.intact(project_id, shard["sha256"]) for shard in pool.shards or []]
    found = (
        (row.source_row, row.messages)
        for path in paths
        for row in iter_rows(path)
        if target.column is None or group_of(row.record, target.column) == target.value
    )
    chosen = list(found)
    if isinstance(target.rows, int):
        if len(chosen) < target.rows:
            raise ServiceError(
                "config-invalid",
                f"{len(chosen)} rows have {target.value!r} in {target.column!r}, {target.rows} are asked for",
                pointer=f"{pointer}/rows",
            )
        # A target and a protected set of one value are not the same rows.
        seed = config.selection.seed if target in config.conditions.targets else f"protect {config.selection.seed}"
        draw = random.Random(seed)  # ruff: ignore[suspicious-non-cryptographic-random-usage]
        chosen = [chosen[place] for place in sorted(draw.sample(range(len(chosen)), target.rows))]
    yield from chosen


def _inline(
    target: TargetConfig, rows: list[dict[str, Any]], pointer: str, folder: Path, config: RunConfig
) -> list[Path]:
    """Shards of the rows of a request.

    Raises:
        ServiceError: They cannot be read, or one of them cannot be used.
    """
    from spice_select.ingest import read_dataset

    name = f"inline-{pointer.rpartition('#')[2].strip('/').replace('/', '-')}"
    source, out = folder / f"{name}.jsonl", folder / name
    source.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows), encoding="utf-8")
    try:
        manifest = read_dataset(source, out)
    except DatasetError as error:
        raise ServiceError("config-invalid", error.detail, pointer=f"{pointer}/rows") from error
    what = repr(target.name)
    check_objective(config.gradients.objective, manifest.format, manifest.columns, what=what, pointer=f"{pointer}/rows")
    if manifest.num_usable < len(rows):
        first = json.loads((out / "rejected.jsonl").read_text(encoding="utf-8").splitlines()[0])
        raise ServiceError(
            "config-invalid",
            f"row {first['row']} cannot be used: {first['detail']}",
            pointer=f"{pointer}/rows/{first['row']}",
        )
    return [out / shard.name for shard in manifest.shards]


def _looked_at(path: Path) -> dict[str, int]:
    """What a data set knows of its shards beside their digests."""
    import pyarrow.compute as pc
    import pyarrow.parquet as pq

    table = pq.read_table(path, columns=["source_row", "messages"])
    text = pc.sum(pc.binary_length(table.column("messages"))).as_py()
    return {"last_source_row": int(table.column("source_row")[-1].as_py()), "text_bytes": int(text or 0)}
