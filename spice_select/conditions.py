"""Settings of what is settled before a selection: rows, targets, protected sets, and what leaves the pool."""

from __future__ import annotations

from typing import Annotated, Any, Literal, Self

from pydantic import Field, model_validator

from spice_select.settings_model import Model

SourceRow = Annotated[int, Field(ge=0, le=2**53)]
"""A row of the source as it was registered, counted from 0; what a ranking calls ``source_row``."""


class Screens(Model):
    """Rows that leave the pool before the selection; every one is listed with a code, a number and the evidence."""

    loss_outliers: Annotated[float, Field(gt=0, le=1000)] | None = None
    """Rows whose loss under the proxy is above the median by more than this many scaled median absolute deviations; 3
    is usual. Needs a trained proxy."""
    near_duplicates: Annotated[float, Field(gt=0, le=1)] | None = None
    """Rows whose word triples have at least this Jaccard index with those of an earlier row, which is kept; 0.7 is
    usual."""
    repeated_responses: Annotated[int, Field(ge=2, le=2**31 - 1)] | None = None
    """Rows whose response of four words or more is also given, nearly word for word, to other prompts, at least so many
    of which have next to no words in common, as refusals are; 3 is usual. None of them is kept."""
    unrelated_responses: Annotated[float, Field(ge=0, lt=1)] | None = None
    """Rows whose response of eight words or more has as much in common with more than this share of other prompts of
    the pool as with its own, as the answer to another prompt has; 0.05 is usual. Not for translations."""
    min_tokens: Annotated[int, Field(ge=1, le=2**31 - 1)] | None = None
    """Rows with fewer tokens of prompt and response."""
    max_tokens: Annotated[int, Field(ge=1, le=2**31 - 1)] | None = None
    """Rows with more tokens of prompt and response."""
    contamination: Annotated[list[Annotated[str, Field(min_length=1, max_length=40)]], Field(max_length=16)] = []
    """Data sets that nothing of may be trained on, such as benchmarks: rows that repeat one of theirs, also in another
    order or with some words changed."""
    contamination_words: Annotated[int, Field(ge=2, le=64)] = 8
    """Words of the runs by which rows are compared with those."""
    refuse_contamination: bool = False
    """Fail, instead of taking such rows out."""
    if_short: Literal["refuse", "keep"] = "refuse"
    """Where too few rows would be left for the budget or a quota: ``refuse``, or ``keep`` as many near-duplicates,
    after them unrelated and repeated responses, and then outliers of the loss, as are needed."""

    @model_validator(mode="after")
    def _least_below_most(self) -> Self:
        if self.min_tokens is not None and self.max_tokens is not None and self.min_tokens > self.max_tokens:
            raise ValueError("min_tokens is above max_tokens")
        return self


InlineRows = Annotated[list[dict[str, Any]], Field(min_length=1, max_length=512)]


class TargetConfig(Model):
    """Something that the model should get better at: rows of a data set, of the request, or of the pool."""

    name: Annotated[str, Field(min_length=1, max_length=100, pattern=r"\S")]
    """Name for people; no two targets have one name."""
    weight: Annotated[float, Field(gt=0, le=1e6)] = 1.0
    """Share of the picks that the target is due, relative to the others."""
    dataset_id: Annotated[str, Field(min_length=1, max_length=40)] | None = None
    """A data set that is ready; all its usable rows are target rows."""
    rows: Annotated[int, Field(ge=1, le=512)] | InlineRows | None = None
    """The target rows themselves, as records; or, with ``column``, how many rows of the pool become target rows."""
    column: Annotated[str, Field(min_length=1, max_length=200)] | None = None
    """Column of the pool: rows that say ``value`` in it, drawn at random, become target rows and leave the pool."""
    value: Annotated[str, Field(max_length=1000)] | None = None
    """What those rows say in ``column``."""

    @model_validator(mode="after")
    def _from_one_place(self) -> Self:
        by_column = self.column is not None and self.value is not None and isinstance(self.rows, int)
        inline = isinstance(self.rows, list) and self.column is None and self.value is None
        nothing = self.rows is None and self.column is None and self.value is None
        if (self.dataset_id is not None) != nothing or not (nothing or by_column or inline):
            raise ValueError("give dataset_id, or rows as a list, or column, value and rows as a number")
        return self


class Prefilter(Model):
    """A cheap ranking of the pool for the targets; only the best of it get gradients, every other row is listed."""

    method: Literal["bm25", "embedding"]
    """How rows are ranked, as by the method of that name."""
    keep: Annotated[float, Field(gt=0, lt=1)]
    """Share of the usable rows that get gradients; at least as many as the budget asks for."""

    def count(self, usable: int) -> int:
        """How many rows of a pool are kept, rounded to the nearest whole number, at least one.

        Args:
            usable: Usable rows of the pool.
        """
        return max(1, int(self.keep * usable + 0.5))


class Conditions(Model):
    """What is settled before the choice: rows by their number in the source, other selections by their job."""

    must_include: Annotated[list[SourceRow], Field(max_length=10_000)] = []
    """Rows that are chosen before any other, in the order of the rule; they count towards the budget."""
    exclude: Annotated[list[SourceRow], Field(max_length=10_000)] = []
    """Rows that are never chosen."""
    given_job: Annotated[str, Field(min_length=1, max_length=40)] | None = None
    """A job on the same gradients whose rows are already owned: the choice is what adds most to them, gains and
    utility are what it adds, and none of its rows is chosen again."""
    target_dataset_id: Annotated[str, Field(min_length=1, max_length=40)] | None = None
    """Short for one target: the data set that the choice is to be close to; it is measured with the same proxy and
    settings."""
    targets: Annotated[list[TargetConfig], Field(max_length=32)] = []
    """What the model should get better at: each pick serves the target furthest below its weight, and rows of the pool
    that are also target rows leave it. At most 512 inline rows in all."""
    protect: Annotated[list[TargetConfig], Field(max_length=8)] = []
    """What must not get worse: rows whose gradient points against the mean of such a set pay for it, by its
    ``weight``. Its rows leave the pool like those of a target."""
    prefilter: Prefilter | None = None
    """Which rows get gradients at all; needs targets."""
    screens: Screens = Screens()
    """What leaves the pool before the selection."""

    @model_validator(mode="after")
    def _targets_are_given_once(self) -> Self:
        if self.targets and self.target_dataset_id is not None:
            raise ValueError("give targets or target_dataset_id, not both")
        inline = sum(len(given.rows) for given in (*self.targets, *self.protect) if isinstance(given.rows, list))
        if inline > 512:
            raise ValueError(f"there may be 512 inline rows of targets and protected sets, not {inline}")
        return self
