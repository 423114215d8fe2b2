"""Requests to the service, sent again where that helps; lists read page by page; waiting for work to end."""

# Generated from ../_async/transport.py by `make client`: change that file instead.

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from time import monotonic, sleep
from typing import Any, TypeVar

import httpx

from spice_select.client.answers import Model, parse
from spice_select.client.connection import CONNECT_SECONDS, Connection
from spice_select.client.evaluation_models import Evaluation
from spice_select.client.event_stream import SILENCE_SECONDS, EventFollower
from spice_select.client.models import Dataset, Event, Item, Job, Page
from spice_select.client.partial_file import PartialFile
from spice_select.client.request_bodies import if_match
from spice_select.client.retry import PATIENT_RETRIES, pause_after_failure, pause_after_refusal, retry_after
from spice_select.errors import ClientError, WaitTimeoutError

LONG_POLL_SECONDS = 20.0
WATCHED_POLL_SECONDS = 1.0
"""A shorter long poll when somebody watches, so that the progress moves."""
SHORTEST_POLL_SECONDS = 0.1
UPLOAD_SECONDS = 300.0
"""Longest silence of the service while it stores what it was sent."""
Watched = TypeVar("Watched", Dataset, Job, Evaluation)


class Transport:
    """Requests over one pool of connections.

    Args:
        target: Where to.
        retries: How many times a request may be repeated.
        transport: Another httpx transport, for tests and special networks.
    """

    def __init__(self, target: Connection, retries: int, transport: httpx.BaseTransport | None) -> None:
        self.retries = retries
        self._timeout = target.timeout
        self._http = httpx.Client(
            base_url=target.base_url, headers=target.headers, trust_env=target.trust_env, transport=transport
        )

    def url(self, path: str) -> str:
        """The full address of a path."""
        return str(self._http.base_url).rstrip("/") + path

    def close(self) -> None:
        """Close the connections."""
        self._http.close()

    def send(
        self, method: str, path: str, *, retries: int | None = None, repeatable: bool = True, **options: Any
    ) -> httpx.Response:
        """Send a request, again where that may help, until it succeeds.

        Args:
            method: HTTP method.
            path: Path below the base URL.
            retries: How many times it may be repeated; None for the client's own number.
            repeatable: Whether running it twice has the same effect as once.
            **options: See ``_attempt``.

        Returns:
            The answer, of status 2xx or 304.

        Raises:
            ClientError: The service refused, or did not answer; ``code``, ``status`` and ``request_id`` say more.
        """
        most = self.retries if retries is None else retries
        attempt = 0
        while True:
            try:
                response = self._attempt(method, path, **options)
            except httpx.InvalidURL as error:
                raise ClientError(f"{path} is not a valid address: {error}", code="usage") from error
            except httpx.TransportError as error:
                pause = pause_after_failure(error, attempt, most, repeatable=repeatable)
            else:
                if response.is_success or response.status_code == httpx.codes.NOT_MODIFIED:
                    return response
                pause = pause_after_refusal(response, attempt, most, repeatable=repeatable)
            sleep(pause)
            attempt += 1

    def fetch(self, path: str, model: type[Model], **params: Any) -> Model:
        """One resource; parameters that are None are left out."""
        query = {name: value for name, value in params.items() if value is not None}
        return parse(self.send("GET", path, params=query or None), model)

    def pages(self, path: str, model: type[Item], **params: Any) -> Iterator[Item]:
        """Every entry of a list."""
        after: str | None = None
        while True:
            page: Page[Item] = self.fetch(path, Page[model], after=after, **params)  # type: ignore[valid-type]
            for item in page.data:
                yield item
            if not page.has_more or page.next_cursor is None:
                return
            after = page.next_cursor

    def delete(self, path: str, version: int | None = None) -> None:
        """Delete a resource; if a version is given, only at that version."""
        self.send("DELETE", path, headers=if_match(version, weak=True))

    def wait(
        self, path: str, model: type[Watched], on_progress: Callable[[Watched], object] | None, max_wait: float | None
    ) -> Watched:
        """Ask again and again, as seldom as the service allows, until the resource's work has ended.

        Raises:
            WaitTimeoutError: ``max_wait`` seconds are over; the work goes on.
        """
        deadline = math.inf if max_wait is None else monotonic() + max_wait
        poll = LONG_POLL_SECONDS if on_progress is None else WATCHED_POLL_SECONDS
        last: Watched | None = None
        while True:
            asked = monotonic()
            wait = 0 if last is None else int(min(poll, max(0.0, deadline - asked)))
            response = self.send(
                "GET",
                path,
                params={"wait": wait} if wait else None,
                read_timeout=self._timeout + wait,
                # Work that is under way outlasts a restart of the service; so does the waiting.
                retries=self.retries if last is None else max(self.retries, PATIENT_RETRIES),
            )
            current = parse(response, model)
            if on_progress is not None:
                on_progress(current)
            if current.ended:
                return current
            now = monotonic()
            if now >= deadline:
                raise WaitTimeoutError(
                    f"{current.id} is still {current.status} after {max_wait:g} s; it goes on",
                    code="wait-timeout",
                    retryable=True,
                )
            if last is not None and (last.status, last.step) == (current.status, current.step):
                # A service that held the request back has made us wait already.
                asked_for = retry_after(response.headers)
                pause = max(SHORTEST_POLL_SECONDS, 1.0 if asked_for is None else asked_for) - (now - asked)
                sleep(min(max(0.0, pause), deadline - now))
            last = current

    def follow(self, follower: EventFollower) -> Iterator[Event]:
        """Read a stream of events to its end, over as many connections as it takes."""
        while not follower.over:
            headers, params = follower.request()
            timeout = httpx.Timeout(SILENCE_SECONDS, connect=CONNECT_SECONDS)
            try:
                with self._http.stream(
                    "GET", follower.path, headers=headers, params=params, timeout=timeout
                ) as response:
                    if not follower.accept(response):
                        response.read()
                        pause = 0.0 if follower.over else follower.refused(response)
                    else:
                        for chunk in response.iter_bytes():
                            for event in follower.feed(chunk):
                                yield event
                            if follower.over:
                                return
                        pause = follower.pause
            except httpx.TransportError as error:
                pause = follower.broke(error)
            if not follower.over:
                sleep(pause)

    def _attempt(
        self,
        method: str,
        path: str,
        *,
        headers: dict[str, str] | None = None,
        read_timeout: float = 0.0,
        upload: tuple[str, Path | bytes] | None = None,
        into: PartialFile | None = None,
        **options: Any,
    ) -> httpx.Response:
        """Send a request once.

        Args:
            method: HTTP method.
            path: Path below the base URL.
            headers: Headers of this request.
            read_timeout: Longest silence, seconds, if longer than the client's own.
            upload: Name and content of a file part; a file is opened anew for every attempt.
            into: Where the body goes; None to read it into memory.
            **options: Of httpx: ``params``, ``json``, ``content``, ``data``.

        Returns:
            The answer, its body read.
        """
        options["timeout"] = httpx.Timeout(max(read_timeout, self._timeout), connect=CONNECT_SECONDS)
        options["headers"] = {**(headers or {}), **(into.headers() if into is not None else {})}
        with ExitStack() as opened:
            if upload is not None:
                name, source = upload
                content = opened.enter_context(source.open("rb")) if isinstance(source, Path) else source
                options["files"] = {"file": (name, content, "application/octet-stream")}
            with self._http.stream(method, path, **options) as response:
                if into is not None and response.is_success:
                    into.begin(response.status_code)
                    for chunk in response.iter_bytes():
                        into.write(chunk)
                else:
                    response.read()
                return response


@dataclass(frozen=True)
class Resource:
    """Calls about one kind of resource."""

    _transport: Transport
