"""A ``select_part`` unit: the first round of a partitioned selection, in one part of the pool."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

from app.persistence.repositories import Events, Jobs, Units
from app.services.units.commits import Outcome
from app.services.units.inputs import SelectInputs, selection_inputs
from app.services.units.leases import Claim
from app.status import ACTIVE, UnitKind
from spice_select.errors import Stopped
from workers.heartbeat import Heartbeat
from workers.units.handler import UnitHandler


class SelectPartHandler(UnitHandler[SelectInputs, Outcome]):
    """Selects from one part of a pool."""

    kind = UnitKind.SELECT_PART

    def load(self, session: Any, claim: Claim) -> SelectInputs:
        """Read what the job asks for, and where its gradients are."""
        return selection_inputs(session, claim)

    def run(self, claim: Claim, inputs: SelectInputs, heartbeat: Heartbeat, folder: Path) -> Outcome:
        """Select from the part and store its picks.

        Raises:
            ArtifactsLostError: Gradient shards have to be made again.
            Stopped: The heartbeat said so; a part that is not done is worth nothing.
        """  # ruff: ignore[docstring-extraneous-exception] - the first is raised by pool()
        heartbeat.phase("loading_gradients")
        from spice_select.selection.result import STOPPED
        from spice_select.selection.select import Part, select_part
        from spice_select.storage.partition_files import write_part
        from workers.units.stored_selection import StoredSelection, part_header

        assert claim.shard is not None
        began = time.monotonic()
        pool = StoredSelection(self.resources, claim, inputs, heartbeat).pool_on_disk()
        heartbeat.phase("selecting", measure="picks")
        part = select_part(
            pool.features,
            inputs.config.selection,
            claim.shard,
            stored=pool.stored,
            costs=pool.tokens.tolist(),
            losses=pool.losses.tolist(),
            on_progress=heartbeat.advance,
            should_stop=heartbeat.should_stop,
        )
        if part is None:
            part = Part([], "pool_exhausted", 0)  # samples were left out, and fewer are left than parts were asked for
        if part.stop_reason in STOPPED:
            raise Stopped("the part is given back")
        written = write_part(folder / "part", part, part_header(inputs, claim.shard))
        sha256 = self.resources.store.add(claim.project_id, folder / "part", written)
        seconds = round(time.monotonic() - began, 3)
        return Outcome(sha256, {"picks": len(part.picks), "refreshed": part.refreshed, "seconds": seconds})

    def commit(self, session: Any, claim: Claim, outcome: Outcome) -> None:  # ruff: ignore[unused-method-argument]
        """Tell the job when this was its last part."""
        assert claim.job_id is not None
        # The unit before the job, as everywhere. The lock lets the later of two last parts see the other done.
        job = Jobs(session).lock(claim.job_id)
        if job.status in ACTIVE and not Units(session).unfinished_parts(claim.job_id):
            Events(session).append(claim.project_id, "job.parts_ready", job_id=claim.job_id)
