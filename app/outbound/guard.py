"""The rules of outbound requests, and the two ways to make one: a client and a download."""

from __future__ import annotations

import hashlib
import queue
import re
import socket
import ssl
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from ipaddress import ip_address, ip_network
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

from app.outbound.addresses import Address, Network, is_public, literal, plain
from app.outbound.refusals import DownloadLimitError, UrlNotAllowedError
from app.settings import Settings

if TYPE_CHECKING:
    import httpx  # at run time not before an address is looked at: the API starts sooner without

Resolver = Callable[[str], Sequence[str]]
"""A host name to the addresses it has now."""

RESOLVE_SECONDS = 10.0
MAX_REDIRECTS = 3
_NAME = re.compile(r"(?=.{1,253}\.?$)([a-z0-9_]([a-z0-9_-]{0,61}[a-z0-9])?\.)*[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?\.?")


@dataclass(frozen=True)
class Policy:
    """Where requests may go.

    Attributes:
        allowed_hosts: Names requests may go to, ``*.example.org`` for all below one; empty for every name.
        allowed_networks: Addresses, networks (CIDR) and names that may be used though they are not public. Only to
            these may a request be plain http.
        ports: Ports requests may go to.
        ca_file: Certificates that sign those of private hosts, beside the public ones; None for none.
    """

    allowed_hosts: tuple[str, ...] = ()
    allowed_networks: tuple[str, ...] = ()
    ports: frozenset[int] = frozenset({443})
    ca_file: Path | None = None

    @classmethod
    def of(cls, settings: Settings) -> Policy:
        """The policy of a deployment."""
        return cls(
            allowed_hosts=tuple(settings.outbound_allowed_hosts),
            allowed_networks=tuple(settings.outbound_allowed_networks),
            ports=frozenset(settings.outbound_ports),
            ca_file=settings.outbound_ca_file,
        )

    @cached_property
    def _networks(self) -> list[Network]:
        return [network for entry in self.allowed_networks if (network := _network(entry)) is not None]

    @cached_property
    def _private_names(self) -> list[str]:
        return [entry.lower() for entry in self.allowed_networks if _network(entry) is None]

    def takes_host(self, host: str) -> bool:
        """Whether requests may go to this name, whatever its addresses are."""
        return not self.allowed_hosts or _listed(host, self.allowed_hosts)

    def is_listed(self, host: str, address: Address) -> bool:
        """Whether this address may be used though it is not public."""
        target = plain(address)
        return _listed(host, self._private_names) or any(
            target.version == network.version and target in network for network in self._networks
        )


@dataclass(frozen=True)
class Destination:
    """Where a checked request goes: exactly there, whatever the name resolves to a moment later."""

    host: str
    port: int
    addresses: tuple[str, ...]


@dataclass(frozen=True)
class Download:
    """What a download brought."""

    bytes: int
    sha256: str
    headers: httpx.Headers


