"""What the service answers, as types. Fields a newer service adds are kept and never refused."""

from __future__ import annotations

from datetime import datetime
from pathlib import Path
from typing import Any, Generic, NamedTuple, TypeVar

from pydantic import BaseModel, ConfigDict

from spice_select.results.row_evidence import ExplainedRow
from spice_select.results.selected_sample import SelectedSample

ENDED = frozenset({"succeeded", "failed", "cancelled", "expired"})
"""The closed set of states a job does not leave."""


class Answer(BaseModel):
    """Base of every answer: frozen, open to new fields."""

    model_config = ConfigDict(extra="allow", frozen=True)


Item = TypeVar("Item", bound=Answer)


class Finding(Answer):
    """One thing that is wrong, and where."""

    detail: str
    pointer: str | None = None


class Problem(Answer):
    """An error as the service states it, in an HTTP answer or stored on a job or a data set."""

    title: str | None = None
    status: int | None = None
    detail: str | None = None
    code: str | None = None
    request_id: str | None = None
    retryable: bool = False
    errors: list[Finding] = []
    reasons: dict[str, int] | None = None
    """How many rows there were of each reason."""


class Digest(Answer):
    """Digest (hex) of some bytes."""

    sha256: str


class Progress(Answer):
    """A count on its way. Rate is per second, time to go in seconds."""

    phase: str | None = None
    completed: int = 0
    total: int = 0
    unit: str = ""
    fraction: float | None = None
    rate_per_second: float | None = None
    eta_seconds: float | None = None
    updated_at: datetime | None = None
    tokens_per_second: float | None = None
    memory_bytes: int | None = None


class Dataset(Answer):
    """A registered data set. ``status``: ``validating``, then ``ready`` or ``invalid``."""

    id: str
    name: str | None = None
    status: str
    format: str | None = None
    container: str | None = None
    columns: dict[str, str] | None = None
    bytes: int | None = None
    appended_to: str | None = None
    digest: Digest | None = None
    rows_digest: Digest | None = None
    num_rows: int | None = None
    num_usable: int | None = None
    num_rejected: int | None = None
    rejected: dict[str, int] | None = None
    warnings: list[str] | None = None
    error: Problem | None = None
    metadata: dict[str, Any] = {}
    progress: Progress | None = None
    created_at: datetime | None = None
    ready_at: datetime | None = None
    version: int | None = None

    @property
    def ended(self) -> bool:
        """Whether its validation is over."""
        return self.status != "validating"

    @property
    def step(self) -> str | None:
        """The step it is in."""
        return None if self.progress is None else self.progress.phase


class Part(Answer):
    """A part of a file that has arrived."""

    number: int
    bytes: int
    sha256: str


class Upload(Answer):
    """A file on its way in parts. ``parts`` is None in lists."""

    id: str
    name: str | None = None
    status: str
    format: str | None = None
    columns: dict[str, str] | None = None
    encoding: str | None = None
    metadata: dict[str, str] = {}
    bytes: int
    part_bytes: int
    num_parts: int
    received_bytes: int = 0
    parts: list[Part] | None = None
    dataset_id: str | None = None


class RejectedRow(Answer):
    """A row that cannot be used. ``row`` is its 0-based position in the source."""

    row: int
    code: str
    detail: str


class DatasetRow(Answer):
    """A usable row."""

    row: int
    row_sha256: str
    record: Any
    messages: list[dict[str, Any]] = []


class Certificate(Answer):
    """What is proven about a selection; utilities in nats."""

    utility: float | None = None
    upper_bound: float | None = None
    ratio: float | None = None
    curvature: float | None = None
    greedy_bound: float | None = None


class RandomControl(Answer):
    """As many rows drawn at random; utilities in nats."""

    utility: float | None = None
    curve: list[tuple[int, float]] = []
    """Rows and utility of the first rows of the same draw, ascending."""


class ScopeReport(Answer):
    """What cutting the pool cost, on a random sample of it; utilities in nats."""

    kind: str
    sample: int
    sample_count: int
    utility: float
    exact_utility: float
    loss: float


class Lengths(Answer):
    """Samples by length: bin i holds ``edges[i]`` <= tokens < ``edges[i + 1]``."""

    edges: list[int] = []
    pool: list[int] = []
    selected: list[int] = []


class Group(Answer):
    """Samples of one value of the column."""

    name: str
    pool: int
    selected: int
    implied: float | None = None
    """Share in the mix that the targets imply together; None without targets."""
    targets: dict[str, float] = {}
    """Share in the mix that each target implies."""


class Groups(Answer):
    """Samples by the value of a column, the largest first."""

    column: str
    groups: list[Group] = []


