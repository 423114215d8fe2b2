"""Records as answers: rows become schemas, lists become pages, states become headers."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeVar

from fastapi import Request, Response
from pydantic import BaseModel

from app.api.file_response import client_has
from app.api.pagination import encode_cursor
from app.api.problems import base_url
from app.api.schemas.datasets import DatasetRead, SourceRead
from app.api.schemas.estimates import EstimateRead
from app.api.schemas.evaluations import EvaluationRead
from app.api.schemas.fields import Page, ProblemRead, ProgressRead, as_shown
from app.api.schemas.files import Digest
from app.api.schemas.gradient_sets import GradientSetRead, ShardRead
from app.api.schemas.jobs import JobRead, QueueRead
from app.api.schemas.parent_run import ParentRun
from app.api.schemas.uploads import PartRead, UploadRead
from app.persistence.tables import Dataset, GradientSet, Job
from app.services.datasets.service import DatasetView
from app.services.datasets.uploads import UploadView, num_parts
from app.services.evaluations.service import EvaluationView
from app.services.jobs.progress import Progress, ShardView, unit_progress
from app.services.jobs.service import JobView
from app.status import ACTIVE
from spice_select.config import ProxyConfig, RunConfig
from spice_select.evaluation.settings import EvaluationConfig
from spice_select.ingest.source_urls import SOURCE_TYPES, without_secrets

Row = TypeVar("Row")
Entry = TypeVar("Entry")
Shown = TypeVar("Shown", bound=BaseModel)

POLL_SECONDS = 1


def answer(body: BaseModel, status: int, headers: Mapping[str, str]) -> Response:
    """A body of the contract as it is sent, written down once and not checked a second time."""
    return Response(body.model_dump_json(), status, dict(headers), "application/json")


def shown(model: type[Shown], row: Any, /, **values: Any) -> Shown:
    """A row as a model: the fields of the same name, and those that are given.

    Args:
        model: The model.
        row: The record.
        values: Fields that the record does not have as they are shown.
    """
    same = {name: getattr(row, name) for name in model.model_fields if name not in values and hasattr(row, name)}
    return model(**same, **values)


def problem_read(request: Request, stored: dict[str, Any] | None) -> ProblemRead | None:
    """A stored problem with an absolute type."""
    return None if stored is None else ProblemRead(**{**stored, "type": base_url(request) + stored["type"]})


def progress_read(progress: Progress | None) -> ProgressRead | None:
    """Progress, rounded to what means something."""
    if progress is None:
        return None
    return ProgressRead(
        phase=progress.phase,
        completed=progress.completed,
        total=progress.total,
        unit=progress.unit,
        fraction=round(progress.fraction, 4),
        rate_per_second=None if progress.rate_per_second is None else round(progress.rate_per_second, 3),
        eta_seconds=None if progress.eta_seconds is None else round(progress.eta_seconds, 1),
        updated_at=progress.updated_at,
        tokens_per_second=None if progress.tokens_per_second is None else round(progress.tokens_per_second, 1),
        memory_bytes=progress.memory_bytes,
    )


def dataset_read(request: Request, view: DatasetView) -> DatasetRead:
    """A data set as the API shows it."""
    dataset, unit = view.dataset, view.unit
    progress = unit_progress(unit, unit.heartbeat_at) if unit is not None and unit.heartbeat_at else None
    return shown(
        DatasetRead,
        dataset,
        source=source_read(dataset),
        bytes=dataset.bytes if dataset.sha256 else None,
        digest=Digest(sha256=dataset.sha256) if dataset.sha256 else None,
        rows_digest=Digest(sha256=dataset.rows_sha256) if dataset.rows_sha256 else None,
        warnings=dataset.warnings or [],
        error=problem_read(request, dataset.error),
        metadata=dataset.metadata_,
        progress=progress_read(progress),
    )


def source_read(dataset: Dataset) -> dict[str, Any] | None:
    """Where a data set comes from; what may be secret in an address is left out."""
    if dataset.source is None:
        return None
    asked = dict(dataset.source)
    if asked["type"] not in SOURCE_TYPES:
        # Of a newer release's kind of source nobody here knows which fields are secret.
        asked = {"type": asked["type"]}
    if "url" in asked:
        asked["url"] = without_secrets(asked["url"])
    return as_shown(SourceRead, {**asked, "resolved": dataset.resolved_source})


def upload_read(view: UploadView) -> UploadRead:
    """A file on its way as the API shows it."""
    upload = view.upload
    return shown(
        UploadRead,
        upload,
        format=upload.requested.get("format"),
        columns=upload.requested.get("columns"),
        encoding=upload.requested.get("encoding"),
        metadata=upload.metadata_,
        digest=Digest(sha256=upload.sha256),
        num_parts=num_parts(upload),
        num_received=view.num_received,
        received_bytes=view.received_bytes,
        parts=None if view.parts is None else [PartRead.model_validate(part) for part in view.parts],
    )


def job_read(request: Request, view: JobView) -> JobRead:
    """A job as the API shows it."""
    job = view.job
    return shown(
        JobRead,
        job,
        phase=view.phase,
        config=as_shown(RunConfig, job.config),
        metadata=job.metadata_,
        parent=None if job.parent is None else as_shown(ParentRun, job.parent),
        progress=progress_read(view.progress),
        estimate=estimate_read(job),
        queue=None if view.queue is None else QueueRead.model_validate(view.queue),
        error=problem_read(request, job.error),
    )


def evaluation_read(request: Request, view: EvaluationView) -> EvaluationRead:
    """An evaluation as the API shows it."""
    row = view.evaluation
    return shown(
        EvaluationRead,
        row,
        phase=view.phase,
        model=as_shown(ProxyConfig, row.model),
        config=as_shown(EvaluationConfig, row.config),
        group=row.group_column,
        metadata=row.metadata_,
        progress=progress_read(view.progress),
        error=problem_read(request, row.error),
    )


def estimate_read(job: Job) -> dict[str, Any] | None:
    """What the job was expected to take, beside what it took once it has a result."""
    if job.estimate is None:
        return None
    actual = None
    if job.result is not None:
        seconds = job.result.get("seconds", {})
        parts = {name: seconds.get(name) for name in ("gradients", "selecting")}
        parts["other"] = round(sum(seconds.get(name) or 0.0 for name in ("loading_gradients", "writing_files")), 3)
        total = None if None in parts.values() else round(sum(parts.values()), 3)
        actual = {"tokens": job.result.get("tokens_pool"), "seconds": {**parts, "total": total}}
    return as_shown(EstimateRead, {**job.estimate, "actual": actual})


def gradient_set_read(request: Request, row: GradientSet, shards: Sequence[ShardView] | None = None) -> GradientSetRead:
    """A gradient set as the API shows it."""
    return shown(
        GradientSetRead,
        row,
        error=problem_read(request, row.error),
        shards=None if shards is None else [ShardRead.model_validate(shard) for shard in shards],
    )


def page(
    request: Request,
    response: Response,
    rows: Sequence[Row],
    limit: int,
    show: Callable[[Row], Entry],
    position: Callable[[Row], str | int],
) -> Page[Entry]:
    """One page of a list that was read with ``limit + 1``; sets the ``Link`` header when there is more."""
    shown = rows[:limit]
    cursor = encode_cursor(position(shown[-1])) if len(rows) > limit else None
    if cursor is not None:
        link = request.url.include_query_params(after=cursor)
        target = f"{base_url(request)}{link.path}?{link.query}"
        response.headers["Link"] = f'<{target}>; rel="next"'
    return Page(data=[show(row) for row in shown], has_more=cursor is not None, next_cursor=cursor)


def mark_state(request: Request, response: Response, version: str, *, settled: bool) -> bool:
    """Set ``ETag`` and ``Retry-After``; True when the client has this very state already."""
    etag = f'"{version}"'
    response.headers["ETag"] = f"W/{etag}"
    response.headers["Cache-Control"] = "private, no-cache"
    if not settled:
        response.headers["Retry-After"] = str(POLL_SECONDS)
    return client_has(request, etag)


def job_version(view: JobView) -> str:
    """Changes whenever the shown job does."""
    progress = view.progress
    place = f"-{view.queue.position}-{view.queue.reason}" if view.queue else ""
    live = f"-{view.phase}-{progress.completed}-{progress.updated_at}{place}" if progress else f"-{view.phase}{place}"
    return f"{view.job.version}{live if view.job.status in ACTIVE else ''}".replace('"', "").replace(" ", "T")


def dataset_version(view: DatasetView) -> str:
    """Changes whenever the shown data set does."""
    return f"{view.dataset.version}" + (f"-{view.unit.completed}" if view.unit is not None else "")
