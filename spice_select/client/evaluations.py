"""Calls about evaluations, of both clients."""

# ruff: file-ignore[return-in-generator] - an operation yields its steps and returns its result

from __future__ import annotations

import uuid
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from typing import Any, Unpack
from urllib.parse import quote

from spice_select.client._resource import AsyncResource, Group
from spice_select.client.evaluation_models import Evaluation, EvaluationEstimate
from spice_select.client.filters import ListFilters, narrowed
from spice_select.client.models import Event
from spice_select.client.operations import parse, plain
from spice_select.client.retry import Operation, Send, send
from spice_select.errors import ConfigError

PATH = "/v1/evaluations"
FIELDS = frozenset(
    {"holdout_dataset_id", "model", "group", "max_length", "name", "metadata"}
    | {"training", "seeds", "seed", "controls", "plantings", "confidence"}
)


def _body(job_id: str, fields: Mapping[str, Any]) -> dict[str, Any]:
    """The body of a request.

    Raises:
        ConfigError: A field that an evaluation does not have.
    """
    unknown = sorted(set(fields) - FIELDS)
    if unknown:
        known = ", ".join(sorted(FIELDS))
        raise ConfigError(f"an evaluation has no field {unknown[0]!r}; it has {known}", pointer=f"#/{unknown[0]}")
    body = {"job_id": job_id, **{name: plain(value) for name, value in fields.items() if value is not None}}
    if isinstance(body.get("model"), str):
        body["model"] = {"model": body["model"]}
    return body


def submitted(job_id: str, key: str | None, fields: Mapping[str, Any], retries: int) -> Operation[Evaluation]:
    """Post an evaluation under one key, so that repeating the call can never make a second one."""
    body = _body(job_id, fields)
    headers = {"Idempotency-Key": key or str(uuid.uuid4())}
    return parse((yield from send(Send("POST", PATH, headers=headers, json=body), retries)), Evaluation)


def estimated(job_id: str, fields: Mapping[str, Any], retries: int) -> Operation[EvaluationEstimate]:
    """Ask what an evaluation would take."""
    asked = Send("POST", "/v1/estimates/evaluations", json=_body(job_id, fields))
    return parse((yield from send(asked, retries)), EvaluationEstimate)


def cancelled(evaluation_id: str, retries: int) -> Operation[Evaluation]:
    """Ask an evaluation to stop."""
    return parse((yield from send(Send("POST", f"{path_of(evaluation_id)}/cancel"), retries)), Evaluation)


def path_of(evaluation_id: str) -> str:
    """Path of an evaluation."""
    return f"{PATH}/{quote(evaluation_id, safe='')}"


class Evaluations(Group):
    """Calls about evaluations: whether what a job chose trains better than rows drawn at random."""

    def submit(self, job_id: str, *, idempotency_key: str | None = None, **fields: Any) -> Evaluation:
        """Have a choice evaluated.

        Args:
            job_id: A job with a result.
            idempotency_key: Calls with one key make one evaluation; a fresh one when left out.
            **fields: ``holdout_dataset_id`` (rows to judge by; when left out, those that the job was told to exclude),
                ``model`` (a name, a mapping or a ``ProxyConfig``), ``group`` (a column), ``max_length``, ``training``
                (a mapping or a ``TrainingConfig``), ``seeds``, ``seed``, ``controls``, ``plantings``, ``confidence``,
                ``name``, ``metadata``.
        """
        return self._transport.run(submitted(job_id, idempotency_key, fields, self._operations.retries))

    def estimate(self, job_id: str, **fields: Any) -> EvaluationEstimate:
        """What an evaluation would take; the fields are those of ``submit``, and nothing is made."""
        return self._transport.run(estimated(job_id, fields, self._operations.retries))

    def get(self, evaluation_id: str) -> Evaluation:
        """One evaluation."""
        return self._transport.run(self._operations.fetch(path_of(evaluation_id), Evaluation))

    def list(
        self, *, status: str | None = None, job_id: str | None = None, **which: Unpack[ListFilters]
    ) -> Iterator[Evaluation]:
        """Every evaluation, newest first; of one job if given, narrowed down as in ``Jobs.list``."""
        return self._pages(PATH, Evaluation, status=status, job_id=job_id, **narrowed(**which))

    def cancel(self, evaluation_id: str) -> Evaluation:
        """Stop an evaluation; nothing of it is kept."""
        return self._transport.run(cancelled(evaluation_id, self._operations.retries))

    def wait(
        self,
        evaluation_id: str,
        *,
        on_progress: Callable[[Evaluation], object] | None = None,
        max_wait: float | None = None,
    ) -> Evaluation:
        """Wait until an evaluation has ended, however it ended; ``WaitTimeoutError`` after ``max_wait`` seconds."""
        return self._transport.run(self._operations.wait(path_of(evaluation_id), Evaluation, on_progress, max_wait))

    def events(self, evaluation_id: str) -> Iterator[Event]:
        """The history of an evaluation, oldest first."""
        return self._pages(f"{path_of(evaluation_id)}/events", Event)


class AsyncEvaluations(AsyncResource):
    """Calls about evaluations, see ``Evaluations``."""

    async def submit(self, job_id: str, *, idempotency_key: str | None = None, **fields: Any) -> Evaluation:
        """Have a choice evaluated, see ``Evaluations.submit``."""
        return await self._transport.run(submitted(job_id, idempotency_key, fields, self._operations.retries))

    async def estimate(self, job_id: str, **fields: Any) -> EvaluationEstimate:
        """What an evaluation would take, see ``Evaluations.estimate``."""
        return await self._transport.run(estimated(job_id, fields, self._operations.retries))

    async def get(self, evaluation_id: str) -> Evaluation:
        """One evaluation."""
        return await self._transport.run(self._operations.fetch(path_of(evaluation_id), Evaluation))

    def list(
        self, *, status: str | None = None, job_id: str | None = None, **which: Unpack[ListFilters]
    ) -> AsyncIterator[Evaluation]:
        """Every evaluation, newest first; of one job if given, narrowed down as in ``Jobs.list``."""
        return self._pages(PATH, Evaluation, status=status, job_id=job_id, **narrowed(**which))

    async def cancel(self, evaluation_id: str) -> Evaluation:
        """Stop an evaluation; nothing of it is kept."""
        return await self._transport.run(cancelled(evaluation_id, self._operations.retries))

    async def wait(
        self,
        evaluation_id: str,
        *,
        on_progress: Callable[[Evaluation], object] | None = None,
        max_wait: float | None = None,
    ) -> Evaluation:
        """Wait until an evaluation has ended, however it ended; ``WaitTimeoutError`` after ``max_wait`` seconds."""
        operation = self._operations.wait(path_of(evaluation_id), Evaluation, on_progress, max_wait)
        return await self._transport.run(operation)

    def events(self, evaluation_id: str) -> AsyncIterator[Event]:
        """The history of an evaluation, oldest first."""
        return self._pages(f"{path_of(evaluation_id)}/events", Event)
