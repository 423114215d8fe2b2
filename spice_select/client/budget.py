"""A budget as a person writes it: ``10%``, ``100``, ``50000 tokens``."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, TypeAlias

from pydantic import ValidationError

from spice_select.config import Budget
from spice_select.errors import ConfigError

BudgetLike: TypeAlias = Budget | str | int | Mapping[str, Any]
"""A budget, or what ``parse_budget`` makes one of."""

_HINT = 'write a share ("10%"), a number of samples ("100") or of tokens ("50000 tokens")'


def parse_budget(budget: BudgetLike) -> Budget:
    """The budget that is meant.

    Args:
        budget: ``"10%"``, ``"100"`` or 100 (samples), ``"50000 tokens"``, ``"50000t"``, or the JSON object of a budget.

    Raises:
        ConfigError: It is none of these, or out of range.
    """
    if isinstance(budget, Budget):
        return budget
    try:
        if isinstance(budget, Mapping):
            return Budget.model_validate(dict(budget))
        return Budget.model_validate(
            _fields(str(budget).strip()) if not isinstance(budget, bool) else {"count": budget}
        )
    except ValidationError as error:
        first = error.errors()[0]
        raise ConfigError(f"budget {budget!r}: {first['msg']}; {_HINT}", pointer="#/budget") from error


def _fields(text: str) -> dict[str, int | float]:
    if share := re.fullmatch(r"([+-]?\d+(?:\.\d+)?)\s*%", text):
        return {"fraction": float(share[1]) / 100}
    if tokens := re.fullmatch(r"([+-]?\d+)\s*(?:t|token|tokens)", text, re.IGNORECASE):
        return {"tokens": int(tokens[1])}
    if re.fullmatch(r"[+-]?\d+", text):
        return {"count": int(text)}
    raise ConfigError(f"budget {text!r} is not understood; {_HINT}", pointer="#/budget")
