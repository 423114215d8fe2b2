"""A ``warmup`` unit: the proxy model is tuned on a sample of the pool, and the weights that this leaves are stored."""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from app.persistence.repositories import Datasets, Events, GradientSets, Jobs, Units
from app.services.units.commits import Outcome
from app.services.units.inputs import proxy_of
from app.services.units.leases import Claim
from app.status import UnitKind
from spice_select.config import GradientConfig, ProxyConfig
from workers.device import fitting_threads
from workers.heartbeat import Heartbeat
from workers.units.handler import UnitHandler
from workers.units.resources import tunable


@dataclass(frozen=True)
class WarmupInputs:
    """Which rows the proxy model may see, and how it is tuned on them."""

    rows_sha256: list[str]
    fingerprint: str
    proxy: ProxyConfig
    proxy_revision: str
    gradients: GradientConfig


class WarmupHandler(UnitHandler[WarmupInputs, Outcome]):
    """Warms a proxy model up."""

    kind = UnitKind.WARMUP

    def load(self, session: Any, claim: Claim) -> WarmupInputs:
        """Read how: any gradient set that waits for the warm-up says so, they agree in all that matters."""
        unit = Units(session).get(claim.unit_id)
        gradient_set = GradientSets(session).prepared_by(claim.unit_id)[0]
        dataset = Datasets(session).get_even_deleted(claim.dataset_id)
        if dataset.deleted_at is not None:  # another one with the same rows wants it, in files of its own
            dataset = GradientSets(session).pool_in_use(claim.unit_id) or dataset
        assert unit is not None
        assert unit.fingerprint is not None
        return WarmupInputs(
            rows_sha256=[shard["sha256"] for shard in dataset.shards or []],
            fingerprint=unit.fingerprint,
            **proxy_of(gradient_set),
        )

    def run(self, claim: Claim, inputs: WarmupInputs, heartbeat: Heartbeat, folder: Path) -> Outcome:
        """Tune the proxy model and store the weights.

        Raises:
            ServiceError: ``proxy-changed`` or ``artifact-corrupt``.
            Stopped: The heartbeat said so.
        """  # ruff: ignore[docstring-extraneous-exception] - raised by the steps below
        heartbeat.phase("loading_model")
        from spice_select.pipeline.warmup import make_warmup

        resources = self.resources
        proxy = resources.proxy(inputs.proxy, inputs.proxy_revision, tunable(inputs.gradients))
        rows = [resources.store.intact(claim.project_id, sha256) for sha256 in inputs.rows_sha256]
        heartbeat.phase("warming_up", measure="steps")
        began = time.monotonic()
        with fitting_threads(proxy.model):
            warmup = make_warmup(
                folder / "warmup",
                rows,
                proxy,
                inputs.gradients,
                inputs.fingerprint,
                on_progress=heartbeat.advance,
                should_stop=heartbeat.should_stop,
            )
        sha256 = resources.store.add(claim.project_id, folder / "warmup", warmup.sha256)
        seconds = round(time.monotonic() - began, 3)
        return Outcome(sha256, {**warmup.result, "seconds": seconds, "device": resources.device_name})

    def commit(self, session: Any, claim: Claim, outcome: Outcome) -> None:
        """Tell the jobs that wait for it; gradients that need the weights are runnable from now on."""
        for job in Jobs(session).waiting_on_preparation(claim.unit_id):
            data = {"steps": outcome.result["steps"], "sha256": outcome.artifact_sha256}
            Events(session).append(claim.project_id, "job.warmed_up", job_id=job.id, data=data)
