"""A ``gradients`` unit: the gradients of one shard of a data set are computed and stored."""

from __future__ import annotations

import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from app.persistence.repositories import Datasets, Events, GradientSets, Jobs, Units
from app.services.units.commits import Outcome
from app.services.units.inputs import Preparation, preparations, proxy_of
from app.services.units.leases import Claim
from app.status import GradientSetStatus, UnitKind
from spice_select.config import GradientConfig, ProxyConfig
from spice_select.models.memory import forget_peak, host_bytes, peak_bytes
from workers.device import device_bytes, fitting_threads
from workers.heartbeat import Heartbeat
from workers.units.handler import UnitHandler


@dataclass(frozen=True)
class GradientsInputs:
    """Which rows are measured, with which proxy model, and how."""

    rows_sha256: str
    first_position: int
    fingerprint: str
    proxy: ProxyConfig
    proxy_revision: str
    gradients: GradientConfig
    warmup: Preparation | None
    prefilter: Preparation | None


class GradientsHandler(UnitHandler[GradientsInputs, Outcome]):
    """Computes a gradient shard."""

    kind = UnitKind.GRADIENTS

    def load(self, session: Any, claim: Claim) -> GradientsInputs:
        """Read which shard it is and how it is measured."""
        assert claim.gradient_set_id is not None
        assert claim.shard is not None
        gradient_set = GradientSets(session).get(claim.project_id, claim.gradient_set_id)
        assert gradient_set is not None
        unit = Units(session).get(claim.unit_id)
        dataset = Datasets(session).get_even_deleted(claim.dataset_id)
        if dataset.deleted_at is not None:  # another one with the same conversations wants it
            dataset = GradientSets(session).dataset_in_use(claim.gradient_set_id) or dataset
        shards = dataset.shards or []
        return GradientsInputs(
            rows_sha256=shards[claim.shard]["sha256"],
            first_position=sum(shard["rows"] for shard in shards[: claim.shard]),
            fingerprint=(unit.fingerprint if unit is not None else None) or gradient_set.fingerprint,
            **preparations(session, claim.gradient_set_id),
            **proxy_of(gradient_set),
        )

    def run(self, claim: Claim, inputs: GradientsInputs, heartbeat: Heartbeat, _folder: Path) -> Outcome:
        """Measure the shard and store it.

        Raises:
            ArtifactsLostError: The warm-up or the prefilter has to be made again.
            ServiceError: ``proxy-changed`` or ``artifact-corrupt``.
            Stopped: The heartbeat said so.
        """  # ruff: ignore[docstring-extraneous-exception] - raised by the steps below
        heartbeat.phase("loading_model")
        from spice_select.pipeline.measure import measure_shard
        from spice_select.results.run_metadata import ProxyFacts
        from spice_select.storage.shards import write_shard
        from workers.storage.inputs import stored_prefilter, stored_warmup

        resources, project_id = self.resources, claim.project_id
        warmup = None if inputs.warmup is None else stored_warmup(resources.store, project_id, inputs.warmup)
        kept = None if inputs.prefilter is None else stored_prefilter(resources.store, project_id, inputs.prefilter)
        after = {kind: made.sha256 for kind, made in (("warmup", warmup), ("prefilter", kept)) if made is not None}
        proxy = resources.proxy(inputs.proxy, inputs.proxy_revision, inputs.gradients, warmup)
        rows = resources.store.intact(project_id, inputs.rows_sha256)
        heartbeat.phase("computing_gradients", measure="samples")
        began = time.monotonic()
        forget_peak(resources.device)
        with fitting_threads(proxy.model):
            shard = measure_shard(
                rows,
                inputs.first_position,
                proxy,
                inputs.gradients,
                header={"fingerprint": inputs.fingerprint, "shard": claim.shard, **after},
                prefiltered=kept,
                on_progress=lambda completed, _total, tokens: heartbeat.advance(completed, tokens=tokens),
                should_stop=heartbeat.should_stop,
            )
        seconds = time.monotonic() - began
        with resources.shards.scratch() as path:
            sha256 = write_shard(path, shard)
            location = resources.shards.add(project_id, path, sha256)
        result = {
            "samples": len(shard.rows),
            "tokens": int(shard.tokens.sum()),
            "shortest": int(shard.tokens.min()) if len(shard.tokens) else None,
            "excluded": len(shard.excluded),
            "truncated": len(shard.truncated),
            "halvings": shard.header.get("halvings", 0),
            "seconds": round(seconds, 3),
            "device": resources.device_name,
            "device_bytes": device_bytes(resources.device),
            "host_bytes": host_bytes(),
            "peak_bytes": peak_bytes(resources.device),
            "proxy": asdict(ProxyFacts.of(proxy)),
            **after,
            **location,
        }
        return Outcome(sha256, result)

    def lock(self, session: Any, claim: Claim) -> None:
        """Lock the set, so that the later of two last shards sees the earlier one done."""
        assert claim.gradient_set_id is not None
        GradientSets(session).lock(claim.gradient_set_id)

    def commit(self, session: Any, claim: Claim, outcome: Outcome) -> None:  # ruff: ignore[unused-method-argument]
        """Make the set ready when this was its last shard."""
        assert claim.gradient_set_id is not None
        if Units(session).unfinished_shards(claim.gradient_set_id):
            return
        GradientSets(session).set_status(claim.gradient_set_id, GradientSetStatus.READY)
        for job in Jobs(session).waiting_on(claim.gradient_set_id):
            data = {"gradient_set_id": claim.gradient_set_id}
            Events(session).append(claim.project_id, "job.gradients_ready", job_id=job.id, data=data)
