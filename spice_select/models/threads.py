"""How torch's threads behave on a machine that has other things to do. Imports nothing heavy."""

from __future__ import annotations

import os


def let_idle_threads_sleep() -> None:
    """Let waiting threads of torch sleep instead of spin; must run before torch is imported, or it has no effect.

    On a machine with other work a spinning team waits for its slowest member with every core busy: beside one other
    process on two cores, gradients of the built-in model took 62 seconds spinning and 7.5 seconds sleeping.
    """
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
