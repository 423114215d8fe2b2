"""``Client``: the way to the service, and the calls that span several resources."""

# Generated from ../_async/client.py by `make client`: change that file instead.

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import httpx

from spice_select.client import mlflow, trackers
from spice_select.client._sync.datasets import Datasets
from spice_select.client._sync.evaluations import Evaluations
from spice_select.client._sync.jobs import Jobs, job_path
from spice_select.client._sync.schedules import Schedules
from spice_select.client._sync.transport import Transport
from spice_select.client._sync.webhook_endpoints import WebhookEndpoints
from spice_select.client.answers import raise_failure
from spice_select.client.budget import BudgetLike
from spice_select.client.connection import DEFAULT_TIMEOUT_SECONDS, connection
from spice_select.client.event_stream import EventFollower
from spice_select.client.finished_job import FinishedJob, require_result
from spice_select.client.models import Answer, Dataset, Event, Job, Selected
from spice_select.client.request_bodies import SourceLike, job_body
from spice_select.client.retry import PATIENT_RETRIES
from spice_select.client.trackers import PROJECT, TrackerName
from spice_select.ingest.source_urls import is_address


class Client:
    """A service. Errors are ``ClientError`` with ``code``, ``status`` and ``request_id``.

    Args:
        base_url: Address of the service; ``SPICE_API_URL``, else this machine's port 8000.
        api_key: Sent as a bearer token; ``SPICE_API_KEY``, else none.
        transport: Another httpx transport, for tests and special networks.
        timeout: Longest silence of the service, seconds.
        retries: How many times a request is repeated that failed for a passing reason.

    Attributes:
        datasets: Calls about data sets.
        jobs: Calls about jobs.
        evaluations: Calls about evaluations of selections.
        schedules: Calls about jobs that are made at set times.
        webhook_endpoints: Calls about addresses that receive events.
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
        self._transport = Transport(connection(base_url, api_key, timeout), retries, transport)
        self.datasets = Datasets(self._transport)
        self.jobs = Jobs(self._transport)
        self.evaluations = Evaluations(self._transport)
        self.schedules = Schedules(self._transport)
        self.webhook_endpoints = WebhookEndpoints(self._transport)

    def select(
        self,
        source: bytes | Path | SourceLike,
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
        """The whole way: send a file or have one fetched, select from it, download the files.

        An invalid data set or a failed job is raised.

        Args:
            source: File, its bytes, or where the service finds it, see ``datasets.from_source``.
            budget: How much to select.
            out: Folder for the files; None downloads none.
            name: Name of the data set for people; the file's name when left out.
            format: Record format, when it should not be detected.
            columns: Role to column.
            on_progress: Called with the data set, then the job, after each look.
            max_wait: Longest wait for each of the two, seconds; None waits for ever.
            **config: As for ``jobs.submit``.
        """
        job_body(budget, config)  # A mistake is better found before the upload.
        if isinstance(source, Path | bytes) or (isinstance(source, str) and not is_address(source)):
            dataset = self.datasets.push(source, name=name, format=format, columns=columns)
        else:
            dataset = self.datasets.from_source(source, name=name, format=format, columns=columns)
        dataset = self.datasets.wait(dataset.id, on_progress=on_progress, max_wait=max_wait)
        if dataset.status != "ready":
            raise_failure(dataset, f"data set {dataset.id} is {dataset.status}")
        job = self.jobs.submit(dataset.id, budget, **config)
        job = self.jobs.wait(job.id, on_progress=on_progress, max_wait=max_wait)
        if job.status != "succeeded":
            raise_failure(job, f"job {job.id} {job.status}")
        return Selected(dataset, job, {} if out is None else self.jobs.download(job.id, out))

    def events(
        self, job_id: str | None = None, *, after: int | None = None, types: Sequence[str] = ()
    ) -> Iterator[Event]:
        """What happens, as it happens; a connection that breaks is made again and nothing is missed.

        Args:
            job_id: One job, from its first event until it has ended; None for the whole project, from now on, for ever.
            after: Only events behind the one of this id.
            types: Only these types, such as ``job.failed``; empty means all.
        """
        path = "/v1/events" if job_id is None else f"{job_path(job_id)}/events"
        retries = max(self._transport.retries, PATIENT_RETRIES)
        return self._transport.follow(EventFollower(path, after, types, retries, ends=job_id is not None))

    def url(self, path: str) -> str:
        """The full address of a path of the service."""
        return self._transport.url(path)

    def log_to_mlflow(
        self, job_id: str, *, run_id: str | None = None, context: str = "training", artifacts: bool = True
    ) -> str:
        """Log a finished job to an MLflow run: the run that is active, the one named, or else a new one.

        The selected rows become an input of the run with their digest and address, and so does the data set they were
        selected from; settings become parameters ``spice.*``, the numbers of the result metrics ``spice.*``. Calls of
        MLflow itself block.

        Args:
            job_id: A job with a result.
            run_id: A run to open again; None for the active one, or a new one where there is none.
            context: What the run does with the rows, in MLflow's words.
            artifacts: Whether the files of the result are stored in the run, below ``spice-select``.

        Returns:
            Id of the run.
        """
        mlflow.require_mlflow()
        with tempfile.TemporaryDirectory(prefix="spice-mlflow-") as folder:
            finished = self._finished(job_id, folder if artifacts else None)
            return mlflow.log(finished, folder if artifacts else None, run_id=run_id, context=context)

    def log_to(self, tracker: TrackerName, job_id: str, *, project: str = PROJECT, artifacts: bool = True) -> str:
        """Log a finished job to Weights & Biases, Trackio or TensorBoard, under the names that MLflow gets.

        Weights & Biases takes it into the run that is active, else into a new one. Calls of a tracker itself block.

        Args:
            tracker: ``wandb``, ``trackio`` or ``tensorboard``; its package has to be installed.
            job_id: A job with a result.
            project: Project of the tracker; of TensorBoard the folder of its runs.
            artifacts: Whether the files of the result are stored in the run, where the tracker stores files.

        Returns:
            Id or name of the run; of TensorBoard its folder.
        """
        log = trackers.tracker(tracker)
        with tempfile.TemporaryDirectory(prefix="spice-tracker-") as folder:
            kept = folder if artifacts and tracker == "wandb" else None
            return log(self._finished(job_id, kept), kept, project)

    def _finished(self, job_id: str, folder: str | None) -> FinishedJob:
        """A job with its result, whose files are downloaded where a folder is given.

        Raises:
            ClientError: It has no result.
        """  # ruff: ignore[docstring-extraneous-exception] - raised by require_result()
        job = self.jobs.get(job_id)
        files = self.jobs.files(job_id) if job.result is not None else []
        require_result(job, files)
        dataset = self.datasets.get(job.dataset_id or "")
        if folder is not None:
            self.jobs.download(job.id, folder)
        return FinishedJob(job, files, dataset, self.url)

    def version(self) -> Answer:
        """Version of the service."""
        return self._transport.fetch("/v1/version", Answer)

    def close(self) -> None:
        """Close the connections."""
        self._transport.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
