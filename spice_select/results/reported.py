"""What a result says about protected sets and the mix of groups: in its JSON, on its card and on the command line."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from spice_select.results.run_metadata import TargetFacts
    from spice_select.selection.result import Opposition


def protected_report(sets: Sequence[TargetFacts], opposition: Sequence[Opposition]) -> list[dict[str, Any]]:
    """What the selection does to each protected set, beside the pool it was made from.

    Args:
        sets: The protected sets.
        opposition: Of each, from the selection.

    Returns:
        ``name``, ``weight``, ``rows`` and, under ``selected`` and ``pool``, ``rows``, ``against``, ``mean_cosine`` and
        ``worst_cosine`` of each.
    """
    return [
        {"name": one.name, "weight": one.weight, "rows": one.rows, **asdict(found)}
        for one, found in zip(sets, opposition, strict=True)
    ]


def in_words(report: Sequence[Mapping[str, Any]]) -> str:
    """The report as a line for a person; empty without protected sets.

    Args:
        report: As ``protected_report`` returns it.
    """
    return "; ".join(
        f"{one['name']}: {one['selected']['against']} of {one['selected']['rows']} selected rows point against it "
        f"({one['pool']['against']} of {one['pool']['rows']} in the pool), mean cosine "
        f"{_number(one['selected']['mean_cosine'])} ({_number(one['pool']['mean_cosine'])}), worst "
        f"{_number(one['selected']['worst_cosine'])} ({_number(one['pool']['worst_cosine'])})"
        for one in report
    )


def card_section(report: Sequence[Mapping[str, Any]], weight: float) -> str:
    """The section of the data card.

    Args:
        report: As ``protected_report`` returns it.
        weight: ``protect_weight``.
    """
    lines = [
        "## What must not get worse",
        "",
        "| protected set | rows | against it, selected | in the pool | mean cosine, selected | in the pool "
        "| worst, selected | in the pool |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for one in report:
        selected, pool = one["selected"], one["pool"]
        name = " ".join(one["name"].split()).replace("|", "\\|").replace("<", "&lt;")
        lines.append(
            f"| {name} | {one['rows']} | {selected['against']} of {selected['rows']} | {pool['against']} of "
            f"{pool['rows']} | {_number(selected['mean_cosine'])} | {_number(pool['mean_cosine'])} | "
            f"{_number(selected['worst_cosine'])} | {_number(pool['worst_cosine'])} |"
        )
    lines += [
        "",
        "Cosines are between the whitened gradient of a row and the mean of the set's; below 0, a step on the row "
        f"alone makes the set's loss rise, to first order. Such a row pays {weight:g} x the set's weight x -cosine.",
    ]
    return "\n".join(lines)


def mix_in_words(composition: Mapping[str, Any] | None, selected: int, pool: int) -> str:
    """The groups of the selection, the pool and the targets as a line for a person; empty where there are none.

    Args:
        composition: Of a result.
        selected: Rows selected.
        pool: Rows of the pool.
    """
    groups = ((composition or {}).get("groups") or {}).get("groups", ())
    return "; ".join(
        f"{group['name']} {100 * group['selected'] / max(1, selected):.0f} % (pool {100 * group['pool'] / pool:.0f} %"
        + (f", implied {100 * group['implied']:.0f} %)" if group.get("implied") is not None else ")")
        for group in groups
    )


def _number(value: float | None) -> str:
    return "-" if value is None else format(value, ".3f")
