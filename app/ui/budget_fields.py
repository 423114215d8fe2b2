"""How much a new job selects, in the form of one."""

from __future__ import annotations

from typing import Any

from app.ui.form_fields import FormFields, number

UNITS = {"percent": "% of the rows", "count": "rows", "tokens": "tokens"}
FIELDS = ("amount", "unit")


def read(draft: FormFields) -> dict[str, Any]:
    """The budget as the request has it; one row where none is said, so that whatever else is wrong is said as well."""
    unit = draft.values.get("unit", "")
    if unit not in UNITS:
        draft.refuse("amount", "choose what the budget counts")
    amount = number(draft, "amount", whole=unit != "percent")
    if amount is None and "amount" not in draft.errors:
        draft.refuse("amount", "say how much to choose")
    elif amount is not None and unit == "percent" and not 0 < amount <= 100:
        draft.refuse("amount", "this should be more than 0 and at most 100 %")
    if "amount" in draft.errors:
        return {"count": 1}
    assert amount is not None
    return {"fraction": amount / 100} if unit == "percent" else {unit: amount}


def write(budget: dict[str, Any]) -> dict[str, str]:
    """The fields of a budget as a request has it."""
    if budget.get("fraction") is not None:
        return {"amount": f"{100 * budget['fraction']:.10g}", "unit": "percent"}
    unit = "tokens" if budget.get("tokens") is not None else "count"
    return {"amount": str(budget.get(unit) or ""), "unit": unit}
