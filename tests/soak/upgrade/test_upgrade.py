"""A rolling upgrade under jobs, from the commit before."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.soak.upgrade.older import NoHistoryError, previous_revision
from tests.soak.upgrade.run import report, run


def test_jobs_go_on_while_schema_and_programs_are_upgraded(
    tmp_path: Path, seed: int, capsys: pytest.CaptureFixture[str]
) -> None:
    try:
        older = previous_revision()
        outcome = run(tmp_path, older, seed)
    except NoHistoryError as error:
        pytest.skip(f"this checkout has no history to upgrade from: {error}")
    with capsys.disabled():
        print("\n" + report(outcome, older, seed))
    assert outcome.verdict.violations == []
    assert outcome.failed == 0
    assert outcome.running > 0, "no job ran while the schema was upgraded"
    assert len(outcome.steps) == 5
