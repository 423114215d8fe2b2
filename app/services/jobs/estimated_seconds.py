"""The seconds that a job will take: a plain count of the work, corrected by what the project's own past work took."""

from __future__ import annotations

from collections.abc import Sequence

from app.persistence.repositories.history import RecordedSelection, RecordedShard
from app.services.workers import WorkerMemory
from spice_select.config import RunConfig
from spice_select.models.architecture import ProxyShape

SHARD_SECONDS = 0.05
"""What measuring a shard costs before its first token."""
TOKEN_SECONDS = 3e-5
"""What a token costs on a processor beside the arithmetic of the model, which for a tiny model is all there is."""
PROCESSOR_FLOPS = 1.2e11
"""Operations a second of two cores with SmolLM2-135M: what is assumed until a unit of the project has run."""
SELECT_SECONDS = 0.03
PAIR_SECONDS = 4e-6
SELECT_RATE = 1.5e9
"""What choosing takes for a row of the pool at one pick: so much, and its features at so many a second."""
OTHER_SECONDS = 1.0
"""Starting the units of a job, loading the gradients, writing the files: 0.9 to 1.6 in the embedded service."""


def estimated_seconds(
    config: RunConfig,
    shape: ProxyShape | None,
    past: Sequence[RecordedShard],
    selections: Sequence[RecordedSelection],
    workers: Sequence[WorkerMemory],
    *,
    tokens: int | None,
    rows: int,
    measured: int,
    rows_left: int,
    notes: list[str],
) -> tuple[dict[str, float | None], str | None]:
    """Seconds of ``gradients``, ``selecting``, ``other`` and ``total``, and on what those of the gradients rest.

    Args:
        config: Settings of the job.
        shape: Sizes of its proxy model; None where they are not known.
        past: Shards that the project measured with the same model.
        selections: Choices that jobs of the project made.
        workers: Those that are there.
        tokens: Of all usable rows.
        rows: Usable rows.
        measured: Those of them that get gradients.
        rows_left: Those of them that have none yet.
        notes: Taken further by what could not be told, and by the basis.
    """
    gradients: float | None = None
    basis = None
    if not rows_left:
        gradients = 0.0
    elif tokens is None:
        notes.append("seconds: the tokens are not known")
    else:
        work = tokens * rows_left / max(1, rows) + _tuned_tokens(config, tokens, rows)
        gradients, basis = _gradients(config, shape, past, workers, work)
        notes.append(f"seconds: {_BASES[basis]}")
    selecting = _selecting(config, shape, selections, workers, tokens=tokens, rows=rows, measured=measured)
    if selecting is None:
        notes.append(f"seconds: the time for selection is unknown, no job with {config.selection.method} has ended yet")
    total = None if gradients is None or selecting is None else gradients + selecting + OTHER_SECONDS
    found = {"gradients": gradients, "selecting": selecting, "other": OTHER_SECONDS, "total": total}
    return {name: None if value is None else round(value, 3) for name, value in found.items()}, basis


_BASES = {
    "measured": "from units of this project with the same model and settings",
    "other_settings": "from units of this project with the same model and other settings of the gradients",
    "assumed": "no unit with this model has run yet, so a processor with two cores is taken",
    None: "no unit with this model has run yet",
}


def _gradients(
    config: RunConfig,
    shape: ProxyShape | None,
    past: Sequence[RecordedShard],
    workers: Sequence[WorkerMemory],
    tokens: float,
) -> tuple[float | None, str | None]:
    """Seconds of measuring so many tokens, and their basis."""
    a_token = TOKEN_SECONDS + (0.0 if shape is None else 6 * shape.parameters / PROCESSOR_FLOPS)
    settings = config.gradients.model_dump(mode="json")
    alike = [shard for shard in past if shard.config["gradients"] == settings]
    for basis, shards in (("measured", alike), ("other_settings", past)):
        counted = sum(SHARD_SECONDS + shard.result["tokens"] * a_token for shard in shards if shard.result["tokens"])
        if counted:
            spent = sum(shard.result["seconds"] for shard in shards if shard.result["tokens"])
            return (SHARD_SECONDS + tokens * a_token) * spent / counted, basis
    if shape is not None and _on_processors(workers):
        return SHARD_SECONDS + tokens * a_token, "assumed"
    return None, None


def _selecting(
    config: RunConfig,
    shape: ProxyShape | None,
    selections: Sequence[RecordedSelection],
    workers: Sequence[WorkerMemory],
    *,
    tokens: int | None,
    rows: int,
    measured: int,
) -> float | None:
    budget = config.selection.budget
    picks: float | None = budget.resolve_count(rows)
    if picks is None and budget.tokens is not None and tokens:
        picks = min(rows, budget.tokens * rows / tokens)
    if picks is None:
        return None
    method, settings = config.selection.method, config.gradients.model_dump(mode="json")
    features = 1 if shape is None else shape.features(config.gradients)

    def counted(pool: int, selected: float) -> float:
        return SELECT_SECONDS + pool * selected * (PAIR_SECONDS + features / SELECT_RATE)

    alike = [
        job
        for job in selections
        if job.config["selection"].get("method") == method and job.config["gradients"] == settings
    ]
    if alike:
        spent = sum(job.seconds for job in alike)
        return counted(measured, picks) * spent / sum(counted(job.pool, job.selected) for job in alike)
    return counted(measured, picks) if shape is not None and _on_processors(workers) else None


def _on_processors(workers: Sequence[WorkerMemory]) -> bool:
    """Whether the workers compute without an accelerator, whose memory is not that of the machine."""
    return bool(workers) and all(worker.device_bytes == worker.host_bytes for worker in workers)


def _tuned_tokens(config: RunConfig, tokens: int, rows: int) -> float:
    """Tokens that tuning sends through the proxy model: of a warm-up, and of the rows that ``periodic`` chooses."""
    warmup = config.gradients.warmup_steps * config.gradients.tuning.step_tokens
    if config.schedule.kind != "periodic" or config.schedule.steps_every is None:
        return warmup
    return warmup + tokens * (config.selection.budget.resolve_count(rows) or 0) / max(1, rows)
