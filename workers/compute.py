"""The units that need torch: a gradient shard and a selection. Imported only where they run."""

from __future__ import annotations

import time
from dataclasses import asdict
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq

from app.errors import ServiceError
from app.services.briefs import GradientsBrief, SelectBrief, TargetBrief
from app.services.commits import GradientsOutcome, PartOutcome, SelectionOutcome
from app.services.units import Claim
from app.settings import Settings
from app.status import JobStatus
from app.storage import ArtifactStore
from spice_select.candidates import Candidates
from spice_select.conditions import settle
from spice_select.config import GradientConfig, ProxyConfig
from spice_select.errors import EmptyPoolError, Stopped
from spice_select.greedy import Part, random_curve, select, select_part
from spice_select.memory import host_bytes
from spice_select.part_files import write_part
from spice_select.pool_shards import Pool, measure_shard, open_pool, pool_within, read_groups
from spice_select.proxy import Proxy, load_proxy
from spice_select.results import composition, summarise, write_results
from spice_select.run_facts import DatasetFacts, GivenFacts, ProxyFacts, RunFacts, SourceFacts, TargetFacts
from spice_select.selection import STOPPED
from spice_select.stacked import Stacked
from spice_select.store import write_shard
from workers.device import choose_device, describe_device, device_bytes, fitting_threads
from workers.heartbeat import Heartbeat
from workers.stored import part_header, stored_parts, stored_pool

MAX_LISTED = 1000
"""Excluded samples that a job's result lists; the count is always whole."""


