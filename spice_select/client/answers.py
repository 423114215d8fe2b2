"""What the service answered: as a type, or as an error of the client."""

from __future__ import annotations

from typing import Any, NoReturn, TypeVar

import httpx
from pydantic import ValidationError

from spice_select.client.connection import LOOPBACK
from spice_select.client.models import Answer, Dataset, Job, Problem
from spice_select.errors import ClientError, ConnectionFailedError

RETRIED = frozenset({429, 502, 503, 504})
"""Statuses that may pass."""
Model = TypeVar("Model", bound=Answer)


def parse(response: httpx.Response, model: type[Model]) -> Model:
    """An answer as a type.

    Raises:
        ClientError: It has another form; most likely the address is not that of this service.
    """
    try:
        return model.model_validate(json_of(response))
    except ValidationError as error:
        first = error.errors()[0]
        where = "/".join(str(part) for part in first["loc"])
        raise ClientError(
            f"{response.request.url} did not answer with a {model.__name__}: {where}: {first['msg']}",
            code="unexpected-answer",
            status=response.status_code,
        ) from error


def json_of(response: httpx.Response) -> Any:
    """The JSON of an answer.

    Raises:
        ClientError: It is not JSON.
    """
    try:
        return response.json()
    except ValueError as error:
        raise ClientError(
            f"{response.request.url} did not answer with JSON", code="unexpected-answer", status=response.status_code
        ) from error


def raise_no_answer(error: httpx.TransportError) -> NoReturn:
    """Raise that no answer came.

    Args:
        error: Why.

    Raises:
        ConnectionFailedError: Always.
    """
    try:
        url = error.request.url
    except RuntimeError:
        service, hint = "the service", ""
    else:
        service = f"the service at {url.scheme}://{url.netloc.decode()}"
        hint = "; `spice-select serve` starts one on this machine" if url.host in LOOPBACK else ""
    hint = hint if isinstance(error, httpx.ConnectError) else ""
    raise ConnectionFailedError(
        f"no answer from {service}: {error or type(error).__name__}{hint}", code="connection-failed", retryable=True
    ) from error


def raise_refusal(response: httpx.Response) -> NoReturn:
    """Raise the error that an answer states; one that is not a problem document is quoted briefly.

    Args:
        response: The answer, its body read.

    Raises:
        ClientError: Always.
    """
    try:
        body = response.json()
        problem = Problem.model_validate(body if isinstance(body, dict) else {})
    except (ValueError, ValidationError):
        problem = Problem()
    text = " ".join(response.text.split())[:200]
    url, status = response.request.url, response.status_code
    known = problem.code is not None
    raise ClientError(
        (problem.detail or problem.title if known else None) or f"{url} answered {status}{': ' + text if text else ''}",
        code=problem.code or "not-a-problem",
        status=status,
        request_id=problem.request_id or response.headers.get("x-request-id"),
        retryable=problem.retryable if known else status in RETRIED,
        errors=[finding.model_dump() for finding in problem.errors],
    )


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
