"""A process whose clock is wrong: imported before everything else, ``SPICE_TEST_CLOCK`` says by how many seconds."""

from __future__ import annotations

import os
import time

CLOCK = "SPICE_TEST_CLOCK"


def set_clock(seconds: float) -> None:
    """Let every ``time.time`` of this process be wrong; what measures spans goes on as it is, and ``datetime.now`` too.

    The class ``datetime`` cannot be replaced: database drivers hold on to it in C.
    """
    true, true_ns = time.time, time.time_ns
    time.time = lambda: true() + seconds
    time.time_ns = lambda: true_ns() + int(seconds * 10**9)


if given := os.environ.get(CLOCK):
    set_clock(float(given))
