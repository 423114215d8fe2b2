"""What each call of the client does, step by step, for the blocking and the asynchronous client alike."""

# ruff: file-ignore[return-in-generator] - an operation yields its steps and returns its result

from __future__ import annotations

import io
import json
import math
import time
import uuid
from collections.abc import Callable, Collection, Mapping, Sequence
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple, NoReturn, TypeAlias, TypeVar
from urllib.parse import quote

import httpx
from pydantic import BaseModel, ValidationError

from spice_select.client.budget import BudgetLike, parse_budget
from spice_select.client.download import download_file
from spice_select.client.evaluation_models import Evaluation
from spice_select.client.models import Answer, Dataset, Estimate, File, FileList, Item, Job, Link, Page, Problem
from spice_select.client.retry import Operation, Send, Sleep, retry_after, send
from spice_select.client.stream import EventFollower
from spice_select.client.upload import PARTS_ABOVE_BYTES, OnBytes, push_in_parts
from spice_select.config import Budget, Conditions
from spice_select.errors import ClientError, ConfigError, WaitTimeoutError
from spice_select.ingest.source_urls import AnySource, is_address, parse_source

LONG_POLL_SECONDS = 20.0
WATCHED_POLL_SECONDS = 1.0
"""A shorter long poll when somebody watches, so that the count moves."""
SHORTEST_POLL_SECONDS = 0.1
PATIENT_RETRIES = 15
"""About a minute and a half without an answer."""
PAGE_ROWS = 1000

SourceLike: TypeAlias = str | Mapping[str, Any] | AnySource
"""Where a data set lies: an address such as ``hf://datasets/ORG/NAME@REVISION`` or ``s3://BUCKET/KEY``, or fields."""
Watched = TypeVar("Watched", Dataset, Job, Evaluation)
Model = TypeVar("Model", bound=Answer)


class Selected(NamedTuple):
    """What the whole way led to.

    Attributes:
        dataset: The data set.
        job: The finished job.
        files: Name -> path of what was fetched.
    """

    dataset: Dataset
    job: Job
    files: dict[str, Path]


