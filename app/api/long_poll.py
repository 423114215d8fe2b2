"""Long polling: hold a GET until something has changed, without holding a thread or a connection."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Annotated, TypeVar

import anyio
from fastapi import Query, Request
from starlette.concurrency import run_in_threadpool

from app.api.revocation import still_let_in
from app.errors import ServiceError

View = TypeVar("View")

LOOK_SECONDS = 0.4
Wait = Annotated[float, Query(ge=0, le=30, description="Hold the answer for up to this many seconds until it changes.")]


async def until_changed(
    request: Request, read: Callable[[], View], mark: Callable[[View], object], wait: float
) -> View:
    """Read once, and again until the mark differs or the time is over.

    Args:
        request: Whose key has to stay valid meanwhile.
        read: Reads the resource, in a thread.
        mark: What has to change (status and phase, not every count).
        wait: Seconds at most.

    Raises:
        ServiceError: ``unauthenticated`` once the key was revoked or has expired.
    """
    view = await run_in_threadpool(read)
    end = time.monotonic() + wait
    before = mark(view)
    while before is not None and time.monotonic() < end:
        await anyio.sleep(min(LOOK_SECONDS, max(0.0, end - time.monotonic())))
        if not await still_let_in(request.scope):
            raise ServiceError("unauthenticated", "the API key was revoked or has expired")
        view = await run_in_threadpool(read)
        if mark(view) != before:
            break
    return view
