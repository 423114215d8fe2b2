"""When a request is sent again, and after how long. No input or output."""

from __future__ import annotations

import random
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime

import httpx

from spice_select.client.answers import RETRIED, raise_no_answer, raise_refusal

REFUSED = frozenset({429, 503})
"""Statuses that say nothing was done, so that even a request that must not run twice may be sent again."""
PATIENT_RETRIES = 15
"""For work that outlasts a restart of the service: about a minute and a half without an answer."""
FIRST_BACKOFF_SECONDS = 0.25
LONGEST_BACKOFF_SECONDS = 10.0
LONGEST_RETRY_AFTER_SECONDS = 60.0
"""If the service asks for a longer pause, the caller gets the error instead."""


def pause_after_failure(error: httpx.TransportError, attempt: int, retries: int, *, repeatable: bool = True) -> float:
    """Seconds to wait before a request that got no answer is sent again.

    Args:
        error: Why there was no answer.
        attempt: How many attempts failed before this one.
        retries: How many times the request may be repeated.
        repeatable: Whether running it twice has the same effect as once.

    Raises:
        ConnectionFailedError: It must not be sent again.
    """  # ruff: ignore[docstring-extraneous-exception] - raised by raise_no_answer()
    # A connection that was never made carried no request.
    again = repeatable or isinstance(error, httpx.ConnectError | httpx.ConnectTimeout)
    if attempt >= retries or not again or isinstance(error, httpx.UnsupportedProtocol):
        raise_no_answer(error)
    return backoff(attempt)


def pause_after_refusal(response: httpx.Response, attempt: int, retries: int, *, repeatable: bool = True) -> float:
    """Seconds to wait before a request that was refused is sent again.

    Args:
        response: The answer, its body read.
        attempt: How many attempts failed before this one.
        retries: How many times the request may be repeated.
        repeatable: Whether running it twice has the same effect as once.

    Raises:
        ClientError: It must not be sent again, or would be refused again.
    """  # ruff: ignore[docstring-extraneous-exception] - raised by raise_refusal()
    pause = retry_after(response.headers) or 0.0
    again = response.status_code in (RETRIED if repeatable else REFUSED)
    if attempt >= retries or not again or pause > LONGEST_RETRY_AFTER_SECONDS:
        raise_refusal(response)
    return max(pause, backoff(attempt))


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


def backoff(attempt: int) -> float:
    """Seconds before the next attempt after this many failed ones."""
    longest = min(LONGEST_BACKOFF_SECONDS, FIRST_BACKOFF_SECONDS * 2.0**attempt)
    # Half fixed, half drawn: clients that failed together do not come back together.
    return longest * (0.5 + 0.5 * random.random())  # ruff: ignore[suspicious-non-cryptographic-random-usage]
