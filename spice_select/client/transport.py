"""Carry out operations over HTTP: once with blocking calls, once with ``await``. The logic is all in the operations."""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from typing import Any, TypeVar

import httpx

from spice_select.client.models import Event
from spice_select.client.retry import Operation, Send
from spice_select.client.stream import EventFollower
from spice_select.errors import ClientError
from spice_select.version import __version__

DEFAULT_URL = "http://127.0.0.1:8000"
DEFAULT_TIMEOUT_SECONDS = 30.0
CONNECT_SECONDS = 5.0
LOOPBACK = frozenset({"localhost", "127.0.0.1", "::1"})

Result = TypeVar("Result")


@dataclass(frozen=True)
class Connection:
    """Where the service is and how it is spoken to.

    Attributes:
        base_url: Address without ``/v1``.
        headers: Sent with every request.
        timeout: Longest silence, seconds.
        trust_env: Whether proxies and netrc of the environment are used.
    """

    base_url: httpx.URL
    headers: dict[str, str]
    timeout: float
    trust_env: bool


def connection(base_url: str | None, api_key: str | None, timeout: float) -> Connection:
    """The connection as given, else by ``SPICE_API_URL`` and ``SPICE_API_KEY``, else to the service on this machine.

    Raises:
        ClientError: The address is none.
    """
    given = base_url or os.environ.get("SPICE_API_URL") or DEFAULT_URL
    try:
        url = httpx.URL(given.rstrip("/"))
    except httpx.InvalidURL as error:
        raise ClientError(f"{given!r} is no address: {error}", code="invalid-url") from error
    if url.scheme not in {"http", "https"} or not url.host:
        raise ClientError(f"{given!r} is no address; write it like {DEFAULT_URL}", code="invalid-url")
    headers = {"User-Agent": f"spice-select/{__version__}", "Accept": "application/json"}
    key = api_key or os.environ.get("SPICE_API_KEY")
    if key:
        headers["Authorization"] = f"Bearer {key}"
    # A company's HTTP proxy knows no service on this machine.
    return Connection(url, headers, timeout, trust_env=url.host not in LOOPBACK)


class Transport:
    """What both transports have in common."""

    _http: httpx.Client | httpx.AsyncClient

    def url(self, path: str) -> str:
        """The address of a path, in full."""
        return str(self._http.base_url).rstrip("/") + path


class BlockingTransport(Transport):
    """Carries out operations with blocking calls.

    Args:
        target: Where to.
        transport: Another httpx transport, for tests and special networks.
    """

    def __init__(self, target: Connection, transport: httpx.BaseTransport | None) -> None:
        self._http: httpx.Client = httpx.Client(
            base_url=target.base_url,
            headers=target.headers,
            timeout=httpx.Timeout(target.timeout, connect=CONNECT_SECONDS),
            trust_env=target.trust_env,
            transport=transport,
        )

    def run(self, operation: Operation[Result]) -> Result:
        """Carry out an operation to its end."""
        try:
            step = next(operation)
            while True:
                if not isinstance(step, Send):
                    time.sleep(step.seconds)
                    step = operation.send(None)
                    continue
                try:
                    response = self._send(step)
                except (httpx.TransportError, httpx.InvalidURL) as error:
                    step = operation.throw(error)
                else:
                    step = operation.send(response)
        except StopIteration as end:
            result: Result = end.value
            return result
        finally:
            operation.close()

    def follow(self, follower: EventFollower) -> Iterator[Event]:
        """Read a stream of events to its end, over as many connections as it takes."""
        while not follower.over:
            arguments, _ = _arguments(follower.request())
            try:
                with self._http.stream("GET", follower.path, **arguments) as response:
                    if not follower.accept(response):
                        response.read()
                        pause = 0.0 if follower.over else follower.refused(response)
                    else:
                        for chunk in response.iter_bytes():
                            yield from follower.feed(chunk)
                            if follower.over:
                                return
                        pause = follower.pause
            except httpx.TransportError as error:
                pause = follower.broke(error)
            if not follower.over:
                time.sleep(pause)

    def close(self) -> None:
        """Close the connections."""
        self._http.close()

    def _send(self, step: Send) -> httpx.Response:
        arguments, opened = _arguments(step)
        try:
            with self._http.stream(step.method, step.path, **arguments) as response:
                if step.sink is not None and response.is_success:
                    if step.on_status is not None:
                        step.on_status(response.status_code)
                    for chunk in response.iter_bytes():
                        step.sink(chunk)
                else:
                    response.read()
                return response
        finally:
            for file in opened:
                file.close()


