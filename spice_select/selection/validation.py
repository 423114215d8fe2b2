"""What can be refused before anything is computed: settings that contradict each other or the size of the pool.

Pointers are those of the body of a job.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence

from spice_select.config import RunConfig, WindowsScope
from spice_select.errors import BudgetError, ConfigError, escaped
from spice_select.records.exact_numbers import ExactNumber, load_record

MOST_NAMED = 20
MOST_TARGETS, MOST_PROTECTED = 32, 8
NEEDS_TARGETS = ("less", "bm25", "embedding")
"""Methods that are nothing without targets."""
GRADIENT_TARGETED = ("spice", "fisher", "less")
"""Methods that select for targets by gradients."""
TARGETED = ("spice", "fisher", *NEEDS_TARGETS)
"""Methods that select for targets."""
PROTECTING = ("spice", "fisher")
"""Methods whose rows pay for pointing against a protected set."""

NAMES = {"#/budget/tokens": "a budget in tokens", "#/target_dataset_id": "a method that needs a target"}
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
    if selection.method == "embedding" and config.gradients.objective == "dpo":
        detail = "a pair has no embedding: give sft_chosen, for the embeddings of the chosen answers"
        raise ConfigError(detail, pointer="#/gradients/objective")
    if selection.method == "bm25" and config.gradients.warmup_steps:
        raise ConfigError("the method bm25 needs no proxy to warm up", pointer="#/gradients/warmup_steps")
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
    if selection.whitening_rows is not None and selection.whitening_rows > usable:
        raise ConfigError(
            f"whitening_rows is {selection.whitening_rows}, the data set has {usable} usable rows",
            pointer="#/selection/whitening_rows",
        )
    quotas = selection.quotas
    if quotas is not None and sum(quotas.floors.values()) > min(limits):
        raise BudgetError(
            f"the floors need {sum(quotas.floors.values())} samples, the budget allows {min(limits)}",
            pointer="#/selection/quotas/floors",
        )
    if quotas is not None and quotas.from_targets:
        pointer = "#/selection/quotas/from_targets"
        if selection.budget.tokens is not None:
            raise ConfigError("quotas from targets need a budget in samples, not in tokens", pointer=pointer)
        if quotas.column is None:
            raise ConfigError("quotas from targets need the column that names the groups", pointer=pointer)
    if config.schedule.kind == "periodic" and selection.scope.kind != "windows":
        raise ConfigError("the schedule periodic needs the scope windows", pointer="#/selection/scope")
    if config.schedule.kind == "periodic" and config.gradients.objective == "dpo":
        raise ConfigError(
            "after a step the model is not the reference policy any more: the schedule periodic is not for dpo",
            pointer="#/gradients/objective",
        )
    if selection.scope.kind != "global":
        _check_scope(config)
    if isinstance(selection.scope, WindowsScope) and count is not None:
        _check_windows(selection.scope, min(count, selection.max_count or count), usable)


def check_targets(
    config: RunConfig, names: Sequence[str], weights: Sequence[float], pointer: str = "#/targets"
) -> None:
    """Refuse targets that the settings have no use for, and settings that need some.

    Args:
        config: Settings of the run.
        names: Name of each target.
        weights: Share of the picks that each is due, relative to the others.
        pointer: Where the targets are given.

    Raises:
        ConfigError: Too many targets, two of one name, a weight that is not above 0, or a method without use for them.
    """
    selection = config.selection
    if selection.quotas is not None and selection.quotas.from_targets and not names:
        raise ConfigError("quotas from targets need a target", pointer="#/selection/quotas/from_targets")
    if selection.method in NEEDS_TARGETS and not names:
        raise ConfigError(f"the method {selection.method} needs a target", pointer=pointer)
    if not names:
        return
    if len(names) > MOST_TARGETS:
        raise ConfigError(f"there may be {MOST_TARGETS} targets, not {len(names)}", pointer=pointer)
    _check_named("targets", names, weights, pointer)
    if selection.method not in TARGETED:
        raise ConfigError(f"targets are for the methods {', '.join(TARGETED)}, not {selection.method}", pointer=pointer)
    if selection.scope.kind != "global":
        raise ConfigError(f"targets need the scope global, not {selection.scope.kind}", pointer=pointer)
    if selection.method in NEEDS_TARGETS:
        return
    if selection.matching_weight > 0:
        raise ConfigError("matching_weight is for a selection without targets", pointer="#/selection/matching_weight")
    if selection.relevance_weight == 0:
        raise ConfigError(
            "with relevance_weight 0 the targets would count for nothing", pointer="#/selection/relevance_weight"
        )


def check_prefilter(config: RunConfig, targets: int, usable: int | None = None) -> None:
    """Refuse a prefilter that the settings have no use for, or that keeps less than the budget asks for.

    Args:
        config: Settings of the run.
        targets: How many targets there are.
        usable: Usable rows of the data set; None while they are not known.

    Raises:
        BudgetError: It keeps too few rows.
        ConfigError: A prefilter that cannot be.
    """
    prefilter, selection, pointer = config.conditions.prefilter, config.selection, "#/prefilter"
    if prefilter is None:
        return
    if config.schedule.kind == "periodic" or selection.scope.kind != "global":
        what = "schedule periodic" if config.schedule.kind == "periodic" else f"scope {selection.scope.kind}"
        raise ConfigError(f"prefilter needs the schedule offline and the scope global, not the {what}", pointer=pointer)
    if not targets:
        raise ConfigError("prefilter needs a target: it ranks the pool for it", pointer=pointer)
    if selection.method not in GRADIENT_TARGETED:
        what = f"the methods {', '.join(GRADIENT_TARGETED)}"
        raise ConfigError(f"prefilter is for {what}, which take gradients, not {selection.method}", pointer=pointer)
    if prefilter.method == "embedding" and config.gradients.objective == "dpo":
        raise ConfigError(
            "a pair has no embedding: give sft_chosen, or the prefilter bm25", pointer="#/prefilter/method"
        )
    if usable is None:
        return
    wanted, kept = selection.budget.resolve_count(usable), prefilter.count(usable)
    wanted = wanted if wanted is None else min(wanted, selection.max_count or wanted)
    if wanted is not None and kept < wanted:
        raise BudgetError(
            f"keep {prefilter.keep:g} of {usable} usable rows are {kept}, {wanted} are asked for: keep more",
            pointer="#/prefilter/keep",
        )


def check_protected(config: RunConfig, names: Sequence[str], weights: Sequence[float], targets: Sequence[str]) -> None:
    """Refuse protected sets that the settings have no use for.

    Args:
        config: Settings of the run.
        names: Name of each set.
        weights: What the charge of each is multiplied by.
        targets: Names of the targets.

    Raises:
        ConfigError: Too many sets, one named like another or like a target, a weight that is not above 0, or a method
            without use for them.
    """
    pointer = "#/protect"
    if not names:
        return
    if len(names) > MOST_PROTECTED:
        raise ConfigError(f"there may be {MOST_PROTECTED} protected sets, not {len(names)}", pointer=pointer)
    _check_named("protected sets", names, weights, pointer)
    for number, name in enumerate(names):
        if name in targets:
            raise ConfigError(f"a target and a protected set are named {name!r}", pointer=f"{pointer}/{number}/name")
    method, kind = config.selection.method, config.selection.scope.kind
    if method not in PROTECTING:
        what = f"the methods {' and '.join(PROTECTING)}"
        raise ConfigError(f"protected sets are for {what}, not {method}", pointer=pointer)
    if kind != "global":
        raise ConfigError(f"protected sets need the scope global, not {kind}", pointer=pointer)


def _check_named(what: str, names: Sequence[str], weights: Sequence[float], pointer: str) -> None:
    """Refuse two sets of one name, and weights that are none.

    Raises:
        ConfigError: There are some.
    """
    for number, (name, weight) in enumerate(zip(names, weights, strict=True)):
        if name in names[:number]:
            raise ConfigError(f"two {what} are named {name!r}", pointer=f"{pointer}/{number}/name")
        if not 0.0 < weight < math.inf:
            raise ConfigError(f"a weight must be above 0, not {weight}", pointer=f"{pointer}/{number}/weight")


def check_screens(config: RunConfig) -> None:
    """Refuse screens that the proxy cannot serve, or that the pool is not there for.

    Args:
        config: Settings of the run.

    Raises:
        ConfigError: Losses of a model that was never trained, or a pool that is not selected from as a whole.
    """
    screens = config.conditions.screens
    takes_out = screens.model_dump(exclude={"contamination", "contamination_words", "refuse_contamination", "if_short"})
    asked = [name for name, value in takes_out.items() if value is not None]
    asked += ["contamination"] if screens.contamination else []
    if asked and (config.schedule.kind == "periodic" or config.selection.scope.kind != "global"):
        what = "schedule periodic" if config.schedule.kind == "periodic" else f"scope {config.selection.scope.kind}"
        raise ConfigError(
            f"{asked[0]} needs the schedule offline and the scope global, not the {what}: screen the data first",
            pointer=f"#/screens/{asked[0]}",
        )
    if screens.loss_outliers is not None and config.selection.method == "bm25":
        raise ConfigError("the method bm25 takes no losses: leave it out", pointer="#/screens/loss_outliers")
    if screens.loss_outliers is not None and not config.has_trained_proxy:
        raise ConfigError(
            f"the losses of {config.proxy.model} say nothing about a row, because it was never trained: name a trained "
            "proxy, set warmup_steps, or leave loss_outliers out",
            pointer="#/screens/loss_outliers",
        )


def check_quotas(config: RunConfig, sizes: Mapping[str, int]) -> None:
    """Refuse floors and caps that the groups of the data set cannot meet.

    Args:
        config: Settings of the run.
        sizes: How many rows of each group can be chosen, group by group.

    Raises:
        BudgetError: A floor above the size of its group, or caps that leave fewer rows than asked for.
    """
    quotas = config.selection.quotas
    if quotas is None:
        return
    findings = [
        {
            "detail": f"the floor of {name!r} is {floor}, the data set has {sizes.get(name, 0)} such rows",
            "pointer": f"#/selection/quotas/floors/{escaped(name)}",
        }
        for name, floor in quotas.floors.items()
        if floor > sizes.get(name, 0)
    ]
    if findings:
        raise BudgetError(findings[0]["detail"], errors=findings[:MOST_NAMED])
    count = config.selection.budget.resolve_count(sum(sizes.values()))
    reachable = sum(min(size, quotas.caps.get(name, size)) for name, size in sizes.items())
    if config.selection.budget.count is not None and count is not None and reachable < count:
        capped = sorted(name for name, size in sizes.items() if quotas.caps.get(name, size) < size)
        raise BudgetError(
            f"the caps leave {reachable} rows, {count} are asked for; capped are {', '.join(capped[:MOST_NAMED])}",
            pointer="#/selection/quotas/caps",
        )


def group_of(record: str, column: str) -> str:
    """The group of a sample: what its record says in a column, as text; empty where it says nothing.

    Args:
        record: The record as JSON.
        column: Column that names the group.
    """
    value = load_record(record).get(column)
    if isinstance(value, ExactNumber):
        return value.text
    return "" if value is None else value if isinstance(value, str) else json.dumps(value)


def _check_windows(scope: WindowsScope, count: int, usable: int) -> None:
    """Refuse windows that hold fewer picks than asked for.

    Raises:
        BudgetError: They do.
    """
    if scope.per_window is None:
        return
    whole, rest = divmod(usable, scope.size)
    most = whole * min(scope.per_window, scope.size) + min(scope.per_window, rest)
    if most < count:
        windows = whole + (rest > 0)
        raise BudgetError(
            f"{windows} windows of {scope.size} yield {most} of {count} samples",
            pointer="#/selection/scope/per_window",
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
        "#/target_dataset_id": config.selection.method in NEEDS_TARGETS,
    }
    for pointer, value in found.items():
        if value:
            name = NAMES.get(pointer, pointer.rpartition("/")[2])
            raise ConfigError(f"{name} needs the scope global, not {kind}", pointer=pointer)
