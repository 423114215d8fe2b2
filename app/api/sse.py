"""Server-Sent Events: one reader of the log per process feeds every open stream, which holds no thread or connection.

The log in the database is all there is: a stream that breaks off goes on at any replica, from ``Last-Event-ID``.
"""

from __future__ import annotations

import asyncio
import signal
import threading
import time
from collections import Counter, deque
from collections.abc import AsyncGenerator, Awaitable, Callable, Collection, Generator, Sequence
from contextlib import contextmanager
from functools import partial
from types import FrameType
from typing import Any

from anyio import CapacityLimiter, to_thread
from fastapi.responses import Response
from fastapi.sse import KEEPALIVE_COMMENT, EventSourceResponse, format_sse_event
from starlette.requests import Request

from app.api.revocation import CHECK_SECONDS, still_let_in
from app.api.schemas.events import EventRead
from app.errors import ServiceError
from app.logs import get_logger
from app.persistence.tables import Event
from app.services.notify.events import LAST_EVENTS, EventService

MEDIA_TYPE = "text/event-stream"
HEARTBEAT_SECONDS = 15.0
LIFETIME_SECONDS = 1800.0
"""A stream is ended after this time and the client comes back."""
RECONNECT_MILLISECONDS = 1000
READ_EVENTS = 500
QUEUED_EVENTS = 1000
READERS = 4
"""Threads, and so database connections, that all streams of a process use together."""
LONGEST_PAUSE_SECONDS = 5.0


class Listener:
    """What the reader hands to one stream.

    Args:
        project_id: Whose events.
        job_id: Only this job's; the stream then ends with the job.
        dataset_id: Only this data set's.

    Attributes:
        missed: Whether events were dropped because the stream did not keep up; it then reads them from the log.
    """

    def __init__(self, project_id: str, job_id: str | None, dataset_id: str | None = None) -> None:
        self.project_id = project_id
        self.job_id = job_id
        self.dataset_id = dataset_id
        self.missed = False
        self._events: deque[Event] = deque()
        self._arrived = asyncio.Event()

    def hand(self, event: Event) -> None:
        """Take an event of the project, if the stream is about it."""
        if self.job_id not in {None, event.job_id} or self.dataset_id not in {None, event.dataset_id}:
            return
        if len(self._events) == QUEUED_EVENTS:
            self.missed = True
        else:
            self._events.append(event)
        self._arrived.set()

    def wake(self) -> None:
        """Let ``take`` return."""
        self._arrived.set()

    async def take(self, seconds: float) -> list[Event]:
        """What has arrived, waiting for it up to this many seconds."""
        try:
            async with asyncio.timeout(seconds):
                await self._arrived.wait()
        except TimeoutError:
            return []
        self._arrived.clear()
        taken = list(self._events)
        self._events.clear()
        return taken


class EventHub:
    """Reads what is new in the log, once for all streams of this process.

    Args:
        service: The history.
        pause: Seconds between two looks.
        most: Streams at a time.
        most_of_project: Streams of one project at a time.
    """

    def __init__(self, service: EventService, *, pause: float, most: int, most_of_project: int) -> None:
        self.service = service
        self.closed = False
        self._pause = pause
        self._most = most
        self._most_of_project = most_of_project
        self._listeners: set[Listener] = set()
        self._open: Counter[str] = Counter()
        self._cursors: dict[str, int] = {}
        self._reading: asyncio.Task[None] | None = None
        self._limiter: CapacityLimiter | None = None

    def __len__(self) -> int:
        """Streams that are open."""
        return self._open.total()

    def close(self) -> None:
        """End every stream, so that the process can."""
        self.closed = True
        for listener in self._listeners:
            listener.wake()

    @contextmanager
    def place(self, project_id: str) -> Generator[None]:
        """One of the streams that may be open.

        Raises:
            ServiceError: ``too-many-streams`` or ``unavailable``.
        """
        if self._open[project_id] >= self._most_of_project:
            detail = f"the project has {self._most_of_project} event streams open"
            raise ServiceError("too-many-streams", detail, headers={"Retry-After": "30"})
        if self._open.total() >= self._most or self.closed:
            detail = "this server has no room for another event stream"
            raise ServiceError("unavailable", detail, headers={"Retry-After": "5"})
        self._open[project_id] += 1
        try:
            yield
        finally:
            self._open[project_id] -= 1

    async def read(self, call: Callable[[], Any]) -> Any:
        """Carry out a query in one of few threads."""
        if self._limiter is None:
            self._limiter = CapacityLimiter(READERS)
        return await to_thread.run_sync(call, limiter=self._limiter)

    async def join(self, listener: Listener) -> None:
        """Hand the listener what is written from now on; what is older it reads itself, afterwards."""
        project = listener.project_id
        self._listeners.add(listener)
        if project not in self._cursors:
            last = await self.read(partial(self.service.last, project))
            self._cursors.setdefault(project, last)
        if self._reading is None:
            self._reading = asyncio.create_task(self._read_on(), name="event-hub")

    def leave(self, listener: Listener) -> None:
        """Hand it nothing any more."""
        self._listeners.discard(listener)
        if not any(other.project_id == listener.project_id for other in self._listeners):
            self._cursors.pop(listener.project_id, None)

    async def _read_on(self) -> None:
        pause = self._pause
        while self._listeners and not self.closed:
            events: list[Event] = []
            try:
                if self._cursors:
                    events = await self.read(partial(self.service.behind, dict(self._cursors), READ_EVENTS))
                pause = self._pause
            except Exception as error:  # a database that is away for a while must not end the streams
                pause = min(LONGEST_PAUSE_SECONDS, pause * 2)
                get_logger().error("event_reader_failed", error=str(error), next_try_seconds=pause)
            for event in events:
                if event.project_id in self._cursors:
                    self._cursors[event.project_id] = max(event.id, self._cursors[event.project_id])
                for listener in self._listeners:
                    if listener.project_id == event.project_id:
                        listener.hand(event)
            if len(events) < READ_EVENTS:
                await asyncio.sleep(pause)
        self._reading = None
        for listener in self._listeners:
            listener.wake()


