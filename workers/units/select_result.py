"""The files of a selection on their way into the store, and the numbers of the job's result."""

from __future__ import annotations

from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq

from app.services.jobs.planning import whole_fingerprint
from app.services.units.inputs import SelectInputs
from app.services.units.leases import Claim
from app.storage import ArtifactStore
from spice_select.pipeline.write import write_choice
from spice_select.results.outcome import Choice
from spice_select.results.run_metadata import (
    BaseSelectionFacts,
    DatasetFacts,
    PrefilterFacts,
    ProxyFacts,
    RunFacts,
    SourceFacts,
    WarmupFacts,
    reading_of,
)
from workers.heartbeat import Heartbeat
from workers.units.select import SelectionOutcome
from workers.units.stored_selection import StoredSelection

MAX_LISTED = 1000
"""Excluded samples that a job's result lists; the count is always whole."""


def store_result(
    store: ArtifactStore,
    claim: Claim,
    inputs: SelectInputs,
    choice: Choice,
    storage: StoredSelection,
    folder: Path,
    heartbeat: Heartbeat,
    *,
    proxy: ProxyFacts,
    device: str,
) -> SelectionOutcome:
    """Write the files of a result into the store.

    Args:
        store: Artifacts.
        claim: The lease.
        inputs: What was asked for.
        choice: What was selected.
        storage: Where the rows are.
        folder: An empty folder for drafts.
        heartbeat: Told that files are written; knows how long every step took.
        proxy: The proxy model that measured.
        device: Where it measured.
    """
    heartbeat.phase("writing_files")
    facts = _facts(inputs, choice, proxy, device)
    summary, written = write_choice(folder / "files", choice, storage, facts)
    for file in written.files:
        store.add(claim.project_id, folder / "files" / file.name, file.sha256)
    result: dict[str, Any] = {
        **summary,
        "excluded_samples": _listed(inputs, storage, choice.excluded[:MAX_LISTED]),
        "seconds": heartbeat.seconds(),
        "proxy": asdict(proxy),
        "device": device,
        "halvings": choice.halvings,
        **({} if facts.warmup is None else {"warmup": asdict(facts.warmup)}),
    }
    return SelectionOutcome(
        artifact_sha256=None,
        result={"selected": summary["selected"]},
        job_result=result,
        ranking=[row.model_dump() for row in written.ranking],
        files=[asdict(file) for file in written.files],
        partial=choice.selection.partial,
    )


def _listed(inputs: SelectInputs, storage: StoredSelection, excluded: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Excluded samples by their row in the source, which is what their owner knows."""
    wanted = {item["row"] for item in excluded}
    source_rows: dict[int, int] = {}
    first = 0
    for shard, path in zip(inputs.dataset.shards or [], storage.rows_shards, strict=True):
        inside = [position for position in wanted if first <= position < first + shard["rows"]]
        if inside:
            column = pq.read_table(path, columns=["source_row"]).column(0)
            source_rows.update((position, column[position - first].as_py()) for position in inside)
        first += shard["rows"]
    return [
        {"source_row": source_rows[item["row"]], "code": item["code"], "detail": item["detail"]} for item in excluded
    ]


def _facts(inputs: SelectInputs, choice: Choice, proxy: ProxyFacts, device: str) -> RunFacts:
    dataset, warmup, kept = inputs.dataset, inputs.warmup, inputs.prefilter
    return RunFacts(
        dataset=DatasetFacts(
            name=dataset.name or dataset.id,
            uri=f"spice:dataset/{dataset.id}",
            sha256=dataset.sha256,
            bytes=dataset.bytes,
            rows_sha256=dataset.rows_sha256 or "",
            num_rows=dataset.num_rows or 0,
            num_usable=dataset.num_usable or 0,
            container=dataset.container or "",
            form=dataset.format or "",
            columns=dataset.columns or {},
            source=SourceFacts.of(dataset.source, dataset.resolved_source),
            reading=reading_of(dataset.requested),
        ),
        proxy=proxy,
        config=inputs.config,
        gradient_fingerprint=whole_fingerprint(inputs.gradient_set),
        gradients_reused=inputs.job.gradients_reused,
        halvings=choice.halvings,
        device=device,
        invocation_id=inputs.job.id,
        started_on=inputs.job.started_at or inputs.created_at,
        finished_on=datetime.now(UTC),
        builder="service",
        given=[BaseSelectionFacts(f"spice:job/{base.job_id}", base.ranking_sha256) for base in inputs.bases],
        targets=choice.targets,
        protected=choice.protected,
        prefilter=None if kept is None else PrefilterFacts(kept.fingerprint, kept.sha256, **kept.result["report"]),
        warmup=None if warmup is None else WarmupFacts.of(warmup.fingerprint, warmup.sha256, warmup.result),
    )
