"""``Client``: a service, with blocking calls."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Self, Unpack

import httpx

from spice_select.client._resource import Group as _Resource
from spice_select.client.budget import BudgetLike
from spice_select.client.evaluations import Evaluations
from spice_select.client.filters import ListFilters, narrowed
from spice_select.client.mlflow import log_job
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
from spice_select.client.transport import DEFAULT_TIMEOUT_SECONDS, BlockingTransport, connection
from spice_select.client.webhook_endpoints import WebhookEndpoints


class Client:
    """A service, with blocking calls. Errors are ``ClientError`` with ``code``, ``status`` and ``request_id``.

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
        webhook_endpoints: Calls about addresses that are told of events.
    """

    def __init__(
        self,
        base_url: str | None = None,
        api_key: str | None = None,
        *,
        transport: httpx.BaseTransport | None = None,
        timeout: float = DEFAULT_TIMEOUT_SECONDS,
        retries: int = 5,
    ) -> None:
        self._transport = BlockingTransport(connection(base_url, api_key, timeout), transport)
        self._operations = Operations(retries, timeout)
        self.datasets = Datasets(self._transport, self._operations)
        self.jobs = Jobs(self._transport, self._operations)
        self.evaluations = Evaluations(self._transport, self._operations)
        self.webhook_endpoints = WebhookEndpoints(self._transport, self._operations)

    def select(
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
        """The whole way: send a file or have one fetched, choose from it, fetch the files.

        Args:
            source: File, its bytes, or where the service finds it, see ``datasets.from_source``.
            budget: How much to choose.
            out: Folder for the files; None fetches none.
            name: Name of the data set for people; the file's name when left out.
            format: Record form, when it should not be found.
            columns: Role to column.
            on_progress: Told the data set, then the job, after each look.
            max_wait: Longest wait for each of the two, seconds; None for ever.
            **config: As for ``jobs.submit``.
        """
        upload = {"name": name, "form": format, "columns": columns, "metadata": None}
        return self._transport.run(
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
    ) -> Iterator[Event]:
        """What happens, as it happens; a connection that breaks is made again and nothing is missed.

        Args:
            job_id: One job, from its first event until it has ended; None for the whole project, from now on, for ever.
            after: Only events behind the one of this id.
            types: Only these types, such as ``job.failed``; empty means all.
        """
        return self._transport.follow(self._operations.follower(job_id, after, types))

    def url(self, path: str) -> str:
        """The address of a path of the service, in full."""
        return self._transport.url(path)

    def log_to_mlflow(
        self, job_id: str, *, run_id: str | None = None, context: str = "training", artifacts: bool = True
    ) -> str:
        """Note a finished job in an MLflow run: the run that is active, the one named, or else a new one.

        The chosen rows become an input of the run with their digest and address, the data set they were chosen from
        another; settings become parameters ``spice.*``, the numbers of the result metrics ``spice.*``.

        Args:
            job_id: A job with a result.
            run_id: A run to open again; None for the active one, or a new one where there is none.
            context: What the run does with the rows, in MLflow's words.
            artifacts: Whether the files of the result are stored in the run, below ``spice-select``.

        Returns:
            Id of the run.
        """
        return log_job(self, job_id, run_id=run_id, context=context, artifacts=artifacts)

    def version(self) -> Answer:
        """What the service says about itself."""
        return self._transport.run(self._operations.fetch("/v1/version", Answer))

    def close(self) -> None:
        """Close the connections."""
        self._transport.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


class Datasets(_Resource):
    """Calls about data sets."""

    def push(
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
        """Send a file, in pieces, as a new data set; it is validated afterwards, see ``wait``.

        Args:
            source: File, or its bytes.
            name: Name for people; the file's name when left out.
            format: Record form, when it should not be found.
            columns: Role to column.
            metadata: Key-values of your own.
            in_parts: Whether to send it in parts, which a later call goes on with where this one breaks off; None does
                so for files above 64 MiB.
            part_bytes: Bytes of a part; None leaves it to the service.
            on_bytes: Told the bytes that have arrived and those of the whole, of a file in parts.
        """
        operation = self._operations.push(
            as_source(source), name, format, columns, metadata, in_parts, part_bytes, on_bytes
        )
        return self._transport.run(operation)

    def from_source(
        self,
        source: SourceLike,
        *,
        name: str | None = None,
        format: str | None = None,
        columns: Mapping[str, str] | None = None,
        metadata: Mapping[str, str] | None = None,
    ) -> Dataset:
        """Have the service fetch a data set from where it lies; it is validated afterwards, see ``wait``.

        Args:
            source: An address, ``hf://datasets/ORG/NAME@REVISION``, ``https://...``, ``s3://BUCKET/KEY`` or
                ``file:PATH`` on a disk of the service, or its fields: ``{"type": "hf", "repo": ..., "split": ...}``.
            name: Name for people; the address when left out.
            format: Record form, when it should not be found.
            columns: Role to column.
            metadata: Key-values of your own.
        """
        return self._transport.run(self._operations.from_source(source, name, format, columns, metadata))

    def get(self, dataset_id: str) -> Dataset:
        """One data set."""
        return self._transport.run(self._operations.fetch(dataset_path(dataset_id), Dataset))

    def list(self, *, status: str | None = None, **which: Unpack[ListFilters]) -> Iterator[Dataset]:
        """Every data set, newest first, narrowed down as in ``Jobs.list``."""
        return self._pages("/v1/datasets", Dataset, status=status, **narrowed(**which))

    def delete(self, dataset_id: str) -> None:
        """Delete a data set that no running job uses."""
        self._transport.run(self._operations.delete(dataset_path(dataset_id)))

    def rejected(self, dataset_id: str) -> Iterator[RejectedRow]:
        """Every row that cannot be used, and why."""
        return self._pages(f"{dataset_path(dataset_id)}/rejected", RejectedRow, limit=PAGE_ROWS)

    def rows(self, dataset_id: str) -> Iterator[DatasetRow]:
        """Every usable row."""
        return self._pages(f"{dataset_path(dataset_id)}/rows", DatasetRow)

    def wait(
        self,
        dataset_id: str,
        *,
        on_progress: Callable[[Dataset], object] | None = None,
        max_wait: float | None = None,
    ) -> Dataset:
        """Wait until a data set is ready or invalid.

        Args:
            dataset_id: Which.
            on_progress: Told the data set after each look.
            max_wait: Longest wait, seconds; then ``WaitTimeoutError``.
        """
        return self._transport.run(self._operations.wait(dataset_path(dataset_id), Dataset, on_progress, max_wait))


class Jobs(_Resource):
    """Calls about jobs."""

    def submit(self, dataset_id: str, budget: BudgetLike, *, idempotency_key: str | None = None, **config: Any) -> Job:
        """Post a job.

        Args:
            dataset_id: What to choose from.
            budget: How much, such as ``"10%"``, 500 or ``"50000 tokens"``.
            idempotency_key: Calls with one key make one job; a fresh one when left out.
            **config: ``preset`` (``paper``, ``recommended``), ``method``, ``proxy`` (a name, a mapping or a
                ``ProxyConfig``), ``gradients``, ``schedule``, ``selection``, ``seed``, ``deadline_seconds``,
                ``priority`` (-100 to 100, higher first), ``name``, ``metadata``, ``must_include``, ``exclude``
                (rows of the source), ``given_job`` (its choice is owned already), ``target_dataset_id`` (for ``less``).
        """
        body = {"dataset_id": dataset_id, **job_body(budget, config)}
        return self._transport.run(self._operations.submit(body, idempotency_key))

    def estimate(self, dataset_id: str, budget: BudgetLike, **config: Any) -> Estimate:
        """What a job would take, and whether it fits; nothing is made.

        Args:
            dataset_id: What to choose from.
            budget: As for ``submit``.
            **config: As for ``submit``.
        """
        body = {"dataset_id": dataset_id, **job_body(budget, config)}
        return self._transport.run(self._operations.estimate(body))

    def get(self, job_id: str) -> Job:
        """One job."""
        return self._transport.run(self._operations.fetch(job_path(job_id), Job))

    def list(
        self, *, status: str | None = None, dataset_id: str | None = None, **which: Unpack[ListFilters]
    ) -> Iterator[Job]:
        """Every job, newest first.

        Args:
            status: Only those in this state.
            dataset_id: Only those on this data set.
            **which: What else they have: ``metadata``, ``created_after``, ``created_before``, see ``ListFilters``.
        """
        return self._pages("/v1/jobs", Job, status=status, dataset_id=dataset_id, **narrowed(**which))

    def update(self, job_id: str, *, version: int | None = None, **changes: Any) -> Job:
        """Change a job's ``name``, ``metadata`` or ``priority``; what is left out stays as it is.

        Args:
            job_id: Which.
            version: Only if the job is still at this version; else ``ClientError`` with ``precondition-failed``.
            **changes: ``metadata`` sets pairs and takes away those that are None; ``priority`` only before the end.
        """
        return self._transport.run(self._operations.update(job_id, changes, version))

    def delete(self, job_id: str, *, version: int | None = None) -> None:
        """Delete a job that has ended, with its ranking and its files.

        Args:
            job_id: Which.
            version: Only if the job is still at this version; else ``ClientError`` with ``precondition-failed``.
        """
        self._transport.run(self._operations.delete(job_path(job_id), version))

    def cancel(self, job_id: str) -> Job:
        """Ask a job to stop; what it has chosen is kept."""
        return self._transport.run(self._operations.cancel(job_id))

    def wait(
        self, job_id: str, *, on_progress: Callable[[Job], object] | None = None, max_wait: float | None = None
    ) -> Job:
        """Wait until a job has ended, however it ended: see ``status`` and ``error`` of what is returned.

        Args:
            job_id: Which.
            on_progress: Told the job after each look, about once a second.
            max_wait: Longest wait, seconds; then ``WaitTimeoutError``, and the job goes on.
        """
        return self._transport.run(self._operations.wait(job_path(job_id), Job, on_progress, max_wait))

    def events(self, job_id: str) -> Iterator[Event]:
        """The history of a job, oldest first."""
        return self._pages(f"{job_path(job_id)}/events", Event)

    def selection(self, job_id: str) -> Iterator[RankedSample]:
        """The ranking of a job, in pick order."""
        return self._pages(f"{job_path(job_id)}/selection", RankedSample, limit=PAGE_ROWS)

    def files(self, job_id: str) -> Sequence[File]:
        """The files of a job."""
        return self._transport.run(self._operations.files(job_id))

    def download(
        self,
        job_id: str,
        folder: str | Path,
        *,
        names: Collection[str] | None = None,
        on_bytes: Callable[[File, int], object] | None = None,
    ) -> dict[str, Path]:
        """Fetch files of a job, going on where an earlier call broke off, and check their sha256.

        Args:
            job_id: Which.
            folder: Where to; made when missing.
            names: Only these; all when left out.
            on_bytes: Told the file and how many of its bytes are there.

        Returns:
            Name -> path.
        """
        return self._transport.run(self._operations.download(job_id, Path(folder), names, on_bytes))

    def link(
        self, job_id: str, name: str = "selected.parquet", *, expires_in_seconds: float = 3600.0, k: int | None = None
    ) -> Link:
        """An address that opens a file without an API key, for tools that can send none.

        Args:
            job_id: Which.
            name: The file.
            expires_in_seconds: How long it opens; the service has a longest.
            k: Only the first k picks, as a smaller budget would have given; all when left out.
        """
        return self._transport.run(self._operations.link(job_id, name, expires_in_seconds, k))

    def provenance(self, job_id: str) -> dict[str, Any]:
        """The in-toto statement of a job."""
        return self._transport.run(self._operations.provenance(job_id))
