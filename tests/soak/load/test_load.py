"""Half a minute of load with every process restarted; ``make load`` runs longer and measures."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.soak.load.run import report, run


def test_under_load_every_process_is_restarted_without_a_failed_request(
    tmp_path: Path, seed: int, capsys: pytest.CaptureFixture[str]
) -> None:
    outcome = run(tmp_path, 30, seed, threads=8, pause=0.4)
    with capsys.disabled():
        print("\n" + report(outcome, seed))
    assert outcome.problems == []
    assert set(outcome.restarts) == {"api-0", "api-1", "dispatcher", "worker-0", "worker-1", "redis"}
    assert {"submit", "poll", "list", "stream", "download"} <= set(outcome.tally.counts), "the mix was not tried"
    assert outcome.tally.done, "no job ended: the run says nothing"