class Compute:
    """Gradients and selections of one worker process.

    Args:
        settings: For the device.
        store: Artifacts.
    """

    def __init__(self, settings: Settings, store: ArtifactStore) -> None:
        self.store = store
        self.device = choose_device(settings.device)
        self.device_name = describe_device(self.device)
        self._fitting = partial(pool_within, memory_bytes=settings.worker_memory_bytes or host_bytes())
        self._loaded: tuple[str, Proxy] | None = None

    def gradients(self, claim: Claim, brief: GradientsBrief, heartbeat: Heartbeat) -> GradientsOutcome:
        """Measure one shard of the pool and store it.

        Raises:
            ServiceError: ``proxy-changed`` or ``artifact-corrupt``.
            Stopped: The heartbeat said so.
        """  # ruff: ignore[docstring-extraneous-exception] - raised by the steps below
        proxy = self.proxy(brief.proxy, brief.proxy_revision, brief.gradients)
        rows = self.store.intact(claim.project_id, brief.rows_sha256)
        heartbeat.phase("computing_gradients", measure="samples")
        began = time.monotonic()
        with fitting_threads(proxy.model):
            shard = measure_shard(
                rows,
                brief.first_position,
                proxy,
                brief.gradients,
                header={"fingerprint": brief.fingerprint, "shard": claim.shard},
                on_progress=lambda completed, _total, _tokens: heartbeat.advance(completed),
                should_stop=heartbeat.should_stop,
            )
        seconds = time.monotonic() - began
        with self.store.scratch() as folder:
            path = folder / "shard"
            sha256 = self.store.add(claim.project_id, path, write_shard(path, shard))
        result = {
            "samples": len(shard.rows),
            "tokens": int(shard.tokens.sum()),
            "shortest": int(shard.tokens.min()) if len(shard.tokens) else None,
            "excluded": len(shard.excluded),
            "truncated": len(shard.truncated),
            "halvings": shard.header.get("halvings", 0),
            "seconds": round(seconds, 3),
            "device": self.device_name,
            "device_bytes": device_bytes(self.device),
            "host_bytes": host_bytes(),
            "proxy": asdict(ProxyFacts.of(proxy)),
        }
        return GradientsOutcome(sha256, result)

    def part(self, claim: Claim, brief: SelectBrief, heartbeat: Heartbeat) -> PartOutcome:
        """Choose from one part of the pool and store the choice.

        Raises:
            ArtifactsLostError: Gradient shards have to be made again.
            Stopped: The heartbeat said so; a part that is not done is worth nothing.
        """  # ruff: ignore[docstring-extraneous-exception] - the first is raised by stored_pool()
        assert claim.shard is not None
        began = time.monotonic()
        pool = stored_pool(self.store, claim.project_id, brief.shards, brief.gradient_set.fingerprint, load=open_pool)
        heartbeat.phase("selecting", measure="picks")
        part = select_part(
            pool.features,
            brief.config.selection,
            claim.shard,
            costs=pool.tokens.tolist(),
            losses=pool.losses.tolist(),
            on_progress=heartbeat.advance,
            should_stop=heartbeat.should_stop,
        )
        if part is None:
            part = Part([], "pool_exhausted", 0)  # samples were left out, and fewer are left than parts were asked for
        if part.stop_reason in STOPPED:
            raise Stopped("the part is given back")
        with self.store.scratch() as folder:
            written = write_part(folder / "part", part, part_header(brief, claim.shard))
            sha256 = self.store.add(claim.project_id, folder / "part", written)
        seconds = round(time.monotonic() - began, 3)
        return PartOutcome(sha256, {"picks": len(part.picks), "refreshed": part.refreshed, "seconds": seconds})

    def select(self, claim: Claim, brief: SelectBrief, folder: Path, heartbeat: Heartbeat) -> SelectionOutcome:
        """Choose from the whole pool and write the files of the result into the store.

        Raises:
            ArtifactsLostError: Gradient shards or choices of parts have to be made again.
            Stopped: The lease was lost or the process is going down. A job that is cancelled or past its deadline
                keeps its prefix instead.
        """  # ruff: ignore[docstring-extraneous-exception] - the first is raised by stored_pool()
        marks = [time.monotonic()]
        config = brief.config.selection
        # After a first round the gradients stay on the disk: only the winners of the parts are read as a whole.
        load = open_pool if brief.parts else self._fitting
        pool = stored_pool(self.store, claim.project_id, brief.shards, brief.gradient_set.fingerprint, load=load)
        targets = None if brief.target is None else self._targets(claim, brief.target)
        parts = stored_parts(self.store, claim.project_id, brief, len(pool.positions)) if brief.parts else None
        candidates = Candidates(pool.features)
        marks.append(time.monotonic())
        heartbeat.phase("selecting", total=config.budget.resolve_count(len(pool.positions)), measure="picks")
        rows_shards = [self.store.intact(claim.project_id, shard["sha256"]) for shard in brief.dataset.shards or []]
        column = config.quotas.column if config.quotas is not None else None
        settled = settle(
            brief.config.conditions, pool, rows_shards, brief.given.source_rows if brief.given is not None else ()
        ).arguments()
        selection = select(
            candidates,
            config,
            parts=parts,
            costs=pool.tokens.tolist(),
            losses=pool.losses.tolist(),
            groups=read_groups(rows_shards, column, pool.positions.tolist()) if column is not None else None,
            **settled,
            targets=targets,
            on_progress=heartbeat.advance,
            should_stop=lambda: "deadline" if heartbeat.stop == JobStatus.EXPIRED else heartbeat.should_stop(),
        )
        if selection.partial and (heartbeat.lost or heartbeat.stop is None):
            raise Stopped("the selection is given back")
        control = random_curve(candidates, config, len(selection.indices), config.seed, **settled)
        marks.append(time.monotonic())
        heartbeat.phase("writing_files")
        tokens = pool.tokens.tolist()
        summary = summarise(
            selection,
            tokens=tokens,
            excluded=pool.excluded,
            truncated=len(pool.truncated),
            random_utility=control[-1][1] if control else 0.0,
        )
        summary["random_control"]["curve"] = control
        summary["composition"] = composition(
            tokens=tokens,
            chosen=selection.indices,
            positions=pool.positions.tolist(),
            rows_shards=rows_shards,
            column=column,
        )
        facts = self._facts(brief, pool)
        written = write_results(
            folder / "files",
            rows_shards=rows_shards,
            source_shards=[
                self.store.intact(claim.project_id, shard["sha256"]) for shard in brief.dataset.source_shards or []
            ],
            selection=selection,
            positions=pool.positions.tolist(),
            tokens=tokens,
            summary=summary,
            facts=facts,
        )
        for file in written.files:
            self.store.add(claim.project_id, folder / "files" / file.name, file.sha256)
        marks.append(time.monotonic())
        names = ("loading_gradients", "selecting", "writing_files")
        result: dict[str, Any] = {
            **summary,
            "excluded_samples": self._listed(claim.project_id, brief, pool.excluded[:MAX_LISTED]),
            "seconds": {name: round(marks[i + 1] - marks[i], 3) for i, name in enumerate(names)},
            "proxy": asdict(facts.proxy),
            "device": facts.device,
            "halvings": pool.halvings,
        }
        ranking = [row._asdict() for row in written.ranking]
        return SelectionOutcome(result, ranking, [asdict(file) for file in written.files], selection.partial)

    def proxy(self, config: ProxyConfig, revision: str, gradients: GradientConfig) -> Proxy:
        """Load the proxy model, or take the one that is loaded already.

        Raises:
            ServiceError: ``proxy-changed`` when the files are no longer the ones the job was made for.
        """
        wanted = f"{revision}/{gradients.digest()}"
        if self._loaded is None or self._loaded[0] != wanted:
            self._loaded = None  # the old one goes before the new one comes: two may not fit
            self._loaded = (wanted, load_proxy(config, gradients, device=self.device))
        proxy = self._loaded[1]
        if proxy.revision != revision:
            self._loaded = None
            raise ServiceError(
                "proxy-changed", f"{config.model} is at {proxy.revision}, the job was made for {revision}"
            )
        return proxy

    def _targets(self, claim: Claim, target: TargetBrief) -> np.ndarray | Stacked:
        """Gradients of the data set that the choice is to be close to, float32 of shape (m, d).

        Raises:
            EmptyPoolError: None of its samples has one.
        """
        try:
            return stored_pool(
                self.store, claim.project_id, target.shards, target.fingerprint, load=self._fitting
            ).features
        except EmptyPoolError as error:
            raise EmptyPoolError(f"target data set: {error.detail}", pointer="#/target_dataset_id") from error

    def _listed(self, project_id: str, brief: SelectBrief, excluded: list[dict[str, Any]]) -> list[dict[str, Any]]:
        """Excluded samples by their row in the source, which is what their owner knows."""
        wanted = {item["row"] for item in excluded}
        source_rows: dict[int, int] = {}
        first = 0
        for shard in brief.dataset.shards or []:
            here = [position for position in wanted if first <= position < first + shard["rows"]]
            if here:
                column = pq.read_table(self.store.path(project_id, shard["sha256"]), columns=["source_row"]).column(0)
                source_rows.update((position, column[position - first].as_py()) for position in here)
            first += shard["rows"]
        return [
            {"source_row": source_rows[item["row"]], "code": item["code"], "detail": item["detail"]}
            for item in excluded
        ]

    def _facts(self, brief: SelectBrief, pool: Pool) -> RunFacts:
        dataset, made = brief.dataset, brief.shards[0].result
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
            proxy=ProxyFacts(**made["proxy"]),
            config=brief.config,
            gradient_fingerprint=brief.gradient_set.fingerprint,
            gradients_reused=brief.job.gradients_reused,
            halvings=pool.halvings,
            device=str(made["device"]),
            invocation_id=brief.job.id,
            started_on=brief.job.started_at or brief.created_at,
            finished_on=datetime.now(UTC),
            builder="service",
            given=None
            if brief.given is None
            else GivenFacts(f"spice:job/{brief.given.job_id}", brief.given.ranking_sha256),
            target=None
            if brief.target is None
            else TargetFacts(
                uri=f"spice:dataset/{brief.target.dataset.id}",
                sha256=brief.target.dataset.sha256,
                rows_sha256=brief.target.dataset.rows_sha256 or "",
                gradient_fingerprint=brief.target.fingerprint,
            ),
        )