class Guard:
    """Checks URLs that others named, and makes requests to those that pass.

    Every answer of the one resolution has to be public (or listed), the connection goes to one of exactly these
    addresses while certificate and ``Host`` stay those of the name, and each redirect is checked like a first request.
    Proxies and credentials of the environment are not used.

    Args:
        policy: Where requests may go.
        resolver: Names to addresses; the system's when left out.
    """

    def __init__(self, policy: Policy, resolver: Resolver | None = None) -> None:
        self.policy = policy
        self._resolver = resolver or _system_resolver

    @cached_property
    def _tls(self) -> ssl.SSLContext:
        import httpx

        context = httpx.create_ssl_context(trust_env=False)
        if self.policy.ca_file is not None:
            context.load_verify_locations(cafile=self.policy.ca_file)
        return context

    def check(self, url: str | httpx.URL, *, pointer: str | None = None) -> Destination:
        """Hold a URL against the policy and resolve its name once.

        Args:
            url: An absolute URL.
            pointer: Where the URL stands in the request's body, for the error.

        Raises:
            UrlNotAllowedError: Scheme, port, name, credentials in the URL or an address rule it out, or the name does
                not resolve.
        """
        import httpx

        try:
            return self._check(httpx.URL(url), RESOLVE_SECONDS)
        except UrlNotAllowedError as refused:
            raise UrlNotAllowedError(refused.detail, pointer=pointer) from None
        except (httpx.InvalidURL, TypeError):
            raise UrlNotAllowedError("this is not an absolute URL", pointer=pointer) from None
        except httpx.ConnectError:
            raise UrlNotAllowedError("the host name does not resolve", pointer=pointer) from None

    def _check(self, url: httpx.URL, within: float) -> Destination:
        if url.scheme != "https" and not (url.scheme == "http" and self.policy.allowed_networks):
            raise UrlNotAllowedError("only https addresses are allowed")
        if url.userinfo:
            raise UrlNotAllowedError("a URL with a user name or password is not allowed")
        host = url.raw_host.decode("ascii").lower()
        try:
            spelled = literal(host)
        except ValueError:
            raise UrlNotAllowedError("the host is an address in a form that is not allowed") from None
        if spelled is None and not _NAME.fullmatch(host):
            raise UrlNotAllowedError("the host is not a name")
        port = url.port if url.port is not None else {"http": 80, "https": 443}[url.scheme]
        if port not in self.policy.ports:
            raise UrlNotAllowedError(f"port {port} is not allowed")
        name = host.rstrip(".")
        if not self.policy.takes_host(name):
            raise UrlNotAllowedError("the host is not on this service's allow-list")
        addresses = [spelled] if spelled is not None else _addresses(self._resolve(host, min(within, RESOLVE_SECONDS)))
        for address in addresses:
            if not self.policy.is_listed(name, address):
                if not is_public(address):
                    raise UrlNotAllowedError("the host's address is not a public one")
                if url.scheme != "https":
                    raise UrlNotAllowedError("only https addresses are allowed")
        return Destination(host, port, tuple(str(plain(address)) for address in addresses))

    def _resolve(self, host: str, within: float) -> Sequence[str]:
        import httpx

        # A name server of the other side may take its time, and the system's resolver has no limit of ours.
        answers: queue.SimpleQueue[Sequence[str] | Exception] = queue.SimpleQueue()

        def ask() -> None:
            try:
                answers.put(self._resolver(host))
            except Exception as problem:
                answers.put(problem)

        threading.Thread(target=ask, daemon=True, name="resolver").start()
        try:
            answer = answers.get(timeout=within)
        except queue.Empty:
            raise httpx.ConnectTimeout("the name server does not answer") from None
        if isinstance(answer, Exception) or not answer:
            raise httpx.ConnectError("the host name does not resolve")
        return answer

    def client(
        self, *, max_bytes: int, max_seconds: float, timeout: float = 15.0, follow_redirects: bool = True
    ) -> httpx.Client:
        """A client whose every request, redirects included, goes through the guard.

        Args:
            max_bytes: Most bytes of an answer's body, as sent.
            max_seconds: Longest time from the start of a request to the last byte of its answer; a request may bring
                its own end as ``extensions={"deadline": time.monotonic() + ...}``, which also bounds redirects.
            timeout: Longest wait for the other side to move, in seconds.
            follow_redirects: Whether redirects are followed (each checked, three at most) or returned.
        """
        import httpx

        # Not before a request is made: the API only checks addresses, and starts sooner without an HTTP engine.
        from app.outbound.transport import GuardedTransport

        transport = GuardedTransport(self._check, lambda: self._tls, max_bytes=max_bytes, max_seconds=max_seconds)
        client = httpx.Client(
            transport=transport,
            trust_env=False,
            follow_redirects=follow_redirects,
            timeout=timeout,
            headers={"Accept-Encoding": "identity", "User-Agent": "spice-select"},
        )
        client.max_redirects = MAX_REDIRECTS
        return client

    def download(
        self,
        url: str,
        into: BinaryIO,
        *,
        max_bytes: int,
        max_seconds: float,
        headers: dict[str, str] | None = None,
        on_bytes: Callable[[int, int | None], None] | None = None,
    ) -> Download:
        """Copy what a URL answers into a file, byte for byte: a compressed body is refused, so none can swell.

        Args:
            url: An absolute URL.
            into: Open binary file.
            max_bytes: Most bytes that are taken.
            max_seconds: Longest time for all of it, redirects included.
            headers: Sent with the request; credentials among them are dropped when another host takes over.
            on_bytes: Called with the bytes so far and the announced total while they arrive; may raise to stop.

        Raises:
            UrlNotAllowedError: The policy rules the URL or one it redirects to out.
            DownloadLimitError: More bytes or more time than allowed, a compressed body, or too many redirects.
            httpx.HTTPError: The other side is down or answers with an error.
        """  # ruff: ignore[docstring-extraneous-exception] - raised by the client
        import httpx

        digest, count = hashlib.sha256(), 0
        deadline = {"deadline": time.monotonic() + max_seconds}
        with self.client(max_bytes=max_bytes, max_seconds=max_seconds) as client:
            try:
                with client.stream("GET", url, headers=headers, extensions=deadline) as answer:
                    answer.raise_for_status()
                    if answer.headers.get("content-encoding", "identity").lower() != "identity":
                        raise DownloadLimitError("the answer is compressed though it was asked for as it is")
                    announced = answer.headers.get("content-length", "")
                    total = int(announced) if announced.isdecimal() else None
                    for part in answer.iter_raw():
                        into.write(part)
                        digest.update(part)
                        count += len(part)
                        if on_bytes is not None:
                            on_bytes(count, total)
                    return Download(count, digest.hexdigest(), answer.headers)
            except (httpx.InvalidURL, httpx.UnsupportedProtocol):
                raise UrlNotAllowedError("this is not an absolute https URL") from None
            except httpx.TooManyRedirects:
                raise DownloadLimitError(f"more than {MAX_REDIRECTS} redirects") from None


def _network(entry: str) -> Network | None:
    try:
        return ip_network(entry, strict=False)
    except ValueError:
        return None


def _listed(host: str, names: Sequence[str]) -> bool:
    return any(
        host.endswith(name[1:].lower()) if name.startswith("*.") else host == name.lower().rstrip(".") for name in names
    )


def _addresses(answers: Sequence[str]) -> list[Address]:
    # A link-local answer carries its interface behind a percent sign.
    return [ip_address(answer.partition("%")[0]) for answer in dict.fromkeys(answers)]


def _system_resolver(host: str) -> list[str]:
    return [str(address[4][0]) for address in socket.getaddrinfo(host, None, type=socket.SOCK_STREAM)]
