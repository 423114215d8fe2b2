"""The data card of a result: a ``README.md`` that `datasets` and the Hugging Face hub can read."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from spice_select.results.reported import card_section
from spice_select.results.run_metadata import RunFacts
from spice_select.version import __version__

SIZES = ((1_000, "n<1K"), (10_000, "1K<n<10K"), (100_000, "10K<n<100K"), (1_000_000, "100K<n<1M"))
STOP_REASONS = {
    "budget_reached": "the budget was reached",
    "stop_ratio": "the gain of the next pick had fallen to the stop ratio",
    "min_gain": "the gain of the next pick had fallen to the least gain",
    "pool_exhausted": "no further sample fitted the budget",
    "cancelled": "the run was stopped; the picks so far are what a smaller budget would have given",
    "deadline": "the deadline passed; the picks so far are what a smaller budget would have given",
}


def data_card(
    summary: Mapping[str, Any], facts: RunFacts, *, text_columns: Sequence[str], trainer_entry: str | None
) -> str:
    """The card as Markdown with a YAML header; holds no time, so that equal results have equal cards.

    Args:
        summary: ``spice_select.results.summarise``.
        facts: What is known about the run.
        text_columns: Columns of ``selected.parquet`` that hold JSON text because their types are mixed.
        trainer_entry: Name of the entry in ``dataset_info.json``; None where there is none.
    """
    sections = [
        _header(summary, facts, text_columns),
        _what(summary, facts),
        *_targets(summary, facts),
        _counts(summary),
        _numbers(summary, facts),
        *_protected(summary, facts),
        *_mix(summary),
        _files(text_columns, trainer_entry),
        _origin(facts),
    ]
    return "\n\n".join(sections) + "\n"


def _protected(summary: Mapping[str, Any], facts: RunFacts) -> list[str]:
    report = summary.get("protected")
    return [] if report is None else [card_section(report, facts.config.selection.protect_weight)]


def _mix(summary: Mapping[str, Any]) -> list[str]:
    """The groups of the selection beside those of the pool and those that the targets imply."""
    groups = (summary.get("composition") or {}).get("groups")
    if groups is None:
        return []
    implied = any("implied" in group for group in groups["groups"])
    rows = [
        f"## The mix by `{_inline(groups['column'])}`",
        "",
        f"| group | pool | selected |{' implied by the targets |' if implied else ''}",
        f"|---|---|---|{'---|' if implied else ''}",
        *(
            f"| {_inline(group['name'])} | {_share(group['pool'], summary['pool'])} | "
            f"{_share(group['selected'], summary['selected'])} |"
            + (f" {100 * group['implied']:.1f} % |" if implied else "")
            for group in groups["groups"]
        ),
    ]
    if implied:
        rows += ["", "Each target row has one vote, which its ten nearest rows of the pool share."]
    return ["\n".join(rows)]


def _header(summary: Mapping[str, Any], facts: RunFacts, text_columns: Sequence[str]) -> str:
    size = next((name for limit, name in SIZES if summary["selected"] < limit), "n>1M")
    # A JSON string is a YAML string: names from outside cannot break the header.
    title = json.dumps(f"{facts.dataset.name}, {summary['selected']} rows chosen with {facts.config.selection.method}")
    return "\n".join(
        [
            "---",
            f"pretty_name: {title}",
            "tags:",
            "- spice-select",
            "- data-selection",
            "size_categories:",
            f"- {size}",
            "configs:",
            "- config_name: default",
            "  data_files:",
            "  - split: train",
            # A reader of the text columns would see text where conversations were.
            f"    path: selected.{'jsonl' if text_columns else 'parquet'}",
            "---",
        ]
    )


def _what(summary: Mapping[str, Any], facts: RunFacts) -> str:
    selection = facts.config.selection
    budget = ", ".join(f"{name} {value}" for name, value in selection.budget.model_dump(exclude_none=True).items())
    stopped = STOP_REASONS.get(summary["stop_reason"], summary["stop_reason"])
    told = [summary[name] for name in ("notice",) if name in summary] + list(summary.get("notes", ()))
    notice = "".join(f"{text}\n\n" for text in told)
    return (
        f"# {_inline(facts.dataset.name)}: a choice\n\n"
        f"{notice}"
        f"{summary['selected']} of {summary['pool']} candidates, chosen by `{selection.method}` "
        f"with a budget of {budget}; it ended because {stopped}."
        f"{_schedule(summary)}{_conditions(facts)}"
    )


def _targets(summary: Mapping[str, Any], facts: RunFacts) -> list[str]:
    """What it was selected for; nothing without targets."""
    served = summary.get("targets")
    if served is None:
        return []
    lines = [
        "## What it was selected for",
        "",
        "| target | its rows | weight | rows selected for it |",
        "|---|---|---|---|",
        *(
            f"| {_inline(one['name'])} | {one['rows']} | {one['weight']:g} | {one['selected']} |"
            for one in served["sets"]
        ),
    ]
    relevance = served["relevance"]
    if relevance is not None:
        lines += [
            "",
            f"Relevance, the product of a row's gradient with the direction of its target's mean, is "
            f"{_number(relevance['selected'])} over the rows selected and {_number(relevance['pool'])} over all "
            f"candidates. Utility is not what was maximised: rule `{facts.config.selection.target_rule}`.",
        ]
    return ["\n".join(lines)]


def _schedule(summary: Mapping[str, Any]) -> str:
    """How the model was tuned on the way; empty where it was not."""
    schedule = summary.get("schedule")
    if schedule is None:
        return ""
    every = schedule["steps_every"]
    steps = (
        "no optimiser steps"
        if every is None
        else f"an optimiser step every {every} windows, {schedule['steps']} in all"
    )
    return (
        f" Schedule `periodic`: {schedule['windows_done']} of {schedule['windows']} windows, {steps}. A window was "
        "measured with the model as the steps before it had left it, and chosen from by itself."
    )


def _conditions(facts: RunFacts) -> str:
    """What was settled before the choice; empty where nothing was."""
    conditions = facts.config.conditions
    said = [
        f"{len(set(rows))} {what}"
        for rows, what in (
            (conditions.must_include, "rows had to be included and come first"),
            (conditions.exclude, "rows were excluded"),
        )
        if rows
    ]
    if facts.given:
        names = ", ".join(f"`{one.uri}`" for one in facts.given)
        said.append(f"the rows of {names} are owned already, so that gains and utility are what this choice adds")
    return f" Settled before the choice: {'; '.join(said)}." if said else ""


def _counts(summary: Mapping[str, Any]) -> str:
    selected, pool = summary["selected"], summary["pool"]
    tokens, all_tokens = summary["tokens_selected"], summary["tokens_pool"]
    rows = [
        "| | pool | selected | share |",
        "|---|---|---|---|",
        f"| rows | {pool} | {selected} | {_share(selected, pool)} |",
        f"| tokens | {all_tokens} | {tokens} | {_share(tokens, all_tokens)} |",
        f"| mean tokens a row | {_ratio(all_tokens, pool)} | {_ratio(tokens, selected)} | |",
    ]
    notes = (
        f"Rows of the source that cannot be used are not counted in the pool; {summary['excluded']} others were left "
        f"out before the choice{_by_code(summary)}. {summary['truncated']} candidates were measured on their "
        "beginning only, because they are longer than the longest sequence."
    )
    return "\n".join(rows) + "\n\n" + notes


def _by_code(summary: Mapping[str, Any]) -> str:
    counts = ", ".join(f"`{code}` {count}" for code, count in summary["excluded_by_code"].items())
    return f" ({counts})" if counts else ""


def _numbers(summary: Mapping[str, Any], facts: RunFacts) -> str:
    certificate = summary["certificate"]
    schedule = summary.get("schedule")
    what = (
        "U(S) = logdet(I + alpha F_S): how much the chosen gradients tell together"
        if schedule is None
        else "sum over the windows of U(S) = logdet(I + alpha F_S), each with gradients of the model as it was then"
    )
    rows = [
        "## What the numbers mean",
        "",
        "| number | value | meaning |",
        "|---|---|---|",
        f"| utility | {_number(summary['utility'])} nats | {what}, alpha {facts.config.selection.alpha:g} |",
    ]
    control = summary["random_control"]
    if control is not None:
        rows.append(
            f"| utility at random | {_number(control['utility'])} nats | as many rows drawn with the same seed |"
        )
    scope = summary["scope"]
    if scope is not None:
        rows.append(
            f"| lost by the scope {scope['kind']} | {100 * scope['loss']:.2f} % | utility that cutting the pool cost "
            f"on a sample of {scope['sample']}, beside the exact choice of {scope['sample_count']} from it |"
        )
    rows += [
        f"| first gain | {_number(summary['first_gain'])} nats | what the first pick added |",
        f"| last gain | {_number(summary['last_gain'])} nats | what the last pick added to all before it |",
        f"| mean conflict | {_number(summary['mean_conflict'])} | 0: no pick's gradient points against the mean of "
        "those before it; 1: every one opposes it |",
    ]
    if summary.get("undecided") is not None:
        rows.append(
            f"| decided by less than the precision | {summary['undecided']} of {summary['selected']} picks | gradients "
            "computed with another batch size, device or type may give others here; ties go to the lower row |"
        )
    if certificate is not None and certificate["ratio"] is not None:
        rows.append(
            f"| proven ratio | {_number(certificate['ratio'])} | utility / {_number(certificate['upper_bound'])} nats, "
            + (
                "which no choice of as many rows can exceed |"
                if schedule is None
                else "which no choice of as many rows from each window can exceed with the models as they were; "
                "nothing is proven about another course of the tuning |"
            )
        )
    rows += [
        "",
        "`ranking.parquet` has one row per pick, in pick order: `rank` (from 1), `source_row` (0-based row of the "
        "source), `row_sha256`, `gain` (nats, given the picks before), `base_gain` (nats, alone), `epsilon` "
        "(gain - base gain), `conflict` (0 to 1), `score` (what was compared"
        f"{_score(summary, facts)}), `tokens`, and what the row is nearest to. `evidence.parquet`, where it is there, "
        "has a row per row of the data set, selected or not, with the reason. "
        "`trace.parquet` has the running sums: `rank`, `utility` (sum of the gains so far, nats), `tokens`.",
    ]
    return "\n".join(rows)


def _score(summary: Mapping[str, Any], facts: RunFacts) -> str:
    """What the score is made of; empty for methods without one of their own."""
    selection, has_targets = facts.config.selection, summary.get("targets") is not None
    if selection.method not in ("spice", "fisher"):
        return ""
    terms = [f"{selection.information_weight:g} x gain"]
    if has_targets:
        lacking = (
            "what the set still lacked of its" if selection.target_rule == "matching" else "the mean gradient of its"
        )
        terms.insert(0, f"{selection.relevance_weight:g} x the match with {lacking} target")
    elif selection.matching_weight > 0:
        terms.append(f"{selection.matching_weight:g} x the match with what the set lacked of the pool's mean gradient")
    text = " + ".join(terms)
    if selection.method == "spice":
        text += f" - {selection.conflict_penalty:g} x conflict" + (" with the target's mean" if has_targets else "")
    return f": {text}" + (" - what the row paid for protected sets" if summary.get("protected") else "")


def _files(text_columns: Sequence[str], trainer_entry: str | None) -> str:
    lines = [
        "## Using it",
        "",
        "```python",
        'datasets.load_dataset("json", data_files="selected.jsonl", split="train")'
        if text_columns
        else 'datasets.load_dataset("parquet", data_files="selected.parquet", split="train")',
        "```",
        "",
        "`selected.jsonl` holds the same rows as text, in the source's own columns. `sha256sum -c SHA256SUMS` checks "
        "the files; `spice-select verify . --source FILE` also checks the rows against the source.",
    ]
    if trainer_entry is not None:
        lines.append(f"In LLaMA-Factory: `dataset_dir: <this folder>`, `dataset: {trainer_entry}`.")
    else:
        lines.append("LLaMA-Factory has no way to read this record form, so `dataset_info.json` is empty.")
    if text_columns:
        names = ", ".join(f"`{_inline(name)}`" for name in text_columns)
        lines.append(
            "\nIn `selected.parquet` these columns hold JSON text, because their values have different types, or "
            f"objects in them different keys: {names}. "
            "`selected.jsonl` has them as they are, and is what `load_dataset` on this folder reads."
        )
    return "\n".join(lines)


def _origin(facts: RunFacts) -> str:
    dataset, proxy = facts.dataset, facts.proxy
    rows = [
        "## Where it came from",
        "",
        "| | |",
        "|---|---|",
        f"| data set | `{_inline(dataset.name)}`, {dataset.num_rows} rows, {dataset.num_usable} usable, "
        f"sha256 `{dataset.sha256}` |",
        f"| proxy model | `{_inline(proxy.model)}`, revision `{_inline(proxy.revision)}` |",
        *(_warmed(facts)),
        f"| seeds | selection {facts.config.selection.seed}, gradients {facts.config.gradients.seed} |",
        f"| code | spice-select {__version__} |",
        "",
        "The whole record is in `provenance.intoto.jsonl`. The licence of the rows is the licence of the source.",
    ]
    return "\n".join(rows)


def _warmed(facts: RunFacts) -> list[str]:
    warmup = facts.warmup
    if warmup is None:
        return []
    return [f"| warm-up | {warmup.steps} steps on {warmup.rows} rows of the pool, weights sha256 `{warmup.sha256}` |"]


def _number(value: float | None) -> str:
    return "-" if value is None else format(value, ".4g")


def _share(part: int, whole: int) -> str:
    return f"{100 * part / whole:.1f} %" if whole else "-"


def _ratio(part: int, whole: int) -> str:
    return f"{part / whole:.1f}" if whole else "-"


def _inline(text: str) -> str:
    """A name from outside as part of a Markdown line or table cell."""
    return " ".join(text.split()).replace("`", "'").replace("|", "\\|").replace("<", "&lt;")
