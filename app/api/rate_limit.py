"""How many requests an API key may make in a window, told in the headers of draft-ietf-httpapi-ratelimit-headers.

Where there is a broker every replica counts there, through ``limits``; embedded, and while the broker does not answer,
each process counts in its memory.
"""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

from app.logs import get_logger
from app.settings import Settings

if TYPE_CHECKING:
    from limits.storage import RedisStorage

POLICY = "default"
"""Name of the one quota there is."""
REMEMBERED = 10_000
"""Keys counted at once; windows that are over are dropped when there are more."""
ANSWER_SECONDS = 0.5
"""Longest time that a request waits for the broker."""
SILENT_SECONDS = 5.0
"""A broker that did not answer is not asked for so long."""


@dataclass(frozen=True)
class Allowance:
    """What is left of a window after a request.

    Attributes:
        quota: Requests a window has.
        window: Its length in whole seconds.
        left: Requests left.
        reset: Seconds until the next window, at least 1.
        exceeded: Whether this request was one too many.
    """

    quota: int
    window: int
    left: int
    reset: int
    exceeded: bool

    def headers(self) -> dict[str, str]:
        """``RateLimit-Policy`` and ``RateLimit``."""
        return {
            "RateLimit-Policy": f'"{POLICY}";q={self.quota};w={self.window}',
            "RateLimit": f'"{POLICY}";r={self.left};t={self.reset}',
        }


class RateLimiter(Protocol):
    """Counts the requests of each key.

    Attributes:
        waits: Whether counting may wait for another process.
    """

    waits: bool

    def take(self, key: str) -> Allowance | None:
        """Count a request; None when nothing is limited."""

    def close(self) -> None:
        """Let go of connections."""


def make_limiter(settings: Settings) -> RateLimiter:
    """The limiter of a process: shared with all replicas where there may be several."""
    own = OwnLimiter(settings.rate_limit_requests, settings.rate_limit_seconds)
    if settings.resolved_database_url.startswith("sqlite"):
        return own
    return SharedLimiter(own, settings.broker_url.get_secret_value())


class OwnLimiter:
    """Fixed windows in the memory of this process, one for each key.

    Args:
        quota: Requests of a window; 0 counts nothing.
        window: Seconds, at least 1.
        clock: Seconds that never go back.
    """

    waits = False

    def __init__(self, quota: int, window: float, clock: Callable[[], float] = time.monotonic) -> None:
        self.quota = quota
        self.window = max(1, math.ceil(window))
        self._clock = clock
        self._lock = threading.Lock()
        self._windows: dict[str, tuple[float, int]] = {}

    def take(self, key: str) -> Allowance | None:
        """Count a request; None when nothing is limited."""
        if self.quota == 0:
            return None
        now = self._clock()
        with self._lock:
            if len(self._windows) >= REMEMBERED and key not in self._windows:
                self._windows = {k: w for k, w in self._windows.items() if now < w[0] + self.window}
            began, used = self._windows.get(key, (now, 0))
            if now >= began + self.window:
                began, used = now, 0
            exceeded = used >= self.quota
            used = min(used + 1, self.quota)
            self._windows[key] = (began, used)
        reset = max(1, math.ceil(began + self.window - now))
        return Allowance(self.quota, self.window, self.quota - used, reset, exceeded)

    def close(self) -> None:
        """There is nothing to let go of."""


class SharedLimiter:
    """The same windows in the broker, for all replicas together.

    Whoever can write there can have requests refused or let through for one window, and no longer.

    Args:
        own: Counts while the broker does not answer.
        broker_url: Its Redis-protocol address.
    """

    waits = True

    def __init__(self, own: OwnLimiter, broker_url: str) -> None:
        self._own, self._broker_url = own, broker_url
        self._silent_until = -math.inf
        self._storage: RedisStorage | None = None

    def take(self, key: str) -> Allowance | None:
        """Count a request; None when nothing is limited."""
        from limits.errors import ConfigurationError, StorageError

        if self._own.quota == 0 or time.monotonic() < self._silent_until:
            return self._own.take(key)
        quota, window = self._own.quota, self._own.window
        try:
            storage = self._connected()
            used = storage.incr(key, window)
            left = math.ceil(storage.get_expiry(key) - time.time())
            if not 0 < left <= window:  # a window without an end, or with a far one, is not one of ours
                storage.clear(key)
        except (StorageError, ConfigurationError) as error:
            self._silent_until = time.monotonic() + SILENT_SECONDS
            get_logger().warning("rate_limit_not_shared", error=type(error.__cause__ or error).__name__)
            return self._own.take(key)
        return Allowance(quota, window, max(0, quota - used), min(max(1, left), window), used > quota)

    def close(self) -> None:
        """Close the connections to the broker."""
        if self._storage is not None:
            client: Any = self._storage.get_connection()
            client.connection_pool.disconnect()

    def _connected(self) -> RedisStorage:
        if self._storage is None:
            from limits.storage import RedisStorage
            from redis.backoff import NoBackoff
            from redis.retry import Retry

            self._storage = RedisStorage(
                self._broker_url,
                key_prefix="spice-rate",
                wrap_exceptions=True,
                retry=Retry(NoBackoff(), 1),  # type: ignore[arg-type]  # handed on to the client as it is
                socket_timeout=ANSWER_SECONDS,
                socket_connect_timeout=ANSWER_SECONDS,
            )
        return self._storage
