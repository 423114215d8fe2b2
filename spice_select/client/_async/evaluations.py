"""Calls about evaluations: whether the rows of a job train a better model than rows drawn at random."""

from __future__ import annotations

import uuid
from collections.abc import AsyncIterator, Callable
from typing import Any, Unpack
from urllib.parse import quote

from spice_select.client._async.transport import AsyncResource
from spice_select.client.answers import parse
from spice_select.client.evaluation_models import Evaluation, EvaluationEstimate
from spice_select.client.filters import ListFilters, filter_query
from spice_select.client.models import Event
from spice_select.client.request_bodies import evaluation_body

PATH = "/v1/evaluations"


def evaluation_path(evaluation_id: str) -> str:
    """Path of an evaluation."""
    return f"{PATH}/{quote(evaluation_id, safe='')}"


class AsyncEvaluations(AsyncResource):
    """Calls about evaluations."""

    async def submit(self, job_id: str, *, idempotency_key: str | None = None, **fields: Any) -> Evaluation:
        """Have a selection evaluated.

        Args:
            job_id: A job with a result.
            idempotency_key: Calls with one key make one evaluation; a fresh one when left out.
            **fields: ``holdout_dataset_id`` (held-out rows; when left out, those that the job excluded), ``model`` (a
                name, a mapping or a ``ProxyConfig``), ``group`` (a column), ``max_length``, ``training`` (a mapping or
                a ``TrainingConfig``), ``seeds``, ``seed``, ``controls``, ``plantings``, ``confidence``, ``name``,
                ``metadata``.
        """
        headers = {"Idempotency-Key": idempotency_key or str(uuid.uuid4())}
        body = evaluation_body(job_id, fields)
        return parse(await self._transport.send("POST", PATH, headers=headers, json=body), Evaluation)

    async def estimate(self, job_id: str, **fields: Any) -> EvaluationEstimate:
        """What an evaluation would take; the fields are those of ``submit``, and nothing is made."""
        body = evaluation_body(job_id, fields)
        return parse(await self._transport.send("POST", "/v1/estimates/evaluations", json=body), EvaluationEstimate)

    async def get(self, evaluation_id: str) -> Evaluation:
        """One evaluation."""
        return await self._transport.fetch(evaluation_path(evaluation_id), Evaluation)

    def list(
        self, *, status: str | None = None, job_id: str | None = None, **filters: Unpack[ListFilters]
    ) -> AsyncIterator[Evaluation]:
        """Every evaluation, newest first, of one job if given; filters as in ``jobs.list``."""
        return self._transport.pages(PATH, Evaluation, status=status, job_id=job_id, **filter_query(**filters))

    async def cancel(self, evaluation_id: str) -> Evaluation:
        """Stop an evaluation; nothing of it is kept."""
        return parse(await self._transport.send("POST", f"{evaluation_path(evaluation_id)}/cancel"), Evaluation)

    async def wait(
        self,
        evaluation_id: str,
        *,
        on_progress: Callable[[Evaluation], object] | None = None,
        max_wait: float | None = None,
    ) -> Evaluation:
        """Wait until an evaluation has ended, however it ended; ``WaitTimeoutError`` after ``max_wait`` seconds."""
        return await self._transport.wait(evaluation_path(evaluation_id), Evaluation, on_progress, max_wait)

    def events(self, evaluation_id: str) -> AsyncIterator[Event]:
        """The history of an evaluation, oldest first."""
        return self._transport.pages(f"{evaluation_path(evaluation_id)}/events", Event)
