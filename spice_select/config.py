"""Settings of a run, defined once: HTTP body, database row, library call and client all use these models.

Every model is frozen and refuses unknown fields and loose types (``true`` is no number, ``"7"`` is no integer).
"""

from __future__ import annotations

from calendar import monthrange
from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from spice_select.conditions import Conditions as Conditions
from spice_select.conditions import Prefilter as Prefilter
from spice_select.conditions import Screens as Screens
from spice_select.conditions import SourceRow as SourceRow
from spice_select.conditions import TargetConfig as TargetConfig
from spice_select.method_names import Information as Information
from spice_select.method_names import Measure
from spice_select.method_names import Method as Method
from spice_select.method_names import Objective as Objective
from spice_select.presets import Preset
from spice_select.settings_model import Model as Model
from spice_select.settings_model import digest_of as digest_of


class Budget(Model):
    """How much to choose: exactly one of ``count``, ``fraction`` and ``tokens``."""

    count: Annotated[int, Field(ge=1, le=2**31 - 1)] | None = None
    """Number of samples, k."""
    fraction: Annotated[float, Field(gt=0, le=1)] | None = None
    """Share of the usable samples of the pool; rounded to the nearest whole number, at least one sample."""
    tokens: Annotated[int, Field(ge=1, le=2**53)] | None = None
    """Largest total of the chosen samples' tokens (prompt and response, as the proxy's tokenizer counts them)."""

    @model_validator(mode="after")
    def _exactly_one(self) -> Self:
        given = [name for name in ("count", "fraction", "tokens") if getattr(self, name) is not None]
        if len(given) != 1:
            raise ValueError(f"give exactly one of count, fraction and tokens, not {len(given)}")
        return self

    def resolve_count(self, pool: int) -> int | None:
        """Number of samples for a pool of this many usable samples; None for a token budget.

        Args:
            pool: Usable samples, n >= 1.
        """
        if self.count is not None:
            return self.count
        if self.fraction is not None:
            return max(1, int(self.fraction * pool + 0.5))
        return None


class ProxyConfig(Model):
    """The small model whose gradients stand for the samples."""

    model: Annotated[str, Field(min_length=1, max_length=500)] = "builtin:tiny"
    """``builtin:tiny``, a Hugging Face hub id (``org/name``), a local folder with safetensors, or a GGUF file."""
    revision: Annotated[str, Field(min_length=1, max_length=200)] | None = None
    """Commit of the hub id; resolved to a 40-hex commit when the job is made. Not allowed for other models."""
    adapter: Annotated[str, Field(min_length=1, max_length=500)] | None = None
    """A local folder with a LoRA adapter of PEFT, which is merged into the model."""


class Tuning(Model):
    """How the proxy model is tuned: before the gradients are taken, or between windows."""

    weights: Literal["lora", "full"] = "lora"
    """``lora``: adapters on the measured layers, of rank ``lora_rank``. ``full``: every weight."""
    learning_rate: Annotated[float, Field(gt=0, le=10)] = 2e-4
    """Learning rate of AdamW; during a warm-up its peak, which is reached after a tenth of the steps and then falls to
    zero in a straight line."""
    step_tokens: Annotated[int, Field(ge=8, le=2**24)] = 8192
    """Tokens of prompt and response in a step of a warm-up, on average; a step has one sample at least."""
    weight_decay: Annotated[float, Field(ge=0, le=10)] = 0.0
    """Weight decay of AdamW."""
    clip: Annotated[float, Field(gt=0, le=1e6)] = 1.0
    """Longest gradient of a step; a longer one is scaled down to it."""