def wants_stream(request: Request) -> bool:
    """Whether the client asks for the events as a stream."""
    ranges = [part.partition(";")[0].strip().lower() for part in request.headers.get("accept", "").split(",")]
    return MEDIA_TYPE in ranges


async def stream(
    request: Request, hub: EventHub, listener: Listener, *, after: int | None, types: Collection[str]
) -> Response:
    """The answer to a request for a stream.

    Args:
        request: The request; ``Last-Event-ID`` wins over ``after``.
        hub: Of this process.
        listener: Says whose events.
        after: Only events behind this number; None means all of a job, and what is new of a project.
        types: Only these types; empty means all.
    """
    project_id, job_id = listener.project_id, listener.job_id
    given = request.headers.get("last-event-id", "").strip()
    if given:
        after = number_of(given)
    ended = job_id is not None and await hub.read(partial(hub.service.job_has_ended, project_id, job_id))
    if after is None:
        after = 0 if job_id is not None else await hub.read(partial(hub.service.last, project_id))
    if ended:
        behind = partial(hub.service.page, project_id, after=after, limit=1, job_id=job_id)
        if not await hub.read(behind):
            return Response(status_code=204)  # tells an EventSource not to come back
    headers = {"Cache-Control": "no-cache", "X-Accel-Buffering": "no", "Vary": "Accept"}
    if request.scope.get("spice.head"):
        return Response(media_type=MEDIA_TYPE, headers=headers)
    place = hub.place(project_id)
    place.__enter__()  # refused here, as long as there can be another answer
    try:
        let_in = partial(still_let_in, request.scope)
        frames = _frames(hub, listener, after, types, ended=ended, let_in=let_in)
        return _Stream(frames, lambda: place.__exit__(None, None, None), headers)
    except BaseException:
        place.__exit__(None, None, None)
        raise


class _Stream(EventSourceResponse):
    """A stream that gives its place back however it ends, even when it never began."""

    def __init__(self, frames: AsyncGenerator[bytes], release: Callable[[], Any], headers: dict[str, str]) -> None:
        super().__init__(frames, headers=headers)
        self._frames = frames
        self._release = release

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        try:
            await super().__call__(scope, receive, send)
        finally:
            try:
                await self._frames.aclose()
            finally:
                self._release()


async def _frames(
    hub: EventHub,
    listener: Listener,
    after: int,
    types: Collection[str],
    *,
    ended: bool,
    let_in: Callable[[], Awaitable[bool]],
) -> AsyncGenerator[bytes]:
    # A number without data moves Last-Event-ID and is no event: a stream cut before its first event loses nothing.
    yield format_sse_event(retry=RECONNECT_MILLISECONDS, id=str(after))
    said = time.monotonic()
    end = said + LIFETIME_SECONDS
    job_id, dataset_id = listener.job_id, listener.dataset_id
    page = partial(hub.service.page, listener.project_id, job_id=job_id, dataset_id=dataset_id, limit=READ_EVENTS)
    try:
        await hub.join(listener)
        while not hub.closed:
            listener.missed = False
            events: Sequence[Event] = await hub.read(partial(page, after=after))
            read_all = len(events) < READ_EVENTS
            while True:
                for event in events:
                    if event.id <= after:
                        continue
                    after = event.id
                    if not types or event.type in types:
                        yield frame(event)
                    if listener.job_id is not None and event.type in LAST_EVENTS:
                        return
                if listener.missed or not read_all:
                    break  # the rest is read from the log
                if ended:
                    return  # also behind the job's last event, of which this release may not know that it is
                events = await listener.take(CHECK_SECONDS)
                if hub.closed or time.monotonic() > end or not await let_in():
                    return
                if events:
                    said = time.monotonic()
                elif time.monotonic() - said >= HEARTBEAT_SECONDS:
                    said = time.monotonic()
                    yield KEEPALIVE_COMMENT
    finally:
        hub.leave(listener)


def frame(event: Event) -> bytes:
    """An event as it goes over the wire; the data are those of the JSON answer."""
    return format_sse_event(
        data_str=EventRead.model_validate(event).model_dump_json(), event=event.type, id=str(event.id)
    )


def number_of(given: str) -> int:
    """The number in a ``Last-Event-ID``.

    Raises:
        ServiceError: ``validation-error``.
    """
    if not (given.isascii() and given.isdigit() and len(given) < 19):
        detail = "Last-Event-ID: not the id of an event"
        place = {"detail": detail, "parameter": "Last-Event-ID", "in": "header"}
        raise ServiceError("validation-error", detail, errors=[place])
    return int(given)


@contextmanager
def ends_on_signals(call: Callable[[], None]) -> Generator[None]:
    """Have ``call`` run as soon as the process is asked to end: the server first waits for its open answers.

    Args:
        call: Run on the event loop, once per signal.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    loop = asyncio.get_running_loop()
    before = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)}

    def handle(number: int, where: FrameType | None) -> None:
        loop.call_soon_threadsafe(call)
        previous = before[signal.Signals(number)]
        if callable(previous):
            previous(number, where)

    for number in before:
        signal.signal(number, handle)
    try:
        yield
    finally:
        for number, previous in before.items():
            signal.signal(number, previous)
