"""A rolling upgrade under jobs, from a revision six migrations old."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.soak.upgrade.older import NoHistoryError
from tests.soak.upgrade.run import report, run

OLDER = "e9f914f"
"""The first revision with estimates: parts are units, sources and webhooks unknown."""


def test_jobs_go_on_while_schema_and_programs_are_upgraded(
    tmp_path: Path, seed: int, capsys: pytest.CaptureFixture[str]
) -> None:
    try:
        outcome = run(tmp_path, OLDER, seed)
    except NoHistoryError as error:
        pytest.skip(f"this checkout has no history to upgrade from: {error}")
    with capsys.disabled():
        print("\n" + report(outcome, OLDER, seed))
    assert outcome.verdict.violations == []
    assert outcome.failed == 0
    assert outcome.running > 0, "no job ran while the schema was upgraded"
    assert outcome.revisions[0] != outcome.revisions[1], "there was nothing to migrate"
    assert len(outcome.steps) == 5
