"""The files and numbers of a choice, whichever schedule made it, on their way into the store."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq

from app.services.units.commits import SelectionOutcome
from app.services.units.inputs import SelectInputs
from app.services.units.service import Claim
from app.storage import ArtifactStore
from spice_select.results.composition import composition
from spice_select.results.outcome import Choice
from spice_select.results.run_metadata import (
    BaseSelectionFacts,
    DatasetFacts,
    ProxyFacts,
    RunFacts,
    SourceFacts,
    TargetFacts,
    WarmupFacts,
)
from spice_select.results.write import summarise, write_results

MAX_LISTED = 1000
"""Excluded samples that a job's result lists; the count is always whole."""


def stored_result(
    store: ArtifactStore,
    claim: Claim,
    brief: SelectInputs,
    choice: Choice,
    folder: Path,
    *,
    proxy: ProxyFacts,
    device: str,
    seconds: Mapping[str, float],
) -> SelectionOutcome:
    """Write the files of a result into the store.

    Args:
        store: Artifacts.
        claim: The lease.
        brief: What was asked for.
        choice: What was chosen.
        folder: An empty folder for drafts.
        proxy: The proxy model that measured.
        device: Where it measured.
        seconds: What the steps before took.
    """
    began = time.monotonic()
    rows_shards = [store.intact(claim.project_id, shard["sha256"]) for shard in brief.dataset.shards or []]
    summary = summarise(
        choice.selection,
        tokens=choice.tokens,
        excluded=choice.excluded,
        truncated=choice.truncated,
        random_utility=choice.random_utility,
        schedule=choice.schedule,
    )
    summary["random_control"]["curve"] = choice.random_curve
    quotas = brief.config.selection.quotas
    summary["composition"] = composition(
        tokens=choice.tokens,
        chosen=choice.selection.indices,
        positions=choice.positions,
        rows_shards=rows_shards,
        column=quotas.column if quotas is not None else None,
    )
    facts = _facts(brief, proxy, device, choice.halvings)
    written = write_results(
        folder / "files",
        rows_shards=rows_shards,
        source_shards=[store.intact(claim.project_id, shard["sha256"]) for shard in brief.dataset.source_shards or []],
        selection=choice.selection,
        positions=choice.positions,
        tokens=choice.tokens,
        summary=summary,
        facts=facts,
    )
    for file in written.files:
        store.add(claim.project_id, folder / "files" / file.name, file.sha256)
    result: dict[str, Any] = {
        **summary,
        "excluded_samples": _listed(store, claim.project_id, brief, choice.excluded[:MAX_LISTED]),
        "seconds": {**seconds, "writing_files": round(time.monotonic() - began, 3)},
        "proxy": asdict(proxy),
        "device": device,
        "halvings": choice.halvings,
        **({} if facts.warmup is None else {"warmup": asdict(facts.warmup)}),
    }
    ranking = [row._asdict() for row in written.ranking]
    return SelectionOutcome(result, ranking, [asdict(file) for file in written.files], choice.selection.partial)


def _listed(
    store: ArtifactStore, project_id: str, brief: SelectInputs, excluded: list[dict[str, Any]]
) -> list[dict[str, Any]]:
    """Excluded samples by their row in the source, which is what their owner knows."""
    wanted = {item["row"] for item in excluded}
    source_rows: dict[int, int] = {}
    first = 0
    for shard in brief.dataset.shards or []:
        here = [position for position in wanted if first <= position < first + shard["rows"]]
        if here:
            column = pq.read_table(store.path(project_id, shard["sha256"]), columns=["source_row"]).column(0)
            source_rows.update((position, column[position - first].as_py()) for position in here)
        first += shard["rows"]
    return [
        {"source_row": source_rows[item["row"]], "code": item["code"], "detail": item["detail"]} for item in excluded
    ]


def _facts(brief: SelectInputs, proxy: ProxyFacts, device: str, halvings: int) -> RunFacts:
    dataset, given, target, warmup = brief.dataset, brief.given, brief.target, brief.warmup
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
        ),
        proxy=proxy,
        config=brief.config,
        gradient_fingerprint=brief.gradient_set.fingerprint,
        gradients_reused=brief.job.gradients_reused,
        halvings=halvings,
        device=device,
        invocation_id=brief.job.id,
        started_on=brief.job.started_at or brief.created_at,
        finished_on=datetime.now(UTC),
        builder="service",
        given=None if given is None else BaseSelectionFacts(f"spice:job/{given.job_id}", given.ranking_sha256),
        target=None
        if target is None
        else TargetFacts(
            uri=f"spice:dataset/{target.dataset.id}",
            sha256=target.dataset.sha256,
            rows_sha256=target.dataset.rows_sha256 or "",
            gradient_fingerprint=target.fingerprint,
        ),
        warmup=None if warmup is None else WarmupFacts.of(warmup.fingerprint, warmup.sha256, warmup.result),
        automatic_batches=((brief.job.estimate or {}).get("batch_tokens") or {}).get("requested") == "auto",
    )
