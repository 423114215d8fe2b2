"""``AsyncClient``: the calls of ``spice_select.client.Client``, to be awaited; lists are asynchronous iterators."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Collection, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Self, Unpack

import httpx

from spice_select.client._resource import AsyncResource as _Resource
from spice_select.client.budget import BudgetLike
from spice_select.client.evaluations import AsyncEvaluations
from spice_select.client.filters import ListFilters, narrowed
from spice_select.client.mlflow import log_job_awaited
from spice_select.client.models import (
    Answer,
    Dataset,
    DatasetRow,
    Estimate,
    Event,
    File,
    Job,
    Link,
    RankedSample,
    RejectedRow,
)
from spice_select.client.operations import (
    PAGE_ROWS,
    Operations,
    Selected,
    SourceLike,
    as_source,
    dataset_path,
    job_body,
    job_path,
)
from spice_select.client.transport import DEFAULT_TIMEOUT_SECONDS, AsyncTransport, connection
from spice_select.client.webhook_endpoints import AsyncWebhookEndpoints


class AsyncClient:
    """A service, with calls to be awaited. Arguments and errors are those of ``Client``.

    Args:
        base_url: Address of the service; ``SPICE_API_URL``, else this machine's port 8000.
        api_key: Sent as a bearer token; ``SPICE_API_KEY``, else none.
        transport: Another httpx transport, for tests and special networks.
        timeout: Longest silence of the service, seconds.
        retries: How many times a request is repeated that failed for a passing reason.

    Attributes:
        datasets: Calls about data sets.
        jobs: Calls about jobs.
        evaluations: Calls about evaluations of what jobs chose.
    """

    def __init__(
        self,
        base_url: str | None = None,
        api_key: str | None = None,
        *,
        transport: httpx.AsyncBaseTransport | None = None,
        timeout: float = DEFAULT_TIMEOUT_SECONDS,
        retries: int = 5,
    ) -> None:
        self._transport = AsyncTransport(connection(base_url, api_key, timeout), transport)
        self._operations = Operations(retries, timeout)
        self.datasets = AsyncDatasets(self._transport, self._operations)
        self.jobs = AsyncJobs(self._transport, self._operations)
        self.evaluations = AsyncEvaluations(self._transport, self._operations)
        self.webhook_endpoints = AsyncWebhookEndpoints(self._transport, self._operations)

    async def select(
        self,
        source: str | Path | bytes | SourceLike,
        budget: BudgetLike = "10%",
        out: str | Path | None = None,
        *,
        name: str | None = None,
        format: str | None = None,
        columns: Mapping[str, str] | None = None,
        on_progress: Callable[[Dataset | Job], object] | None = None,
        max_wait: float | None = None,
        **config: Any,
    ) -> Selected:
        """The whole way: send a file, choose from it, fetch the files."""
        upload = {"name": name, "form": format, "columns": columns, "metadata": None}
        return await self._transport.run(
            self._operations.select(
                source,
                None if out is None else Path(out),
                upload=upload,
                job=job_body(budget, config),
                on_progress=on_progress,
                max_wait=max_wait,
            )
        )

    def events(
        self, job_id: str | None = None, *, after: int | None = None, types: Sequence[str] = ()
    ) -> AsyncIterator[Event]:
        """What happens, as it happens, see ``Client.events``."""
        return self._transport.follow(self._operations.follower(job_id, after, types))

    def url(self, path: str) -> str:
        """The address of a path of the service, in full."""
        return self._transport.url(path)

    async def log_to_mlflow(
        self, job_id: str, *, run_id: str | None = None, context: str = "training", artifacts: bool = True
    ) -> str:
        """Note a finished job in an MLflow run, see ``Client.log_to_mlflow``."""
        return await log_job_awaited(self, job_id, run_id=run_id, context=context, artifacts=artifacts)

    async def version(self) -> Answer:
        """What the service says about itself."""
        return await self._transport.run(self._operations.fetch("/v1/version", Answer))

    async def close(self) -> None:
        """Close the connections."""
        await self._transport.close()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()


class AsyncDatasets(_Resource):
    """Calls about data sets."""

    async def push(
        self,
        source: str | Path | bytes,
        *,
        name: str | None = None,
        format: str | None = None,
        columns: Mapping[str, str] | None = None,
        metadata: Mapping[str, str] | None = None,
        in_parts: bool | None = None,
        part_bytes: int | None = None,
        on_bytes: Callable[[int, int], object] | None = None,
    ) -> Dataset:
        """Send a file, in pieces, as a new data set; it is validated afterwards, see ``wait``."""
        operation = self._operations.push(
            as_source(source), name, format, columns, metadata, in_parts, part_bytes, on_bytes
        )
        return await self._transport.run(operation)

    async def from_source(
        self,
        source: SourceLike,
        *,
        name: str | None = None,
        format: str | None = None,
        columns: Mapping[str, str] | None = None,
        metadata: Mapping[str, str] | None = None,
    ) -> Dataset:
        """Have the service fetch a data set from where it lies, see ``Datasets.from_source``."""
        return await self._transport.run(self._operations.from_source(source, name, format, columns, metadata))

    async def get(self, dataset_id: str) -> Dataset:
        """One data set."""
        return await self._transport.run(self._operations.fetch(dataset_path(dataset_id), Dataset))

    def list(self, *, status: str | None = None, **which: Unpack[ListFilters]) -> AsyncIterator[Dataset]:
        """Every data set, newest first, narrowed down as in ``Jobs.list``."""
        return self._pages("/v1/datasets", Dataset, status=status, **narrowed(**which))

    async def delete(self, dataset_id: str) -> None:
        """Delete a data set that no running job uses."""
        await self._transport.run(self._operations.delete(dataset_path(dataset_id)))

    def rejected(self, dataset_id: str) -> AsyncIterator[RejectedRow]:
        """Every row that cannot be used, and why."""
        return self._pages(f"{dataset_path(dataset_id)}/rejected", RejectedRow, limit=PAGE_ROWS)

    def rows(self, dataset_id: str) -> AsyncIterator[DatasetRow]:
        """Every usable row."""
        return self._pages(f"{dataset_path(dataset_id)}/rows", DatasetRow)

    async def wait(
        self,
        dataset_id: str,
        *,
        on_progress: Callable[[Dataset], object] | None = None,
        max_wait: float | None = None,
    ) -> Dataset:
        """Wait until a data set is ready or invalid; ``WaitTimeoutError`` after ``max_wait`` seconds."""
        operation = self._operations.wait(dataset_path(dataset_id), Dataset, on_progress, max_wait)
        return await self._transport.run(operation)


class AsyncJobs(_Resource):
    """Calls about jobs."""

    async def submit(
        self, dataset_id: str, budget: BudgetLike, *, idempotency_key: str | None = None, **config: Any
    ) -> Job:
        """Post a job, see ``Jobs.submit``."""
        body = {"dataset_id": dataset_id, **job_body(budget, config)}
        return await self._transport.run(self._operations.submit(body, idempotency_key))

    async def estimate(self, dataset_id: str, budget: BudgetLike, **config: Any) -> Estimate:
        """What a job would take, and whether it fits; nothing is made."""
        body = {"dataset_id": dataset_id, **job_body(budget, config)}
        return await self._transport.run(self._operations.estimate(body))

    async def get(self, job_id: str) -> Job:
        """One job."""
        return await self._transport.run(self._operations.fetch(job_path(job_id), Job))

    def list(
        self, *, status: str | None = None, dataset_id: str | None = None, **which: Unpack[ListFilters]
    ) -> AsyncIterator[Job]:
        """Every job, newest first, narrowed down as in ``Jobs.list``."""
        return self._pages("/v1/jobs", Job, status=status, dataset_id=dataset_id, **narrowed(**which))

    async def update(self, job_id: str, *, version: int | None = None, **changes: Any) -> Job:
        """Change a job's ``name``, ``metadata`` or ``priority``, see ``Jobs.update``."""
        return await self._transport.run(self._operations.update(job_id, changes, version))

    async def delete(self, job_id: str, *, version: int | None = None) -> None:
        """Delete a job that has ended, with its ranking and its files.

        Args:
            job_id: Which.
            version: Only if the job is still at this version; else ``ClientError`` with ``precondition-failed``.
        """
        await self._transport.run(self._operations.delete(job_path(job_id), version))

    async def cancel(self, job_id: str) -> Job:
        """Ask a job to stop; what it has chosen is kept."""
        return await self._transport.run(self._operations.cancel(job_id))

    async def wait(
        self, job_id: str, *, on_progress: Callable[[Job], object] | None = None, max_wait: float | None = None
    ) -> Job:
        """Wait until a job has ended, however it ended; ``WaitTimeoutError`` after ``max_wait`` seconds."""
        return await self._transport.run(self._operations.wait(job_path(job_id), Job, on_progress, max_wait))

    def events(self, job_id: str) -> AsyncIterator[Event]:
        """The history of a job, oldest first."""
        return self._pages(f"{job_path(job_id)}/events", Event)

    def selection(self, job_id: str) -> AsyncIterator[RankedSample]:
        """The ranking of a job, in pick order."""
        return self._pages(f"{job_path(job_id)}/selection", RankedSample, limit=PAGE_ROWS)

    async def files(self, job_id: str) -> Sequence[File]:
        """The files of a job."""
        return await self._transport.run(self._operations.files(job_id))

    async def download(
        self,
        job_id: str,
        folder: str | Path,
        *,
        names: Collection[str] | None = None,
        on_bytes: Callable[[File, int], object] | None = None,
    ) -> dict[str, Path]:
        """Fetch files of a job, going on where an earlier call broke off, and check their sha256."""
        return await self._transport.run(self._operations.download(job_id, Path(folder), names, on_bytes))

    async def link(
        self, job_id: str, name: str = "selected.parquet", *, expires_in_seconds: float = 3600.0, k: int | None = None
    ) -> Link:
        """An address that opens a file without an API key, for tools that can send none."""
        return await self._transport.run(self._operations.link(job_id, name, expires_in_seconds, k))

    async def provenance(self, job_id: str) -> dict[str, Any]:
        """The in-toto statement of a job."""
        return await self._transport.run(self._operations.provenance(job_id))
