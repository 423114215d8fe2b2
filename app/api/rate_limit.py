"""How many requests an API key may make in a window, told in the headers of draft-ietf-httpapi-ratelimit-headers.

Counted in the memory of each process: with several replicas, a key has the quota on each of them.
"""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass

POLICY = "default"
"""Name of the one quota there is."""
REMEMBERED = 10_000
"""Keys counted at once; windows that are over are dropped when there are more."""


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


class RateLimiter:
    """Fixed windows, one for each key.

    Args:
        quota: Requests of a window; 0 counts nothing.
        window: Seconds, at least 1.
        clock: Seconds that never go back.
    """

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
