"""The settings that are tried: which form of the gradients, which rule."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Literal

import torch

import spice_select as ss

Form = Literal["unit", "mean", "sum", "root", "warm", "adam"]
"""Length policy: every gradient of length one, mean loss, summed loss, or mean loss times the root of its tokens. Or of
length one, but of a model that was warmed up, or as Adam sees them (``other_forms``)."""

TRIED: dict[str, tuple[Form, dict[str, Any]]] = {
    "spice": ("unit", {}),
    "spice, mean loss": ("mean", {}),
    "spice, summed loss": ("sum", {}),
    "spice, root length": ("root", {}),
    "spice, alpha 0.01": ("unit", {"alpha": 0.01}),
    "spice, alpha 100": ("unit", {"alpha": 100.0}),
    "spice, quotas": ("unit", {"quotas": True}),
    "spice, token budget": ("unit", {"tokens": True}),
    "matching 0.1": ("unit", {"matching_weight": 0.1}),
    "matching 0.3": ("unit", {"matching_weight": 0.3}),
    "matching 1": ("unit", {"matching_weight": 1.0}),
    "matching 3": ("unit", {"matching_weight": 3.0}),
    "matching 1, quotas": ("unit", {"matching_weight": 1.0, "quotas": True}),
    "matching 1, token budget": ("unit", {"matching_weight": 1.0, "tokens": True}),
    "matching 1, root length": ("root", {"matching_weight": 1.0}),
    "matching 1, alpha 0.01": ("unit", {"matching_weight": 1.0, "alpha": 0.01}),
    "herding": ("unit", {"method": "herding"}),
    "herding, root length": ("root", {"method": "herding"}),
    "herding, quotas": ("unit", {"method": "herding", "quotas": True}),
    "facility location": ("unit", {"method": "facility_location"}),
    "matching 3, mean loss": ("mean", {"matching_weight": 3.0}),
    "matching 3, summed loss": ("sum", {"matching_weight": 3.0}),
    "herding, mean loss": ("mean", {"method": "herding"}),
    "herding, summed loss": ("sum", {"method": "herding"}),
    "spice, warm-up": ("warm", {}),
    "matching 3, warm-up": ("warm", {"matching_weight": 3.0}),
    "spice, Adam": ("adam", {}),
    "matching 3, Adam": ("adam", {"matching_weight": 3.0}),
    "matching 10": ("unit", {"matching_weight": 10.0}),
}
"""Form and settings of each. ``alpha`` is in units of one over the squared median length, so that it means the same in
every form; ``quotas`` gives each group its share of the pool, ``tokens`` allows as many tokens as random rows have."""


def forms_of(mean: torch.Tensor, learned: Sequence[int]) -> dict[Form, torch.Tensor]:
    """Every form from the gradients of the mean loss.

    Args:
        mean: Shape (n, d).
        learned: Learned tokens of each row.
    """
    counts = torch.tensor(learned, dtype=mean.dtype).unsqueeze(1)
    return {
        "unit": torch.nn.functional.normalize(mean, dim=1),
        "mean": mean,
        "sum": mean * counts,
        "root": mean * counts.sqrt(),
    }


def rows_of(
    name: str, forms: Mapping[Form, torch.Tensor], costs: Sequence[int], groups: Sequence[str], count: int
) -> list[int]:
    """What a setting chooses from a pool, in pick order.

    Args:
        name: Its name.
        forms: Gradients of the pool.
        costs: Tokens of each row.
        groups: Group of each row.
        count: How many rows.
    """
    form, options = TRIED[name]
    options = dict(options)
    gradients = forms[form]
    # Length one needs no scaling; what is raw is brought to a median length of one, which leaves every ratio as it is.
    gradients = gradients / gradients.norm(dim=1).median()
    budget: dict[str, Any] = {"count": count}
    if options.pop("tokens", False):
        budget = {"tokens": round(count * sum(costs) / len(costs))}
    if options.pop("quotas", False):
        caps = {group: -(-count * groups.count(group) // len(groups)) for group in sorted(set(groups))}
        options["quotas"] = {"caps": caps}
    config = ss.SelectionConfig.model_validate({"budget": budget, **options})
    return ss.select(gradients, config, costs=costs, groups=groups).indices
