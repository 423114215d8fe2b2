"""A lease is kept whatever the worker is loading."""

from __future__ import annotations

import sys
import threading
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from app.services.units.leases import Claim, Reply
from app.settings import Settings
from app.status import UnitKind
from spice_select.models.memory import held_bytes
from workers import heartbeat
from workers.heartbeat import Heartbeat


class Units:
    def __init__(self) -> None:
        self.beats: list[Any] = []

    def heartbeat(self, _claim: Claim, report: Any, _lines: Any) -> Reply:
        self.beats.append(report)
        return Reply(held=True, stop=None)


def test_a_library_that_is_only_being_imported_says_nothing_of_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    torch = ModuleType("torch")  # as sys.modules shows it before its last line has run
    monkeypatch.setitem(sys.modules, "torch", torch)
    assert (held_bytes() or 0) > 0
    torch.cuda = ModuleType("torch.cuda")  # type: ignore[attr-defined]
    assert (held_bytes() or 0) > 0


def test_memory_that_cannot_be_told_costs_no_heartbeat(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    def lost() -> int:
        raise AttributeError("partially initialized module 'torch' has no attribute 'cuda'")

    monkeypatch.setattr(heartbeat, "held_bytes", lost)
    units: Any = Units()
    claim: Any = CLAIM
    held = Heartbeat(units, claim, Settings(data_dir=tmp_path), threading.Event())
    held._beat()
    assert not held.lost
    assert [report.memory_bytes for report in units.beats] == [None]


CLAIM = type("Claim", (), {"unit_id": "unit_0", "epoch": 1, "kind": UnitKind.SELECT})()
