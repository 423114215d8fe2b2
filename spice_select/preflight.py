"""What can be refused before anything is computed: settings that contradict each other or the size of the pool.

Pointers are those of the body of a job.
"""

from __future__ import annotations

from spice_select.config import RunConfig
from spice_select.errors import BudgetError, ConfigError

NAMES = {"#/budget/tokens": "a budget in tokens", "#/target_dataset_id": "the method less"}
"""What is found at a pointer, where its last word does not say."""


def check_settings(config: RunConfig, usable: int, *, unavailable: int = 0) -> None:
    """Refuse what no selection from this many rows can meet.

    Args:
        config: Settings of the run.
        usable: Usable rows of the data set; some may still turn out to be no candidates.
        unavailable: How many of them, at least, are excluded or owned already.

    Raises:
        BudgetError: More is asked for than there is, or less than must be included.
        ConfigError: Two settings that contradict each other.
    """
    selection, conditions = config.selection, config.conditions
    wanted, never = set(conditions.must_include), set(conditions.exclude)
    both = sorted(wanted & never)
    if both:
        place = conditions.exclude.index(both[0])
        raise ConfigError(f"rows {both[:20]} are both to be included and excluded", pointer=f"#/exclude/{place}")
    count = selection.budget.resolve_count(usable)
    left = usable - unavailable
    if count is not None and count > left:
        beside = " that are neither excluded nor owned" if left < usable else ""
        raise BudgetError(f"count is {count}, the data set has {left} usable rows{beside}", pointer="#/budget/count")
    limits = [limit for limit in (count, selection.max_count, selection.budget.tokens) if limit is not None]
    if wanted and len(wanted) > min(limits):
        raise BudgetError(
            f"{len(wanted)} rows must be included, the budget allows {min(limits)}", pointer="#/must_include"
        )
    if selection.scope.kind != "global":
        _check_scope(config)


def check_target(config: RunConfig, *, given: bool) -> None:
    """The method ``less``, and no other, has a target.

    Args:
        config: Settings of the run.
        given: Whether there is one.

    Raises:
        ConfigError: It is otherwise.
    """
    if config.selection.method == "less" and not given:
        raise ConfigError("the method less needs a target data set", pointer="#/target_dataset_id")
    if config.selection.method != "less" and given:
        raise ConfigError(
            f"a target data set is for the method less, not {config.selection.method}", pointer="#/target_dataset_id"
        )


def _check_scope(config: RunConfig) -> None:
    """Refuse what a pool cut into parts cannot keep.

    Raises:
        ConfigError: A budget in tokens, quotas, or rows that are settled beforehand.
    """
    conditions, kind = config.conditions, config.selection.scope.kind
    found = {
        "#/budget/tokens": config.selection.budget.tokens,
        "#/selection/quotas": config.selection.quotas,
        "#/must_include": conditions.must_include,
        "#/exclude": conditions.exclude,
        "#/given_job": conditions.given_job,
        "#/target_dataset_id": config.selection.method == "less",
    }
    for pointer, value in found.items():
        if value:
            name = NAMES.get(pointer, pointer.rpartition("/")[2])
            raise ConfigError(f"{name} needs the scope global, not {kind}", pointer=pointer)
