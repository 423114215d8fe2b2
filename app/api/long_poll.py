"""Long polling: hold a GET until something has changed, without holding a thread or a connection."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Annotated, TypeVar

import anyio
from fastapi import Query
from starlette.concurrency import run_in_threadpool

View = TypeVar("View")

LOOK_SECONDS = 0.4
Wait = Annotated[float, Query(ge=0, le=30, description="Hold the answer for up to this many seconds until it changes.")]


async def until_changed(read: Callable[[], View], mark: Callable[[View], object], wait: float) -> View:
    """Read once, and again until the mark differs or the time is over.

    Args:
        read: Reads the resource, in a thread.
        mark: What has to change (status and phase, not every count).
        wait: Seconds at most.
    """
    view = await run_in_threadpool(read)
    end = time.monotonic() + wait
    before = mark(view)
    while before is not None and time.monotonic() < end:
        await anyio.sleep(min(LOOK_SECONDS, max(0.0, end - time.monotonic())))
        view = await run_in_threadpool(read)
        if mark(view) != before:
            break
    return view
