"""Why one row was selected, or not: its evidence, and the same in plain English."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict

SCREENS = {
    "near-duplicate": "near_duplicates",
    "repeated-response": "repeated_responses",
    "unrelated-response": "unrelated_responses",
    "loss-outlier": "loss_outliers",
    "contamination": "contamination",
    "length": "length",
}
"""Codes of rows that a screen took out, and the setting of the screen."""
PASSED_OVER = {
    "matching": "they resemble earlier picks, and the rule matching takes what the picks for a target still lack",
    "relevance": "they would have added less that is new",
    None: "other terms of the score counted for more",
}
"""Why a pick is not among the most relevant candidates, by the rule."""
NOT_TAKEN = {
    "matching": "Other rows had more of what the picks for the target still lacked, which the rule matching takes.",
    "relevance": "Other rows had more of relevance and of what is new, which the rule relevance takes together.",
    None: "Other terms of the score counted for more.",
}
"""Why a row that would have added as much as the last pick was not taken, by the rule."""
MUCH = 0.7
"""Cosine from which a row is said to repeat much of another."""
IN_TURN = frozenset({"bm25", "embedding"})
"""Methods with relevances of their own, which only picks have."""


class NearTargetRow(BaseModel):
    """A row of a target that a row of the pool is near to.

    Attributes:
        target: Name of the target.
        row: 0-based row of what the target was made from; of a target that is part of the pool, row of the pool.
        cosine: Cosine of the two gradients, in [-1, 1], in the space that the selection compared rows in.
    """

    model_config = ConfigDict(frozen=True)

    target: str
    row: int
    cosine: float


class RowEvidence(BaseModel):
    """What is known about one usable row of the pool after a selection: a row of ``evidence.parquet``.

    Attributes:
        source_row: 0-based row of the source.
        status: ``selected``; ``not_selected``, a candidate that was not picked; ``excluded``, no candidate.
        rank: Place in the order of selection, from 1.
        target: The target that the row was selected for; of other rows the one that they are most relevant for.
        relevance: g . m / |m| with the mean m of that target's rows.
        relevance_rank: Place by relevance for that target among all candidates, from 1.
        picks_above: Picks for that target that are more relevant for it than the row.
        gain: Of a pick the marginal gain over the picks before it, of another row what it would add to all picks, nats.
        conflict: Of a pick as it was picked, in [0, 1]; of another row with the mean of its target's rows, without
            targets with the mean of the picks.
        score: What the rule compared, of a pick; of another row what it would compare next, where the rule has no more
            terms than gain and conflict.
        tokens: Tokens of prompt and response.
        nearest_targets: The target rows nearest to it, at most three, the nearest first.
        nearest_pick: Source row of the nearest pick; of a pick the nearest earlier one.
        nearest_pick_rank: Its rank.
        nearest_pick_cosine: Cosine with it: how much the row repeats it.
        code: Why an excluded row was no candidate.
        detail: The number and the evidence for that.
    """

    model_config = ConfigDict(frozen=True, from_attributes=True)

    source_row: int
    status: Literal["selected", "not_selected", "excluded"]
    rank: int | None = None
    target: str | None = None
    relevance: float | None = None
    relevance_rank: int | None = None
    picks_above: int | None = None
    gain: float | None = None
    conflict: float | None = None
    score: float | None = None
    tokens: int | None = None
    nearest_targets: Sequence[NearTargetRow] = ()
    nearest_pick: int | None = None
    nearest_pick_rank: int | None = None
    nearest_pick_cosine: float | None = None
    code: str | None = None
    detail: str | None = None


class ExplainedTargetRow(NearTargetRow):
    """A row of a target with its text.

    Attributes:
        messages: Its conversation; None once it is deleted.
    """

    messages: list[dict[str, Any]] | None = None


class ExplainedRow(RowEvidence):
    """The evidence for one row with the texts of the row and of what it is near to.

    Attributes:
        why: Why the row was selected, or not, as a few sentences.
        messages: Its conversation; None for a row that cannot be used, and once the data set is deleted.
        nearest_pick_messages: That of the nearest pick.
    """

    why: str
    messages: list[dict[str, Any]] | None = None
    nearest_targets: Sequence[ExplainedTargetRow] = ()
    nearest_pick_messages: list[dict[str, Any]] | None = None


class SelectionFacts(BaseModel):
    """What the evidence of every row of a selection is read beside.

    Attributes:
        method: How rows were selected.
        candidates: Rows that could be selected.
        selected: Picks.
        target_rule: What a row is worth for a target; None without targets.
        must_include: How many of the first picks had to be included.
        last_gain: Marginal gain of the last pick, nats.
        last_score: Score of the last pick.
        stopped: Whether the selection was stopped before its end.
        quotas: Whether groups had quotas.
        picks: How many picks there are for each target, by its name; none without targets.
    """

    method: str
    candidates: int
    selected: int
    target_rule: Literal["matching", "relevance"] | None = None
    must_include: int = 0
    last_gain: float | None = None
    last_score: float | None = None
    stopped: bool = False
    quotas: bool = False
    picks: dict[str, int] = {}


def why(row: RowEvidence, facts: SelectionFacts) -> str:
    """Why the row was selected, or not, as a few sentences.

    Args:
        row: The evidence.
        facts: About the selection as a whole.
    """
    if row.status == "excluded":
        return f"Row {row.source_row} was not a candidate. {_excluded(row)}"
    if facts.method not in {"spice", "fisher"}:
        done = f"selected as pick {row.rank} of {facts.selected}" if row.rank else "a candidate and was not selected"
        target = f" for the target {row.target!r}" if row.rank and row.target else ""
        said = f"Row {row.source_row} was {done}{target} by the method {facts.method}, which has its own order of rows."
        return f"{said}{_in_its_order(row, facts)}{_near_target_rows(row, facts)}"
    parts = _selected(row, facts) if row.status == "selected" else _not_selected(row, facts)
    return " ".join(part for part in parts if part)


def _in_its_order(row: RowEvidence, facts: SelectionFacts) -> str:
    """Where a row stands in the order of another method, as far as that is known."""
    if row.rank:
        if facts.method not in IN_TURN or row.relevance is None:
            return ""
        asked = row.rank <= facts.must_include
        best = "of those that the job says must be included" if asked else "of the candidates left"
        return f" Its score for the target row whose turn it was is {_number(row.relevance)}, the highest {best}."
    if facts.method == "less" and len(facts.picks) == 1 and row.relevance_rank is not None:
        place = f"number {row.relevance_rank} of {facts.candidates} candidates"
        return f" In that, relevance, it is {place} ({_number(row.relevance or 0.0)}); {facts.selected} were picked."
    if facts.method in IN_TURN:
        return (
            " Target rows pick in turn, each the candidate left that scores highest for it; none of them came to this "
            "row."
        )
    return ""


def _near_target_rows(row: RowEvidence, facts: SelectionFacts) -> str:
    """The target rows that a row is nearest to, where target rows pick in turn."""
    if facts.method not in IN_TURN or not row.nearest_targets:
        return ""
    by = "by their words" if facts.method == "bm25" else "by their embeddings"
    near = ", ".join(f"row {one.row} of {one.target!r} (cosine {one.cosine:.2f})" for one in row.nearest_targets)
    return f" Nearest among the target rows, {by}: {near}."


def _excluded(row: RowEvidence) -> str:
    detail = row.detail or row.code or ""
    if row.code == "prefiltered":
        return f"The prefilter left it out before any gradient was taken: {detail}."
    if row.code in SCREENS:
        return f"The screen {SCREENS[row.code]} took it out: {detail}."
    return f"{detail[:1].upper()}{detail[1:]}."


def _selected(row: RowEvidence, facts: SelectionFacts) -> list[str]:
    order = f"Row {row.source_row} was selected as pick {row.rank} of {facts.selected}"
    assert row.rank is not None
    asked = " because the job says that it must be included" if row.rank <= facts.must_include else ""
    if row.target is None:
        parts = [f"{order}{asked}."]
    else:
        parts = [f"{order}, for the target {row.target!r}{asked}.", f"{_relevance(row, facts)}."]
        if (row.relevance_rank or 0) > facts.selected and not asked:
            parts.append(f"More relevant candidates were passed over: {PASSED_OVER[facts.target_rule]}.")
    if row.gain is not None:
        over = "It adds {} nats to the picks before it." if row.rank > 1 else "As the first pick it adds {} nats."
        parts.append(over.format(_number(row.gain)))
    if row.nearest_pick is not None:
        parts.append(f"The nearest earlier pick is {_pick(row)}: the row repeats {_share(row)} of it.")
    return parts


def _not_selected(row: RowEvidence, facts: SelectionFacts) -> list[str]:
    parts = [f"Row {row.source_row} was a candidate and was not selected."]
    if row.target is not None:
        parts.append(f"{_relevance(row, facts)}; {_above(row.picks_above or 0, facts.picks.get(row.target, 0))}")
    if row.nearest_pick is not None and (row.nearest_pick_cosine or 0.0) >= MUCH:
        parts.append(f"{_pick(row).capitalize()} covers {_share(row)} of it.")
    elif row.nearest_pick is not None:
        parts.append(f"The nearest pick is {_pick(row)}.")
    if row.gain is not None and facts.last_gain is not None:
        more = row.gain >= facts.last_gain
        numbers = f"{_number(row.gain)} nats to the picks, the last pick added {_number(facts.last_gain)}"
        of_little_use = more and row.target is not None and 2 * (row.picks_above or 0) > facts.picks.get(row.target, 0)
        reason = ": new to the picks, but of little use to the target" if of_little_use else ""
        parts.append(f"It would add {numbers}{reason or ('' if more else ': other rows had more to add')}.")
        parts.append(NOT_TAKEN[facts.target_rule] if more and not of_little_use and row.score is None else "")
    if row.score is not None and facts.last_score is not None:
        parts.append(
            f"Its score as the next pick would be {_number(row.score)}, that of the last pick was "
            f"{_number(facts.last_score)}."
        )
    if facts.quotas:
        parts.append("Quotas limit how many rows of its group could be picked.")
    if facts.stopped:
        parts.append(f"The job was stopped after {facts.selected} picks, before its budget was used up.")
    return parts


def _above(above: int, picked: int) -> str:
    """How the row stands among the picks for its target, as the end of a sentence."""
    if picked == 0:
        return "nothing was picked for that target."
    if above == picked:
        return f"{'the only pick' if picked == 1 else f'each of the {picked} picks'} for that target is more relevant."
    sentence = f"{above} of the {picked} picks for that target are more relevant."
    if above > picked // 2:
        return sentence
    return f"{sentence} The others were picked for what they add to the picks before them."


def _relevance(row: RowEvidence, facts: SelectionFacts) -> str:
    place = f"number {row.relevance_rank} of {facts.candidates} candidates by relevance for "
    name = "it" if row.status == "selected" else f"the target {row.target!r}"
    return f"It is {place}{name} ({_number(row.relevance or 0.0)})"


def _pick(row: RowEvidence) -> str:
    return f"pick {row.nearest_pick_rank} (row {row.nearest_pick}, cosine {row.nearest_pick_cosine or 0.0:.2f})"


def _share(row: RowEvidence) -> str:
    cosine = row.nearest_pick_cosine or 0.0
    bounds = ((0.95, "nearly all"), (MUCH, "much"), (0.3, "some"))
    return next((word for least, word in bounds if cosine >= least), "little")


def _number(value: float) -> str:
    return f"{value:.3g}"
