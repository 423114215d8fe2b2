"""A ``prefilter`` unit: a cheap ranking of the pool for the targets of a job says which rows get gradients."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from app.persistence.repositories import Datasets, Events, GradientSets, Jobs, Units
from app.persistence.tables import Dataset
from app.services.compat import understood
from app.services.units.commits import Outcome
from app.services.units.inputs import ClaimGoneError, proxy_of
from app.services.units.leases import Claim
from app.status import UnitKind
from spice_select.config import ProxyConfig, RunConfig
from spice_select.errors import StoreError
from spice_select.fingerprint import embedding_settings
from workers.device import fitting_threads
from workers.heartbeat import Heartbeat
from workers.units.handler import UnitHandler

if TYPE_CHECKING:
    from spice_select.pipeline.pool import Pool


@dataclass(frozen=True)
class PrefilterInputs:
    """Which rows are ranked, for what, and how.

    Attributes:
        job_id: The first of the jobs that wait; all of them agree in what decides the ranking.
        fingerprint: Name of everything that decides it.
        pool: The data set to rank.
        target: The data set of the targets and protected sets.
        owned: Rows of the source in the base selection.
        config: Settings of the job.
        proxy: The proxy model, for embeddings.
        proxy_revision: Its revision.
    """

    job_id: str
    fingerprint: str
    pool: Dataset
    target: Dataset
    owned: list[int]
    config: RunConfig
    proxy: ProxyConfig
    proxy_revision: str


class PrefilterHandler(UnitHandler[PrefilterInputs, Outcome]):
    """Ranks a pool."""

    kind = UnitKind.PREFILTER

    def load(self, session: Any, claim: Claim) -> PrefilterInputs:
        """Read how, from the first job that waits for it.

        Raises:
            ClaimGoneError: None does any more.
        """
        unit = Units(session).get(claim.unit_id)
        waiting = Jobs(session).waiting_on_preparation(claim.unit_id)
        if unit is None or unit.fingerprint is None or not waiting:
            raise ClaimGoneError
        job, datasets = waiting[0], Datasets(session)
        config = understood(RunConfig, job.config, f"job {job.id}")
        gradient_set = GradientSets(session).get(job.project_id, job.gradient_set_id)
        assert gradient_set is not None
        assert job.target_dataset_id is not None
        measured = proxy_of(gradient_set)
        return PrefilterInputs(
            job_id=job.id,
            fingerprint=unit.fingerprint,
            pool=datasets.get_even_deleted(job.dataset_id),
            target=datasets.get_even_deleted(job.target_dataset_id),
            owned=Jobs(session).owned_rows(job.project_id, config.conditions.given_job),
            config=config,
            proxy=measured["proxy"],
            proxy_revision=measured["proxy_revision"],
        )

    def run(self, claim: Claim, inputs: PrefilterInputs, heartbeat: Heartbeat, folder: Path) -> Outcome:
        """Rank the pool and store which rows are kept. Embeddings of a shard that is done survive a lost lease.

        Raises:
            ServiceError: ``proxy-changed`` or ``artifact-corrupt``.
            Stopped: The heartbeat said so.
        """  # ruff: ignore[docstring-extraneous-exception] - raised by the steps below
        heartbeat.phase("prefiltering", measure="rows")
        from spice_select.pipeline.prefilter import prefilter, write_prefiltered
        from workers.storage.target_rows import target_rows

        began, store = time.monotonic(), self.resources.store
        pool, beside = (
            [store.intact(claim.project_id, shard["sha256"]) for shard in dataset.shards or []]
            for dataset in (inputs.pool, inputs.target)
        )
        targets, protect = target_rows(inputs.config.conditions, beside)
        found = prefilter(
            inputs.config,
            pool,
            targets,
            protect,
            inputs.owned,
            lambda rows: self._embeddings(rows, inputs, heartbeat),
            on_progress=heartbeat.advance,
            should_stop=heartbeat.should_stop,
        )
        written = write_prefiltered(folder / "prefilter", found, inputs.fingerprint)
        sha256 = store.add(claim.project_id, folder / "prefilter", written)
        return Outcome(sha256, {"report": dict(found.result), "seconds": round(time.monotonic() - began, 3)})

    def _embeddings(self, rows_shards: Sequence[Path], inputs: PrefilterInputs, heartbeat: Heartbeat) -> Pool:
        from spice_select.pipeline.measure import measure_shard
        from spice_select.pipeline.pool import load_pool
        from spice_select.results.run_metadata import ProxyFacts
        from spice_select.storage.shards import read_shard, write_shard

        settings = embedding_settings(inputs.config.gradients)
        proxy = self.resources.proxy(inputs.proxy, inputs.proxy_revision, settings)
        place = self.resources.store.checkpoints(inputs.job_id)
        place.mkdir(parents=True, exist_ok=True)
        shards, first = [], 0
        with fitting_threads(proxy.model):
            for number, rows in enumerate(rows_shards):
                name = f"{inputs.fingerprint}-{rows.name}"
                path = place / f"{name}.safetensors"
                try:
                    shard = read_shard(path, fingerprint=name)
                except StoreError:
                    shard = measure_shard(
                        rows,
                        first,
                        proxy,
                        settings,
                        header={"fingerprint": name, "shard": number, "proxy": asdict(ProxyFacts.of(proxy))},
                        on_progress=lambda done, _total, tokens, first=first: heartbeat.advance(  # type: ignore[misc]
                            first + done, tokens=tokens
                        ),
                        should_stop=heartbeat.should_stop,
                    )
                    write_shard(path, shard)
                first += len(shard.rows) + len(shard.excluded)
                shards.append((path, None, name))
        return load_pool([(path, sha256) for path, sha256, _ in shards], [name for _, _, name in shards])

    def commit(self, session: Any, claim: Claim, outcome: Outcome) -> None:
        """Tell the jobs that wait for it; gradients of the rows that are kept are runnable from now on."""
        for job in Jobs(session).waiting_on_preparation(claim.unit_id):
            data = {"sha256": outcome.artifact_sha256, **outcome.result["report"]}
            Events(session).append(claim.project_id, "job.prefiltered", job_id=job.id, data=data)
