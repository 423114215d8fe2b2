"""How the client repeats itself: when, how long it waits, and what it makes of a final refusal. No input or output."""

# ruff: file-ignore[return-in-generator] - an operation yields its steps and returns its result

from __future__ import annotations

import random
from collections.abc import Callable, Generator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Any, BinaryIO, NoReturn, TypeVar

import httpx
from pydantic import ValidationError

from spice_select.client.models import Problem
from spice_select.errors import ClientError, ConnectionFailedError

RETRIED = frozenset({429, 502, 503, 504})
REFUSED = frozenset({429, 503})
"""Answers that say nothing was done, so that even a request that must not run twice may be sent again."""
FIRST_BACKOFF_SECONDS = 0.25
LONGEST_BACKOFF_SECONDS = 10.0
LONGEST_RETRY_AFTER_SECONDS = 60.0
"""A service that wants a longer pause gets none: the caller is told instead."""


@dataclass(frozen=True)
class Send:
    """A request to be sent.

    Attributes:
        method: HTTP method.
        path: Path below the base URL.
        params: Query.
        headers: Extra headers.
        json: JSON body.
        content: Body as bytes.
        upload: File part and its name; opened anew for every attempt.
        fields: Further form fields of an upload.
        sink: Where the body of a 200 or 206 goes, chunk by chunk; None to read it into memory.
        on_status: Told the status before the first chunk goes to the sink.
        late_headers: Further headers, asked for anew for every attempt.
        read_timeout: Longest silence in seconds; None for the client's own.
        repeatable: Whether running it twice is as good as once.
    """

    method: str
    path: str
    params: Mapping[str, Any] = field(default_factory=dict)
    headers: Mapping[str, str] = field(default_factory=dict)
    json: Any = None
    content: bytes | None = None
    upload: tuple[str, Callable[[], BinaryIO]] | None = None
    fields: Mapping[str, str] = field(default_factory=dict)
    sink: Callable[[bytes], Any] | None = None
    on_status: Callable[[int], None] | None = None
    late_headers: Callable[[], Mapping[str, str]] | None = None
    read_timeout: float | None = None
    repeatable: bool = True


@dataclass(frozen=True)
class Sleep:
    """A pause.

    Attributes:
        seconds: Its length.
    """

    seconds: float


Result = TypeVar("Result")
Operation = Generator[Send | Sleep, Any, Result]
"""A call to the service as its steps: the one logic behind the blocking and the asynchronous client.

It yields what is to be done and is sent the ``httpx.Response``, or is thrown the ``httpx.TransportError``.
"""


def send(request: Send, retries: int) -> Operation[httpx.Response]:
    """Send a request, again where that may help, until it succeeds.

    Args:
        request: The request.
        retries: How many times it may be repeated.

    Returns:
        The answer, of status 2xx or 304.

    Raises:
        ConnectionFailedError: There was no answer.
        ClientError: The service refused; ``code``, ``status`` and ``request_id`` say what and where.
    """  # ruff: ignore[docstring-extraneous-exception] - raised by raise_no_answer()
    attempt = 0
    while True:
        try:
            response: httpx.Response = yield request
        except httpx.InvalidURL as error:
            raise ClientError(f"{request.path} is no valid address: {error}", code="usage") from error
        except httpx.TransportError as error:
            # A connection that was never made carried no request.
            again = request.repeatable or isinstance(error, httpx.ConnectError | httpx.ConnectTimeout)
            if attempt == retries or not again or isinstance(error, httpx.UnsupportedProtocol):
                raise_no_answer(error)
            yield Sleep(backoff(attempt))
            attempt += 1
            continue
        if response.is_success or response.status_code == httpx.codes.NOT_MODIFIED:
            return response
        pause = retry_after(response.headers)
        again = response.status_code in (RETRIED if request.repeatable else REFUSED)
        if attempt == retries or not again or (pause or 0.0) > LONGEST_RETRY_AFTER_SECONDS:
            raise_refusal(response)
        yield Sleep(max(pause or 0.0, backoff(attempt)))
        attempt += 1


def raise_no_answer(error: httpx.TransportError) -> NoReturn:
    """Say that no answer came.

    Args:
        error: Why.

    Raises:
        ConnectionFailedError: Always.
    """
    raise ConnectionFailedError(
        f"no answer from {_address(error)}: {error or type(error).__name__}", code="connection-failed", retryable=True
    ) from error


def raise_refusal(response: httpx.Response) -> NoReturn:
    """Raise what an answer states; one that is no problem document is quoted briefly.

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


def retry_after(headers: httpx.Headers) -> float | None:
    """Seconds that ``Retry-After`` asks for, as a number or as a date; None where it says nothing usable."""
    value = headers.get("retry-after", "").strip()
    if value.isdigit():
        return float(value)
    try:
        moment = parsedate_to_datetime(value)
    except ValueError:
        return None
    if moment.tzinfo is None:
        moment = moment.replace(tzinfo=UTC)
    return max(0.0, (moment - datetime.now(UTC)).total_seconds())


def _address(error: httpx.TransportError) -> str:
    try:
        url = error.request.url
    except RuntimeError:
        return "the service"
    return f"the service at {url.scheme}://{url.netloc.decode()}"


def backoff(attempt: int) -> float:
    """Seconds before the next attempt after this many failed ones."""
    longest = min(LONGEST_BACKOFF_SECONDS, FIRST_BACKOFF_SECONDS * 2.0**attempt)
    # Half fixed, half drawn: clients that failed together do not come back together.
    return longest * (0.5 + 0.5 * random.random())  # ruff: ignore[suspicious-non-cryptographic-random-usage]
