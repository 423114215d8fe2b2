"""What becomes of planted rows: fewer copies than by chance, and a page that says what was measured."""

from __future__ import annotations

import json
from typing import Any

from benchmarks.toy import planted

ROWS = 3.01 / 60
"""Share of three of the chosen rows."""


def mean(values: list[float]) -> float:
    return sum(values) / len(values)


def test_spice_takes_fewer_duplicates_than_random_rows_and_none_that_is_redundant() -> None:
    rows = [json.loads(line) for line in planted.BUNDLED.read_text(encoding="utf-8").splitlines()]
    found = planted.measure(rows, "builtin:tiny", ["spice", "fisher", "loss"], 0.1, 0)
    spice, chance = found["methods"]["spice"], found["random"]
    assert mean(spice["duplicate"]) < chance["duplicate"][0]
    assert mean(spice["redundant"]) == 0 < chance["redundant"][0]
    # A method that does not look at what it has already is caught by the same count.
    assert mean(found["methods"]["loss"]["redundant"]) > chance["redundant"][0]
    # And it is what the page says, but for a few rows: another processor rounds otherwise.
    kept = json.loads(planted.RESULTS.read_text(encoding="utf-8"))["proxies"]["builtin:tiny"]
    for name, shares in found["methods"].items():
        for kind in (*planted.KINDS, "redundant"):
            assert abs(mean(shares[kind]) - mean(kept["methods"][name][kind])) < ROWS
    for kind, values in kept["random"].items():
        assert all(abs(one - other) < 1e-3 for one, other in zip(values, chance[kind], strict=True))


def test_shares_are_counted_by_family() -> None:
    rows: list[dict[str, Any]] = [
        {"id": "a", "label": "clean", "of": None},
        {"id": "b", "label": "duplicate", "of": "a"},
        {"id": "c", "label": "contradiction", "of": "a"},
        {"id": "d", "label": "junk", "of": None},
    ]
    assert planted.shares(rows, [0, 1, 2, 3]) == {
        "clean": 0.25, "duplicate": 0.25, "contradiction": 0.25, "junk": 0.25, "redundant": 0.5,
    }  # fmt: skip
    assert planted.shares(rows, [1, 3])["redundant"] == 0


def test_the_page_is_written_from_the_figures() -> None:
    found = json.loads(planted.RESULTS.read_text(encoding="utf-8"))
    assert planted.PAGE.read_text(encoding="utf-8") == planted.report(found)
