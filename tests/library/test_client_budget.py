"""A budget as a person writes it."""

from __future__ import annotations

from typing import Any

import pytest

from spice_select.client import parse_budget
from spice_select.config import Budget
from spice_select.errors import ConfigError


@pytest.mark.parametrize(
    ("given", "budget"),
    [
        ("10%", Budget(fraction=0.1)),
        (" 12.5 % ", Budget(fraction=0.125)),
        ("100%", Budget(fraction=1.0)),
        ("100", Budget(count=100)),
        (7, Budget(count=7)),
        ("50000 tokens", Budget(tokens=50000)),
        ("50000t", Budget(tokens=50000)),
        ("1 Token", Budget(tokens=1)),
        ({"fraction": 0.5}, Budget(fraction=0.5)),
        (Budget(count=3), Budget(count=3)),
    ],
)
def test_budgets_are_understood(given: Any, budget: Budget) -> None:
    assert parse_budget(given) == budget


@pytest.mark.parametrize(
    "given",
    [
        "",
        "0",
        "0%",
        "-5",
        "101%",
        "-1%",
        "0t",
        "0.1",
        "ten",
        "10%%",
        "nan%",
        "inf",
        "1e3",
        "10 % tokens",
        True,
        0.1,
        {"count": 1, "tokens": 2},
        {"count": "7"},
        {},
        2**40,
    ],
)
def test_what_is_no_budget_is_refused(given: Any) -> None:
    with pytest.raises(ConfigError, match="10%") as caught:
        parse_budget(given)
    assert caught.value.errors[0]["pointer"] == "#/budget"
