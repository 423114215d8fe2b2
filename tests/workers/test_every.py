"""Something is called again and again on a thread of its own, whatever goes wrong, until the process ends."""

from __future__ import annotations

import threading

from workers.background.every import Every


def test_a_failure_does_not_end_it_and_the_end_comes_last() -> None:
    shutdown, calls = threading.Event(), list[str]()
    third = threading.Event()

    def call() -> None:
        calls.append("call")
        if len(calls) < 3:
            raise RuntimeError("made up")
        third.set()

    every = Every(0.001, call, "test", shutdown, at_once=True, at_end=lambda: calls.append("end")).start()
    assert third.wait(60)
    assert not every.join(0), "it goes on"
    shutdown.set()
    assert every.join(60)
    assert calls[:3] == ["call"] * 3
    assert calls.index("end") == len(calls) - 1


def test_the_first_call_comes_after_a_pause_and_none_after_the_end() -> None:
    shutdown, calls = threading.Event(), list[int]()
    every = Every(3600, lambda: calls.append(1), "test", shutdown).start()
    shutdown.set()
    assert every.join(60)
    assert calls == []


def test_whoever_is_woken_does_not_wait() -> None:
    shutdown, wake, calls, second = threading.Event(), threading.Event(), list[int](), threading.Event()

    def call() -> None:
        calls.append(1)
        if len(calls) == 2:
            second.set()

    every = Every(3600, call, "test", shutdown, wake=wake, at_once=True).start()
    while not second.wait(0.01):
        wake.set()
    shutdown.set()
    wake.set()
    assert every.join(60)
    assert len(calls) >= 2
