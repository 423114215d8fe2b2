"""One connection to exactly the addresses that were checked, with an end in time and bytes."""

from __future__ import annotations

import ssl
import time
from collections.abc import Callable, Generator, Iterable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import httpcore
import httpx

from app.outbound.refusals import DownloadLimitError

if TYPE_CHECKING:
    from app.outbound.guard import Destination


TOO_LONG = "the answer took longer than it may"


class GuardedTransport(httpx.BaseTransport):
    """Checks each request, then sends it over a connection of its own to an address that was checked.

    A connection is never kept: one that were shared could have been made for another name.

    Args:
        check: Raises for a URL that is not allowed; resolves its name within the given seconds.
        tls: The certificates that are trusted; asked for when first needed, for loading them takes a moment.
        max_bytes: Most bytes of an answer's body.
        max_seconds: Longest time of a request that names no deadline.
    """

    def __init__(
        self,
        check: Callable[[httpx.URL, float], Destination],
        tls: Callable[[], ssl.SSLContext],
        *,
        max_bytes: int,
        max_seconds: float,
    ) -> None:
        self._check = check
        self._tls = tls
        self._max_bytes = max_bytes
        self._max_seconds = max_seconds

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        """Send one request.

        Raises:
            DownloadLimitError: No answer before the deadline; reading the answer raises it too.
        """  # ruff: ignore[docstring-extraneous-exception] - raised by _remaining()
        deadline = request.extensions.get("deadline") or time.monotonic() + self._max_seconds
        destination = self._check(request.url, _remaining(deadline, None))
        secure = request.url.scheme == "https"
        connection = httpcore.HTTPConnection(
            httpcore.Origin(request.url.raw_scheme, request.url.raw_host, destination.port),
            ssl_context=self._tls() if secure else None,
            network_backend=_Pinned(destination.addresses, deadline),
        )
        content = request.stream
        assert isinstance(content, Iterable)
        try:
            with _in_httpx_terms(deadline):
                answer = connection.handle_request(
                    httpcore.Request(
                        method=request.method,
                        url=httpcore.URL(
                            scheme=request.url.raw_scheme,
                            host=request.url.raw_host,
                            port=destination.port,
                            target=request.url.raw_path,
                        ),
                        headers=request.headers.raw,
                        content=content,
                        extensions=request.extensions,
                    )
                )
        except BaseException:
            connection.close()
            raise
        return httpx.Response(
            status_code=answer.status,
            headers=answer.headers,
            stream=_Body(answer, connection, self._max_bytes, deadline),
            extensions=answer.extensions,
        )


class _Body(httpx.SyncByteStream):
    """The body as it arrives, up to its limit; closing it closes the connection."""

    def __init__(
        self, answer: httpcore.Response, connection: httpcore.HTTPConnection, max_bytes: int, deadline: float
    ) -> None:
        self._answer = answer
        self._connection = connection
        self._max_bytes = max_bytes
        self._deadline = deadline

    def __iter__(self) -> Iterator[bytes]:
        count = 0
        with _in_httpx_terms(self._deadline):
            for part in self._answer.iter_stream():
                count += len(part)
                if count > self._max_bytes:
                    raise DownloadLimitError(f"more than {self._max_bytes} bytes")
                yield part

    def close(self) -> None:
        with _in_httpx_terms(self._deadline):
            self._answer.close()
            self._connection.close()


class _Pinned(httpcore.NetworkBackend):
    """Connects to the given addresses, in turn until one answers, and to nothing else."""

    def __init__(self, addresses: tuple[str, ...], deadline: float) -> None:
        self._addresses = addresses
        self._deadline = deadline
        self._network = httpcore.SyncBackend()

    def connect_tcp(
        self,
        host: str,  # ruff: ignore[unused-method-argument] - the name is not looked up again
        port: int,
        timeout: float | None = None,
        local_address: str | None = None,  # ruff: ignore[unused-method-argument]
        socket_options: Iterable[Any] | None = None,
    ) -> httpcore.NetworkStream:
        """Connect to one of the addresses."""
        *others, last = self._addresses
        for address in others:
            try:
                return self._connect(address, port, timeout, socket_options)
            except (httpcore.ConnectError, httpcore.ConnectTimeout):
                continue
        return self._connect(last, port, timeout, socket_options)

    def _connect(
        self, address: str, port: int, timeout: float | None, socket_options: Iterable[Any] | None
    ) -> httpcore.NetworkStream:
        within = _remaining(self._deadline, timeout)
        stream = self._network.connect_tcp(address, port, timeout=within, socket_options=socket_options)
        return _Bounded(stream, self._deadline)


class _Bounded(httpcore.NetworkStream):
    """A stream whose operations all end by the deadline, however often a few bytes arrive."""

    def __init__(self, stream: httpcore.NetworkStream, deadline: float) -> None:
        self._stream = stream
        self._deadline = deadline

    def read(self, max_bytes: int, timeout: float | None = None) -> bytes:
        return self._stream.read(max_bytes, _remaining(self._deadline, timeout))

    def write(self, buffer: bytes, timeout: float | None = None) -> None:
        self._stream.write(buffer, _remaining(self._deadline, timeout))

    def close(self) -> None:
        self._stream.close()

    def start_tls(
        self, ssl_context: ssl.SSLContext, server_hostname: str | None = None, timeout: float | None = None
    ) -> httpcore.NetworkStream:
        secured = self._stream.start_tls(ssl_context, server_hostname, _remaining(self._deadline, timeout))
        return _Bounded(secured, self._deadline)

    def get_extra_info(self, info: str) -> Any:
        return self._stream.get_extra_info(info)


def _remaining(deadline: float, timeout: float | None) -> float:
    remaining = deadline - time.monotonic()
    if remaining <= 0:
        raise DownloadLimitError(TOO_LONG)
    return remaining if timeout is None else min(remaining, timeout)


@contextmanager
def _in_httpx_terms(deadline: float) -> Generator[None]:
    try:
        yield
    except httpcore.TimeoutException as problem:
        if time.monotonic() >= deadline:
            raise DownloadLimitError(TOO_LONG) from problem
        connecting = isinstance(problem, httpcore.ConnectTimeout)
        raise (httpx.ConnectTimeout if connecting else httpx.ReadTimeout)(str(problem)) from problem
    except httpcore.ConnectError as problem:
        raise httpx.ConnectError(str(problem)) from problem
    except httpcore.NetworkError as problem:
        raise httpx.ReadError(str(problem)) from problem
    except httpcore.ProtocolError as problem:
        raise httpx.RemoteProtocolError(str(problem)) from problem
