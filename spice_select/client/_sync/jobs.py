"""Calls about jobs."""

# Generated from ../_async/jobs.py by `make client`: change that file instead.

from __future__ import annotations

import uuid
from collections.abc import Callable, Collection, Iterator, Sequence
from pathlib import Path
from time import sleep
from typing import Any, Unpack
from urllib.parse import quote

from spice_select.client._sync.downloads import download_file
from spice_select.client._sync.transport import Resource
from spice_select.client.answers import json_of, parse
from spice_select.client.budget import BudgetLike
from spice_select.client.filters import ListFilters, filter_query
from spice_select.client.log_models import LogLine
from spice_select.client.models import (
    Estimate,
    Event,
    File,
    Job,
    Link,
    Page,
    RankedSample,
    RowExplanation,
)
from spice_select.client.partial_file import OnFileBytes
from spice_select.client.request_bodies import if_match, job_body
from spice_select.errors import ClientError

PATH = "/v1/jobs"
FOLLOW_SECONDS = 1.0
"""Pause between two looks at a log that goes on."""


def job_path(job_id: str) -> str:
    """Path of a job."""
    return f"{PATH}/{quote(job_id, safe='')}"


def file_path(job_id: str, name: str) -> str:
    """Path of a file of a job."""
    return f"{job_path(job_id)}/files/{quote(name, safe='')}"