class GradientConfig(Model):
    """What is measured about each sample."""

    measure: Measure = "gradient"
    """What is kept of each sample; follows from the method. ``embedding``: the position-weighted mean of the last
    hidden states, by one forward pass. ``words``: its words, hashed, without the weights of the model."""
    targets: Literal["linear", "lora"] = "linear"
    """``linear``: weights of every linear layer of the transformer blocks. ``lora``: adapters on those layers, fresh
    ones (of which only B has a gradient) or, after a warm-up of adapters, those (of which both have one)."""
    layers: Literal["all", "last_half"] = "all"
    """Whose layers are measured: ``all`` transformer blocks, or the ``last_half`` of them (of an odd number the larger
    half), for half the backward pass and half the numbers."""
    sketch_dim: Annotated[int, Field(ge=1, le=2**24)] | None = 64
    """Numbers kept per layer after the two-sided random projection; None keeps the exact gradient."""
    objective: Objective = "sft"
    """What training minimises: ``sft``; of preference data ``sft_chosen`` (learn the chosen answers) or ``dpo``."""
    dpo_beta: Annotated[float, Field(gt=0, le=10)] = 0.1
    """With ``dpo``: weight of the log-likelihood ratios, beta. It scales all gradients alike."""
    loss: Literal["mean", "sum"] = "mean"
    """Per-sample loss: mean or sum of the cross-entropy (nats) over the response tokens; ``dpo`` always sums."""
    normalize: Literal["unit", "none"] = "unit"
    """``unit`` scales each gradient to length one, so that short answers with large gradients do not win by size."""
    max_length: Annotated[int, Field(ge=8, le=2**20)] = 1024
    """Longest sequence in tokens."""
    overflow: Literal["truncate", "exclude"] = "truncate"
    """What happens to a longer sample: cut at the end (counted), or left out of the pool (counted and listed)."""
    batch_tokens: Annotated[int, Field(ge=8, le=2**24)] = 8192
    """Most padded tokens in one batch; a CPU takes fewer, and a device that runs out of memory halves the batch. Not in
    the fingerprint: another number changes the last bits of a gradient, not what it is."""
    dtype: Literal["auto", "float32", "bfloat16", "float64"] = "float32"
    """Arithmetic of the model. ``auto`` becomes bfloat16 for a model at least 512 wide where every device that may
    measure it multiplies faster so, float32 elsewhere; what it became is recorded in its place."""
    store_dtype: Literal["float32", "float16", "bfloat16"] = "float32"
    """Type in which gradients are kept: two bytes a number instead of four, at 11 or 8 bits of precision."""
    chat_date: Annotated[str, Field(pattern=r"^[0-9]{4}-[0-9]{2}-[0-9]{2}$")] = "2025-01-01"
    """What a chat template that asks for the date is told, as YYYY-MM-DD: never the clock's, so that a run gives the
    same result on any day."""
    lora_rank: Annotated[int, Field(ge=1, le=1024)] = 16
    """Rank of the adapters, measured or tuned, r."""
    lora_alpha: Annotated[float, Field(gt=0, le=65536)] = 32.0
    """Scale of the adapters; they are multiplied by lora_alpha / lora_rank."""
    warmup_steps: Annotated[int, Field(ge=0, le=100_000)] = 0
    """Optimiser steps on a random sample of the pool before the gradients are taken; 0 measures the model as it is."""
    tuning: Tuning = Tuning()
    """How those steps are taken; says nothing while there are none."""
    seed: Annotated[int, Field(ge=0, le=2**32 - 1)] = 0
    """Seed of the projections, of fresh adapters and of what a warm-up sees."""

    @model_validator(mode="after")
    def _a_day_of_the_calendar(self) -> Self:
        year, month, day = map(int, self.chat_date.split("-"))
        if year < 1 or not 1 <= month <= 12 or not 1 <= day <= monthrange(year, month)[1]:
            raise ValueError(f"chat_date {self.chat_date} is no day of the calendar")
        return self

    @property
    def tunes_adapters(self) -> bool:
        """Whether the gradients are taken with adapters that a warm-up has trained."""
        return self.warmup_steps > 0 and self.tuning.weights == "lora"


class Quotas(Model):
    """How many samples each group must and may have, for a grouping of the samples given beside the gradients."""

    column: Annotated[str, Field(min_length=1, max_length=200)] | None = None
    """Column of the records that names the group; None when the groups are given directly."""
    floors: dict[str, Annotated[int, Field(ge=0, le=2**31 - 1)]] = {}
    """Least number of samples of a group."""
    caps: dict[str, Annotated[int, Field(ge=0, le=2**31 - 1)]] = {}
    """Largest number of samples of a group."""
    from_targets: bool = False
    """Take floors from the mix of groups that the targets imply, by the groups of the rows nearest to theirs."""

    @model_validator(mode="after")
    def _floors_below_caps(self) -> Self:
        if self.from_targets and (self.floors or self.caps):
            raise ValueError("give floors and caps, or from_targets")
        crossed = [name for name, floor in self.floors.items() if floor > self.caps.get(name, floor)]
        if crossed:
            raise ValueError(f"the floor is above the cap of {', '.join(sorted(crossed))}")
        return self


class GlobalScope(Model):
    """One pool."""

    kind: Literal["global"] = "global"


class WindowsScope(Model):
    """Independent windows over a shuffled pool, the authors' way: what one window holds, the next does not know."""

    kind: Literal["windows"]
    size: Annotated[int, Field(ge=1, le=2**31 - 1)] = 128
    """Samples in a window; the last may be smaller."""
    per_window: Annotated[int, Field(ge=1, le=2**31 - 1)] | None = None
    """Samples chosen from each; None shares the budget evenly."""


class PartitionedScope(Model):
    """Two rounds: greedy inside each part of the pool, then over the union of the winners."""

    kind: Literal["partitioned"]
    parts: Annotated[int, Field(ge=1, le=2**20)]
    """Number of parts, of nearly equal size, drawn at random."""


Scope = Annotated[GlobalScope | WindowsScope | PartitionedScope, Field(discriminator="kind")]


