"""A minute under a random nemesis; ``make chaos`` runs longer."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from tests.soak.chaos.run import run

SECONDS = float(os.environ.get("SPICE_TEST_CHAOS_SECONDS", "60"))


def test_under_fire_nothing_accepted_is_lost_and_nothing_changes(
    tmp_path: Path, seed: int, capsys: pytest.CaptureFixture[str]
) -> None:
    verdict, text = run(tmp_path, SECONDS, seed, least=int(SECONDS / 10))
    with capsys.disabled():
        print("\n" + text)
    assert verdict.violations == []
    assert verdict.accepted >= SECONDS / 10, "hardly any job was accepted: the run says nothing"
    assert verdict.commits > verdict.accepted