class AsyncTransport(Transport):
    """Carries out operations with ``await``. Files are read and written in small pieces on the event loop.

    Args:
        target: Where to.
        transport: Another httpx transport, for tests and special networks.
    """

    def __init__(self, target: Connection, transport: httpx.AsyncBaseTransport | None) -> None:
        self._http: httpx.AsyncClient = httpx.AsyncClient(
            base_url=target.base_url,
            headers=target.headers,
            timeout=httpx.Timeout(target.timeout, connect=CONNECT_SECONDS),
            trust_env=target.trust_env,
            transport=transport,
        )

    async def run(self, operation: Operation[Result]) -> Result:
        """Carry out an operation to its end."""
        try:
            step = next(operation)
            while True:
                if not isinstance(step, Send):
                    await asyncio.sleep(step.seconds)
                    step = operation.send(None)
                    continue
                try:
                    response = await self._send(step)
                except (httpx.TransportError, httpx.InvalidURL) as error:
                    step = operation.throw(error)
                else:
                    step = operation.send(response)
        except StopIteration as end:
            result: Result = end.value
            return result
        finally:
            operation.close()

    async def follow(self, follower: EventFollower) -> AsyncIterator[Event]:
        """Read a stream of events to its end, over as many connections as it takes."""
        while not follower.over:
            arguments, _ = _arguments(follower.request())
            try:
                async with self._http.stream("GET", follower.path, **arguments) as response:
                    if not follower.accept(response):
                        await response.aread()
                        pause = 0.0 if follower.over else follower.refused(response)
                    else:
                        async for chunk in response.aiter_bytes():
                            for event in follower.feed(chunk):
                                yield event
                            if follower.over:
                                return
                        pause = follower.pause
            except httpx.TransportError as error:
                pause = follower.broke(error)
            if not follower.over:
                await asyncio.sleep(pause)

    async def close(self) -> None:
        """Close the connections."""
        await self._http.aclose()

    async def _send(self, step: Send) -> httpx.Response:
        arguments, opened = _arguments(step)
        try:
            async with self._http.stream(step.method, step.path, **arguments) as response:
                if step.sink is not None and response.is_success:
                    if step.on_status is not None:
                        step.on_status(response.status_code)
                    async for chunk in response.aiter_bytes():
                        step.sink(chunk)
                else:
                    await response.aread()
                return response
        finally:
            for file in opened:
                file.close()


def _arguments(step: Send) -> tuple[dict[str, Any], list[Any]]:
    """Arguments of httpx for a request, and the files opened for it."""
    late = step.late_headers() if step.late_headers is not None else {}
    arguments: dict[str, Any] = {"params": dict(step.params) or None, "headers": {**step.headers, **late}}
    opened = []
    if step.json is not None:
        arguments["json"] = step.json
    if step.content is not None:
        arguments["content"] = step.content
    if step.upload is not None:
        name, open_upload = step.upload
        file = open_upload()
        opened.append(file)
        arguments["files"] = {"file": (name, file, "application/octet-stream")}
        arguments["data"] = dict(step.fields)
    if step.read_timeout is not None:
        arguments["timeout"] = httpx.Timeout(step.read_timeout, connect=CONNECT_SECONDS)
    return arguments, opened