class SelectionOptions(Model):
    """How to choose, apart from how much."""

    method: Method = "spice"
    """``spice``, or another way to choose from the same gradients: ``fisher`` (no penalty), ``random``, ``stratified``
    (random with the groups' shares of the pool), ``length_matched`` (random with the token histogram of SPICE's own
    choice), ``top_norm``, ``loss`` (highest first), ``less`` (closest to a target set), ``dpp`` (greedy MAP),
    ``facility_location``, ``k_center``, ``herding`` (the mean of the set follows the mean of the pool). Without
    gradients, for the rows of the targets in turn: ``bm25`` (Okapi BM25 of the text), ``embedding`` (RDS+: cosine of
    the position-weighted means of the proxy's last hidden states)."""
    information: Information = "logdet"
    """``logdet`` is exact; ``diagonal`` and ``scalar`` are the surrogates of the authors' code."""
    alpha: Annotated[float, Field(gt=0, le=1e12)] = 1.0
    """Fisher scale, alpha in U(S) = logdet(I + alpha F_S)."""
    conflict_penalty: Annotated[float, Field(ge=0, le=10)] = 0.1
    """Weight of the conflict in the score, lambda. The paper finds 0.1 to 0.5 robust; 0 is plain Fisher greedy."""
    matching_weight: Annotated[float, Field(ge=0, le=1000)] = 0.0
    """Weight of what the set still lacks beside the pool's mean gradient, for ``spice`` and ``fisher``: adds
    weight * g . w / |m| to the score. Not in the paper; 0 leaves it out. Each pick then costs a pass over the pool."""
    target_rule: Literal["matching", "relevance"] = "matching"
    """What a row is worth for a target with the mean gradient m. ``matching``: g . w / |m|, where w is what the picks
    for the target still lack beside m. ``relevance``: g . m / |m|."""
    relevance_weight: Annotated[float, Field(ge=0, le=1000)] = 1.0
    """Weight of that in the score, w; above 0."""
    information_weight: Annotated[float, Field(ge=0, le=1000)] = 1.0
    """Weight of the gain in the score, eta, for ``spice`` and ``fisher``, with targets and without."""
    whitening_damping: Annotated[float, Field(gt=0, le=1e6)] | None = 0.1
    """With targets: gradients are whitened in each layer by their second moment over the pool, with this share of its
    mean eigenvalue added; None leaves them as they are."""
    whitening_rows: Annotated[int, Field(ge=1, le=2**53)] | None = None
    """Whiten by so many first usable rows, such as those that were there before others were appended; None by all."""
    protect_weight: Annotated[float, Field(ge=0, le=1000)] = 1.0
    """A row pays weight * max(0, -cos) with the mean gradient of each protected set; 0 only reports."""
    span: bool = False
    """With targets: select in the space that the target rows span, in as many numbers as there are target rows."""
    stop_ratio: Annotated[float, Field(gt=0, lt=1)] | None = None
    """Stop before a pick whose gain is at most this share of the first pick's gain, omega; None never stops early."""
    min_gain: Annotated[float, Field(gt=0, le=1e6)] | None = None
    """Stop before a pick whose gain is at most this, nats."""
    min_count: Annotated[int, Field(ge=1, le=2**31 - 1)] | None = None
    """Samples below which ``stop_ratio`` and ``min_gain`` do not stop."""
    max_count: Annotated[int, Field(ge=1, le=2**31 - 1)] | None = None
    """Most samples, beside a budget in another unit."""
    quotas: Quotas | None = None
    """Floors and caps of groups of samples."""
    scope: Scope = GlobalScope()
    """``global``, or one of the ways for pools too large for one machine."""
    seed: Annotated[int, Field(ge=0, le=2**32 - 1)] = 0
    """Seed of everything that is drawn at random."""


class SelectionConfig(SelectionOptions):
    """What to choose and when to stop."""

    budget: Budget
    """How much to choose."""


class OfflineSchedule(Model):
    """All gradients first, at one model; then the choice."""

    kind: Literal["offline"] = "offline"


class PeriodicSchedule(Model):
    """The paper's loop: measure a window, choose from it, now and then take a step on what was chosen, next window.

    Needs the scope ``windows``; ``gradients.tuning`` says how a step is taken.
    """

    kind: Literal["periodic"]
    steps_every: Annotated[int, Field(ge=1, le=2**31 - 1)] | None = 10
    """Windows between two optimiser steps, T; a step sees what was chosen since the one before. None takes none, which
    is what ``offline`` chooses from the same windows."""


Schedule = Annotated[OfflineSchedule | PeriodicSchedule, Field(discriminator="kind")]


class RunConfig(Model):
    """Everything that decides the result of a run on given data."""

    proxy: ProxyConfig = ProxyConfig()
    gradients: GradientConfig = GradientConfig()
    schedule: Schedule = OfflineSchedule()
    selection: SelectionConfig
    conditions: Conditions = Conditions()
    preset: Preset | None = None
    """Name of the settings that fill in what was not set, see ``spice_select.defaults``. Left out, it is
    ``recommended`` for the method ``spice`` on a whole pool; None fills in nothing."""

    @property
    def has_trained_proxy(self) -> bool:
        """Whether there are losses of the proxy, and they say something about a row."""
        if self.selection.method == "bm25":
            return False
        return not self.proxy.model.startswith("builtin:") or self.gradients.warmup_steps > 0
