"""Where the service is: address, headers and timeouts, for both clients."""

from __future__ import annotations

import os
from dataclasses import dataclass

import httpx

from spice_select.errors import ClientError
from spice_select.version import __version__

DEFAULT_URL = "http://127.0.0.1:8000"
DEFAULT_TIMEOUT_SECONDS = 30.0
CONNECT_SECONDS = 5.0
LOOPBACK = frozenset({"localhost", "127.0.0.1", "::1"})


@dataclass(frozen=True)
class Connection:
    """Where the service is and how to reach it.

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
        ClientError: The address is invalid.
    """
    text = base_url or os.environ.get("SPICE_API_URL") or DEFAULT_URL
    try:
        url = httpx.URL(text.rstrip("/"))
    except httpx.InvalidURL as error:
        raise ClientError(f"{text!r} is not a valid address: {error}", code="invalid-url") from error
    if url.scheme not in {"http", "https"} or not url.host:
        raise ClientError(f"{text!r} is not a valid address; write it like {DEFAULT_URL}", code="invalid-url")
    headers = {"User-Agent": f"spice-select/{__version__}", "Accept": "application/json"}
    key = api_key or os.environ.get("SPICE_API_KEY")
    if key:
        headers["Authorization"] = f"Bearer {key}"
    # A company's HTTP proxy cannot reach a service on this machine.
    return Connection(url, headers, timeout, trust_env=url.host not in LOOPBACK)
