"""The page of the paper's claims says what was measured, and what is measured is what the paper defines."""

from __future__ import annotations

import json

import torch

import spice_select as ss
from benchmarks.claims import PAGE, RESULTS, omegas, page, state

DRAW = torch.Generator().manual_seed(7)


def test_the_page_is_written_from_the_figures() -> None:
    found = json.loads(RESULTS.read_text(encoding="utf-8"))
    assert PAGE.read_text(encoding="utf-8") == page(found)
    assert {claim["verdict"] for claim in found["claims"]} <= {"held", "not held", "not testable here"}


def test_the_state_beside_a_set_is_that_of_the_definitions() -> None:
    gradients = torch.randn(30, 8, generator=DRAW, dtype=torch.float64)
    picks = ss.select(gradients, ss.SelectionConfig(budget=ss.Budget(count=6)))
    for step in range(1, 6):
        gains, bases, conflicts = state(gradients, picks.indices[:step])
        row = picks.indices[step]
        assert abs(float(gains[row]) - picks.gains[step]) < 1e-9
        assert abs(float(bases[row]) - picks.base_gains[step]) < 1e-9
        assert abs(float(conflicts[row]) - picks.conflicts[step]) < 1e-6


def test_an_early_stop_is_seen_where_it_stops() -> None:
    alike = torch.ones(50, 5, dtype=torch.float64)
    assert omegas(alike, alike, 40)["verdict"] == "held"
    apart = torch.eye(50, dtype=torch.float64)
    assert omegas(apart, apart, 40)["verdict"] == "not held"
