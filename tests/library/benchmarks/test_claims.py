"""The page of the paper's claims says what was measured, and what is measured is what the paper defines."""

from __future__ import annotations

import json

import torch

import spice_select as ss
from benchmarks.claims import PAGE, REAL, RESULTS, between_steps, omegas, page, state

DRAW = torch.Generator().manual_seed(7)


def test_the_page_is_written_from_the_figures() -> None:
    found = json.loads(RESULTS.read_text(encoding="utf-8"))
    real = json.loads(REAL.read_text(encoding="utf-8"))
    assert PAGE.read_text(encoding="utf-8") == page(found, real)
    assert {claim["verdict"] for claim in (*found["claims"], *real["claims"])} <= {
        "held",
        "not held",
        "not testable here",
    }


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


def test_how_often_a_step_is_taken_matters_where_the_picks_differ() -> None:
    gradients = torch.randn(40, 6, generator=DRAW, dtype=torch.float64)
    made = {"windows": 4, "steps": 1, "loss_moved": -0.01}
    usual = list(range(10))
    for other, verdict in ((usual, "held"), ([*range(8), 20, 21], "held"), ([*range(7), 20, 21, 22], "not held")):
        found = {every: {"rows": usual, **made} for every in (None, 10, 50)}
        found[1] = {"rows": other, **made}
        claim = between_steps(found, gradients)
        assert claim["verdict"] == verdict
        shared = sum(row < 10 for row in other)
        assert f"T 1: 1 steps in 4 windows, {shared * 10}% shared" in claim["numbers"]