class Operations:
    """Every call, as an operation.

    Args:
        retries: How many times a request may be repeated.
        timeout: Longest silence of the service, seconds.
    """

    def __init__(self, retries: int, timeout: float) -> None:
        self.retries = retries
        self._timeout = timeout

    def fetch(self, path: str, model: type[Model], **params: Any) -> Operation[Model]:
        """One resource."""
        given = {name: value for name, value in params.items() if value is not None}
        return parse((yield from send(Send("GET", path, params=given), self.retries)), model)

    def page(self, path: str, model: type[Item], after: str | None, **params: Any) -> Operation[Page[Item]]:
        """One page of a list."""
        page: Page[Item] = yield from self.fetch(path, Page[model], after=after, **params)  # type: ignore[valid-type]
        return page

    def delete(self, path: str, version: int | None = None) -> Operation[None]:
        """Delete a resource; only if it is at a version, where one is given."""
        headers = {} if version is None else {"If-Match": f'W/"{version}"'}
        yield from send(Send("DELETE", path, headers=headers), self.retries)

    def push(
        self,
        source: Path | bytes,
        name: str | None,
        form: str | None,
        columns: Mapping[str, str] | None,
        metadata: Mapping[str, str] | None,
        in_parts: bool | None = None,
        part_bytes: int | None = None,
        on_bytes: OnBytes | None = None,
    ) -> Operation[Dataset]:
        """Send a file; however often a step is repeated, one data set is made."""
        name = name if name is not None else source.name if isinstance(source, Path) else None
        size = source.stat().st_size if isinstance(source, Path) else len(source)
        if in_parts or (in_parts is None and size > PARTS_ABOVE_BYTES):
            about = {
                "name": name,
                "format": form,
                "columns": dict(columns) if columns else None,
                "metadata": dict(metadata) if metadata else None,
            }
            return (yield from push_in_parts(opener(source), about, self.retries, self._timeout, part_bytes, on_bytes))
        fields = {
            "name": name,
            "format": form,
            "columns": json.dumps(dict(columns)) if columns else None,
            "metadata": json.dumps(dict(metadata)) if metadata else None,
        }
        request = Send(
            "POST",
            "/v1/datasets",
            headers={"Idempotency-Key": str(uuid.uuid4())},
            upload=(fields["name"] or "upload", opener(source)),
            fields={name: value for name, value in fields.items() if value is not None},
            read_timeout=max(self._timeout, 300.0),
        )
        return parse((yield from send(request, self.retries)), Dataset)

    def from_source(
        self,
        source: SourceLike,
        name: str | None,
        form: str | None,
        columns: Mapping[str, str] | None,
        metadata: Mapping[str, str] | None,
    ) -> Operation[Dataset]:
        """Have the service fetch a data set; however often a step is repeated, one is made."""
        about = {"name": name, "format": form, "columns": columns, "metadata": metadata}
        body: dict[str, Any] = {"source": parse_source(source).model_dump(mode="json", exclude_unset=True)}
        body |= {field: value for field, value in about.items() if value}
        headers = {"Idempotency-Key": str(uuid.uuid4())}
        return parse((yield from send(Send("POST", "/v1/datasets", headers=headers, json=body), self.retries)), Dataset)

    def submit(self, body: Mapping[str, Any], idempotency_key: str | None) -> Operation[Job]:
        """Post a job under one key, so that repeating the call can never make a second job."""
        headers = {"Idempotency-Key": idempotency_key or str(uuid.uuid4())}
        given = {name: plain(value) for name, value in body.items() if value is not None}
        return parse((yield from send(Send("POST", "/v1/jobs", headers=headers, json=given), self.retries)), Job)

    def estimate(self, body: Mapping[str, Any]) -> Operation[Estimate]:
        """What a job with this body would take."""
        given = {name: plain(value) for name, value in body.items() if value is not None}
        return parse((yield from send(Send("POST", "/v1/estimates", json=given), self.retries)), Estimate)

    def update(self, job_id: str, changes: Mapping[str, Any], version: int | None) -> Operation[Job]:
        """Change a job; under a condition the request is not repeated, for it would then meet its own change."""
        headers = {} if version is None else {"If-Match": f'"{version}"'}
        request = Send("PATCH", job_path(job_id), headers=headers, json=dict(changes), repeatable=version is None)
        return parse((yield from send(request, self.retries)), Job)

    def cancel(self, job_id: str) -> Operation[Job]:
        """Ask a job to stop."""
        return parse((yield from send(Send("POST", f"{job_path(job_id)}/cancel"), self.retries)), Job)

    def wait(
        self,
        path: str,
        model: type[Watched],
        on_progress: Callable[[Watched], object] | None,
        max_wait: float | None,
    ) -> Operation[Watched]:
        """Ask again and again, as seldom as the service allows, until the resource's work has ended.

        Raises:
            WaitTimeoutError: ``max_wait`` seconds are over; the work goes on.
        """
        deadline = math.inf if max_wait is None else time.monotonic() + max_wait
        poll = LONG_POLL_SECONDS if on_progress is None else WATCHED_POLL_SECONDS
        seen: Watched | None = None
        while True:
            asked = time.monotonic()
            patience = 0 if seen is None else int(min(poll, max(0.0, deadline - asked)))
            request = Send(
                "GET",
                path,
                params={"wait": patience} if patience else {},
                read_timeout=self._timeout + patience,
            )
            # Work that is under way outlasts a restart of the service; so does the waiting.
            patient = self.retries if seen is None else max(self.retries, PATIENT_RETRIES)
            response = yield from send(request, patient)
            current = parse(response, model)
            if on_progress is not None:
                on_progress(current)
            if current.ended:
                return current
            now = time.monotonic()
            if now >= deadline:
                raise WaitTimeoutError(
                    f"{current.id} is still {current.status} after {max_wait:g} s; it goes on",
                    code="wait-timeout",
                    retryable=True,
                )
            same = seen is not None and (seen.status, seen.step) == (current.status, current.step)
            if same:
                # A service that held the request back has made us wait already.
                wished = retry_after(response.headers)
                pause = max(SHORTEST_POLL_SECONDS, 1.0 if wished is None else wished) - (now - asked)
                yield Sleep(min(max(0.0, pause), deadline - now))
            seen = current

    def select(
        self,
        source: str | Path | bytes | Mapping[str, Any] | AnySource,
        out: Path | None,
        *,
        upload: Mapping[str, Any],
        job: Mapping[str, Any],
        on_progress: Callable[[Dataset | Job], object] | None,
        max_wait: float | None,
    ) -> Operation[Selected]:
        """The whole way: send or fetch, wait, choose, wait, fetch; an invalid data set or a failed job is raised."""
        if isinstance(source, Path | bytes) or (isinstance(source, str) and not is_address(source)):
            dataset = yield from self.push(as_source(source), **upload)
        else:
            dataset = yield from self.from_source(source, **upload)
        dataset = yield from self.wait(dataset_path(dataset.id), Dataset, on_progress, max_wait)
        if dataset.status != "ready":
            raise_failure(dataset, f"data set {dataset.id} is {dataset.status}")
        made = yield from self.submit({"dataset_id": dataset.id, **job}, None)
        made = yield from self.wait(job_path(made.id), Job, on_progress, max_wait)
        if made.status != "succeeded":
            raise_failure(made, f"job {made.id} {made.status}")
        files = {} if out is None else (yield from self.download(made.id, out, None, None))
        return Selected(dataset, made, files)

    def follower(self, job_id: str | None, after: int | None, types: Sequence[str]) -> EventFollower:
        """The stream of a job's events, or of all of the project's; it outlasts a restart of the service."""
        path = "/v1/events" if job_id is None else f"{job_path(job_id)}/events"
        return EventFollower(path, after, types, max(self.retries, PATIENT_RETRIES), ends=job_id is not None)

    def files(self, job_id: str) -> Operation[list[File]]:
        """The files of a job."""
        found: FileList = yield from self.fetch(f"{job_path(job_id)}/files", FileList)
        return found.data

    def link(self, job_id: str, name: str, seconds: float, k: int | None) -> Operation[Link]:
        """Have a link to a file signed."""
        path = f"{job_path(job_id)}/files/{quote(name, safe='')}/links"
        body = {"expires_in_seconds": seconds, "k": k}
        return parse((yield from send(Send("POST", path, json=body), self.retries)), Link)

    def provenance(self, job_id: str) -> Operation[dict[str, Any]]:
        """The in-toto statement of a job.

        Raises:
            ClientError: What came is no statement.
        """
        response = yield from send(Send("GET", f"{job_path(job_id)}/provenance"), self.retries)
        statement = json_of(response)
        if not isinstance(statement, dict):
            raise ClientError("the service answered no provenance statement", code="not-a-statement")
        return statement

    def download(
        self,
        job_id: str,
        folder: Path,
        names: Collection[str] | None,
        on_bytes: Callable[[File, int], object] | None,
    ) -> Operation[dict[str, Path]]:
        """Fetch files of a job into a folder.

        Raises:
            ClientError: The job has no file of a wanted name, or a name that is no file name.
        """
        found = {file.name: file for file in (yield from self.files(job_id))}
        wanted = list(found) if names is None else list(names)
        for name in wanted:
            if name not in found:
                raise ClientError(f"job {job_id} has no file {name!r}", code="not-found")
            if name != Path(name).name or name in {"", ".", ".."} or "\\" in name:
                raise ClientError(f"the service names a file {name!r}, which is no file name", code="unsafe-name")
        folder.mkdir(parents=True, exist_ok=True)
        paths: dict[str, Path] = {}
        for name in wanted:
            path = f"{job_path(job_id)}/files/{quote(name, safe='')}"
            paths[name] = yield from download_file(path, found[name], folder / name, self.retries, on_bytes)
        return paths