class Composition(Answer):
    """Lengths and groups of the selection beside those of the pool."""

    tokens: Lengths = Lengths()
    groups: Groups | None = None
    floors: dict[str, int] | None = None
    """Floors of the quotas that came from the targets."""


class JobResult(Answer):
    """The numbers of a finished job; utilities and gains in nats."""

    selected: int
    pool: int
    excluded: int = 0
    excluded_by_code: dict[str, int] = {}
    truncated: int = 0
    tokens_selected: int | None = None
    tokens_pool: int | None = None
    utility: float | None = None
    stop_reason: str | None = None
    first_gain: float | None = None
    last_gain: float | None = None
    mean_conflict: float | None = None
    undecided: int | None = None
    notice: str | None = None
    notes: list[str] = []
    protected: list[dict[str, Any]] = []
    certificate: Certificate | None = None
    scope: ScopeReport | None = None
    random_control: RandomControl | None = None
    composition: Composition | None = None
    warmup: dict[str, Any] | None = None
    schedule: dict[str, Any] | None = None
    seconds: dict[str, float | None] = {}
    proxy: dict[str, Any] = {}
    device: str | None = None


class QueuePosition(Answer):
    """Where a queued job stands: ``position`` 1 is next; ``reason`` is open."""

    position: int
    ahead_in_project: int | None = None
    reason: str | None = None
    estimated_start_at: datetime | None = None


class Memory(Answer):
    """Bytes: what the steps need, and what the workers have."""

    gradients: int | None = None
    gradients_least: int | None = None
    tuning: int | None = None
    tuning_least: int | None = None
    selecting_least: int | None = None
    device: int | None = None
    host: int | None = None


class Seconds(Answer):
    """Seconds of work, without waiting in the queue."""

    gradients: float | None = None
    selecting: float | None = None
    other: float | None = None
    total: float | None = None


class Actual(Answer):
    """What the job took in the end."""

    tokens: int | None = None
    seconds: Seconds = Seconds()


class Estimate(Answer):
    """What a job takes; None where nothing is known, and then ``notes`` say why."""

    rows: int
    tokens: int | None = None
    tokens_basis: str | None = None
    batches: int | None = None
    features: int | None = None
    gradient_bytes: int | None = None
    memory: Memory = Memory()
    disk: dict[str, int | None] = {}
    seconds: Seconds = Seconds()
    seconds_basis: str | None = None
    cost: dict[str, Any] | None = None
    shards: dict[str, int] = {}
    gradients_reused: bool = False
    fits: bool | None = None
    obstacles: list[str] = []
    notes: list[str] = []
    actual: Actual | None = None


class Job(Answer):
    """A job. ``status`` is one of queued, running, cancelling and the states of ``ENDED``; ``phase`` is open."""

    id: str
    name: str | None = None
    status: str
    phase: str | None = None
    dataset_id: str | None = None
    gradient_set_id: str | None = None
    gradients_reused: bool | None = None
    config: dict[str, Any] = {}
    metadata: dict[str, Any] = {}
    retry_of: str | None = None
    progress: Progress | None = None
    priority: int = 0
    queue: QueuePosition | None = None
    estimate: Estimate | None = None
    result: JobResult | None = None
    error: Problem | None = None
    partial: bool = False
    created_at: datetime | None = None
    started_at: datetime | None = None
    cancelling_at: datetime | None = None
    finished_at: datetime | None = None
    deadline_at: datetime | None = None
    version: int | None = None

    @property
    def ended(self) -> bool:
        """Whether the job is in a state it does not leave."""
        return self.status in ENDED

    @property
    def step(self) -> str | None:
        """The step it is in."""
        return self.phase


class Event(Answer):
    """One line of a job's history."""

    id: int | str | None = None
    type: str | None = None
    created_at: datetime | None = None
    data: dict[str, Any] = {}


class RankedSample(Answer, SelectedSample):
    """One pick and the evidence for it; gains and scores in nats."""


class RowExplanation(Answer, ExplainedRow):
    """One row of the pool, selected or not, with the evidence for that; gains and score are in nats."""


class File(Answer):
    """A file of a finished job."""

    name: str
    media_type: str | None = None
    bytes: int
    sha256: str


class Link(Answer):
    """An address that opens a file without an API key until it expires."""

    url: str
    expires_at: datetime
    name: str
    k: int | None = None
    bytes: int | None = None
    digest: Digest | None = None


class Page(Answer, Generic[Item]):
    """One page of a list; ``next_cursor`` goes into ``after`` of the next."""

    data: list[Item]
    has_more: bool = False
    next_cursor: str | None = None


class Selected(NamedTuple):
    """What ``Client.select`` returns.

    Attributes:
        dataset: The data set.
        job: The finished job.
        files: Name -> path of the downloaded files.
    """

    dataset: Dataset
    job: Job
    files: dict[str, Path]