class Jobs(Resource):
    """Calls about jobs."""

    def submit(self, dataset_id: str, budget: BudgetLike, *, idempotency_key: str | None = None, **config: Any) -> Job:
        """Post a job.

        Args:
            dataset_id: What to select from.
            budget: How much, such as ``"10%"``, 500 or ``"50000 tokens"``.
            idempotency_key: Calls with one key make one job; a fresh one when left out.
            **config: ``preset`` (``paper``, ``recommended``), ``method``, ``proxy`` (a name, a mapping or a
                ``ProxyConfig``), ``gradients``, ``schedule``, ``selection``, ``seed``, ``deadline_seconds``,
                ``priority`` (-100 to 100, higher first), ``name``, ``metadata``, ``must_include``, ``exclude``
                (rows of the source), ``given_job`` (its selection is owned already), ``targets`` and ``protect`` (as
                over HTTP, or name -> file, rows or ``"ds_..."``), ``target_dataset_id`` (for ``less``).
        """
        headers = {"Idempotency-Key": idempotency_key or str(uuid.uuid4())}
        body = job_body(budget, config, dataset_id=dataset_id)
        return parse(self._transport.send("POST", PATH, headers=headers, json=body), Job)

    def estimate(self, dataset_id: str, budget: BudgetLike, **config: Any) -> Estimate:
        """What a job would take, and whether it fits; nothing is made. Arguments as for ``submit``."""
        body = job_body(budget, config, dataset_id=dataset_id)
        return parse(self._transport.send("POST", "/v1/estimates", json=body), Estimate)

    def get(self, job_id: str) -> Job:
        """One job."""
        return self._transport.fetch(job_path(job_id), Job)

    def list(
        self,
        *,
        status: str | None = None,
        dataset_id: str | None = None,
        method: str | None = None,
        target: str | None = None,
        **filters: Unpack[ListFilters],
    ) -> Iterator[Job]:
        """Every job, newest first unless ``sort`` says otherwise.

        Args:
            status: Only those in this state.
            dataset_id: Only those on this data set.
            method: Only those by this method.
            target: Only those for this target: its name, or its data set's id.
            **filters: ``name``, ``q``, ``metadata``, ``created_after``, ``created_before``, ``sort``.
        """
        own = {"status": status, "dataset_id": dataset_id, "method": method, "target": target}
        return self._transport.pages(PATH, Job, **own, **filter_query(**filters))

    def update(self, job_id: str, *, version: int | None = None, **changes: Any) -> Job:
        """Change a job's ``name``, ``metadata`` or ``priority``; what is left out stays as it is.

        Args:
            job_id: Which.
            version: Only if the job is still at this version; else ``ClientError`` with ``precondition-failed``.
            **changes: ``metadata`` sets pairs and removes those that are None; ``priority`` only before the end.
        """
        # With a version the request is not repeated, because it would then meet its own change.
        response = self._transport.send(
            "PATCH", job_path(job_id), headers=if_match(version), json=changes, repeatable=version is None
        )
        return parse(response, Job)

    def delete(self, job_id: str, *, version: int | None = None) -> None:
        """Delete a job that has ended, with its ranking and its files.

        Args:
            job_id: Which.
            version: Only if the job is still at this version; else ``ClientError`` with ``precondition-failed``.
        """
        self._transport.delete(job_path(job_id), version)

    def cancel(self, job_id: str) -> Job:
        """Ask a job to stop; what it has selected is kept."""
        return parse(self._transport.send("POST", f"{job_path(job_id)}/cancel"), Job)

    def retry(self, job_id: str, *, idempotency_key: str | None = None) -> Job:
        """Queue a job that failed, was cancelled or expired again, as another job with the same settings.

        Args:
            job_id: The job that ended.
            idempotency_key: Calls with one key make one job; a fresh one when left out.
        """
        headers = {"Idempotency-Key": idempotency_key or str(uuid.uuid4())}
        return parse(self._transport.send("POST", f"{job_path(job_id)}/retry", headers=headers), Job)

    def wait(
        self, job_id: str, *, on_progress: Callable[[Job], object] | None = None, max_wait: float | None = None
    ) -> Job:
        """Wait until a job has ended, however it ended: see ``status`` and ``error`` of what is returned.

        Args:
            job_id: Which.
            on_progress: Called with the job after each look, about once a second.
            max_wait: Longest wait, seconds; then ``WaitTimeoutError``, and the job goes on.
        """
        return self._transport.wait(job_path(job_id), Job, on_progress, max_wait)

    def events(self, job_id: str) -> Iterator[Event]:
        """The history of a job, oldest first."""
        return self._transport.pages(f"{job_path(job_id)}/events", Event)

    def logs(self, job_id: str, *, level: str | None = None, follow: bool = False) -> Iterator[LogLine]:
        """What workers did for a job, oldest first.

        Args:
            job_id: Which.
            level: Only of this level or a worse one: ``info``, ``warning`` or ``error``.
            follow: Go on until the job has ended.
        """
        after, seen = None, set[str]()
        while True:
            ended = not follow or (self.get(job_id)).ended  # before the lines, so that the last are not missed
            path = f"{job_path(job_id)}/logs"
            page = self._transport.fetch(path, Page[LogLine], after=after, level=level, limit=1000)
            for line in page.data:
                if line.id not in seen:
                    yield line
            if page.next_cursor is not None:
                after, seen = page.next_cursor, set()
                continue
            if ended:
                return
            seen = {line.id for line in page.data}
            sleep(FOLLOW_SECONDS)

    def selection(self, job_id: str) -> Iterator[RankedSample]:
        """The selected rows of a job, in the order of their selection."""
        return self._transport.pages(f"{job_path(job_id)}/selection", RankedSample, limit=1000)

    def row(self, job_id: str, row: int) -> RowExplanation:
        """Why a row was selected, or not, with the texts of what it is near to.

        Args:
            job_id: A job that has ended.
            row: Row of its data set, from 0.
        """
        return self._transport.fetch(f"{job_path(job_id)}/rows/{row}", RowExplanation)

    def files(self, job_id: str) -> Sequence[File]:
        """The files of a job."""
        return (self._transport.fetch(f"{job_path(job_id)}/files", Page[File])).data

    def download(
        self,
        job_id: str,
        folder: str | Path,
        *,
        names: Collection[str] | None = None,
        on_bytes: OnFileBytes | None = None,
    ) -> dict[str, Path]:
        """Download files of a job, continuing where an earlier call broke off, and check their sha256.

        Args:
            job_id: Which.
            folder: Where to; made when missing.
            names: Only these; all when left out.
            on_bytes: Called with the file and how many of its bytes have come.

        Returns:
            Name -> path.

        Raises:
            ClientError: The job has no file of a wanted name, or the service names a file unsafely.
        """
        files = {file.name: file for file in self.files(job_id)}
        wanted = list(files) if names is None else list(names)
        for name in wanted:
            if name not in files:
                raise ClientError(f"job {job_id} has no file {name!r}", code="not-found")
            if name != Path(name).name or name in {"", ".", ".."} or "\\" in name:
                raise ClientError(f"the service names a file {name!r}, which is not a file name", code="unsafe-name")
        folder = Path(folder)
        folder.mkdir(parents=True, exist_ok=True)
        return {
            name: download_file(self._transport, file_path(job_id, name), files[name], folder / name, on_bytes)
            for name in wanted
        }

    def link(
        self, job_id: str, name: str = "selected.parquet", *, expires_in_seconds: float = 3600.0, k: int | None = None
    ) -> Link:
        """An address that opens a file without an API key, for tools that cannot send one.

        Args:
            job_id: Which.
            name: The file.
            expires_in_seconds: How long it opens, seconds; the service sets an upper limit.
            k: Only the first k selected rows, as a smaller budget would have given; all when left out.
        """
        body = {"expires_in_seconds": expires_in_seconds, "k": k}
        return parse(self._transport.send("POST", f"{file_path(job_id, name)}/links", json=body), Link)

    def provenance(self, job_id: str) -> dict[str, Any]:
        """The in-toto statement of a job.

        Raises:
            ClientError: The answer is not a statement.
        """
        statement = json_of(self._transport.send("GET", f"{job_path(job_id)}/provenance"))
        if not isinstance(statement, dict):
            raise ClientError("the service did not answer with a provenance statement", code="not-a-statement")
        return statement