def as_source(source: str | Path | bytes) -> Path | bytes:
    """What is uploaded: a text is the path of a file."""
    return Path(source) if isinstance(source, str) else source


JOB_FIELDS = frozenset(
    {"preset", "method", "proxy", "gradients", "selection", "seed", "deadline_seconds", "priority", "name", "metadata"}
    | {"parent", "schedule"}
    | Conditions.model_fields.keys()
)


def job_body(budget: BudgetLike, config: Mapping[str, Any]) -> dict[str, Any]:
    """The body of a job without its data set.

    Args:
        budget: How much to choose.
        config: Any of ``JOB_FIELDS``.

    Raises:
        ConfigError: A field that a job does not have.
    """
    unknown = sorted(set(config) - JOB_FIELDS)
    if unknown:
        known = ", ".join(sorted(JOB_FIELDS))
        raise ConfigError(f"a job has no field {unknown[0]!r}; it has {known}", pointer=f"#/{unknown[0]}")
    proxy = config.get("proxy")
    body = {**config, "proxy": {"model": proxy} if isinstance(proxy, str) else proxy}
    return {"budget": parse_budget(budget), **body}


def opener(source: Path | bytes) -> Callable[[], BinaryIO]:
    """How to open what is uploaded, from its start, once per attempt."""
    return (lambda: source.open("rb")) if isinstance(source, Path) else (lambda: io.BytesIO(source))


def parse(response: httpx.Response, model: type[Model]) -> Model:
    """An answer as a type.

    Raises:
        ClientError: It is of another form; most likely the address is not that of this service.
    """
    try:
        return model.model_validate(json_of(response))
    except ValidationError as error:
        first = error.errors()[0]
        where = "/".join(str(part) for part in first["loc"])
        raise ClientError(
            f"{response.request.url} answered something else than a {model.__name__}: {where}: {first['msg']}",
            code="unexpected-answer",
            status=response.status_code,
        ) from error


def json_of(response: httpx.Response) -> Any:
    """The JSON of an answer.

    Raises:
        ClientError: It is no JSON.
    """
    try:
        return response.json()
    except ValueError as error:
        raise ClientError(
            f"{response.request.url} answered no JSON", code="unexpected-answer", status=response.status_code
        ) from error


def raise_failure(resource: Dataset | Job, what: str) -> NoReturn:
    """Raise the error stored on a data set or a job.

    Args:
        resource: What failed.
        what: What to say before the stored reason.

    Raises:
        ClientError: Always.
    """
    problem = resource.error or Problem()
    reason = problem.detail or problem.title
    raise ClientError(
        f"{what}: {reason}" if reason else what,
        code=problem.code or f"{type(resource).__name__.lower()}-{resource.status}",
        request_id=problem.request_id,
        retryable=problem.retryable,
        errors=[finding.model_dump() for finding in problem.errors],
    )


def plain(value: Any) -> Any:
    """Settings as JSON, of models only what was given, so that the service's own defaults hold for the rest."""
    if isinstance(value, Budget):
        return value.model_dump(mode="json", exclude_none=True)
    return value.model_dump(mode="json", exclude_unset=True) if isinstance(value, BaseModel) else value


def dataset_path(dataset_id: str) -> str:
    """Path of a data set."""
    return f"/v1/datasets/{quote(dataset_id, safe='')}"


def job_path(job_id: str) -> str:
    """Path of a job."""
    return f"/v1/jobs/{quote(job_id, safe='')}"
