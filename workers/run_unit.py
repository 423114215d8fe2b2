"""One claimed unit from its inputs to its commit, whoever claimed it: the Celery task or the polling loop."""

from __future__ import annotations

import gc
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from functools import partial
from typing import Any

import structlog
from sqlalchemy.exc import DBAPIError

from app import tracing
from app.errors import ServiceError, storage_is_full
from app.logs import get_logger
from app.persistence.repositories.unit_logs import LogLine
from app.persistence.schema import OwnTables
from app.persistence.session import Database
from app.services.storage.data_folder import SharedFolder
from app.services.units.commits import Outcome, commit_unit
from app.services.units.inputs import ClaimGoneError
from app.services.units.leases import Claim
from app.services.units.service import UnitService
from app.settings import Settings
from app.storage import ArtifactStore
from spice_select.errors import DeviceLostError, SpiceError, Stopped
from spice_select.models.device_errors import as_device_error
from workers.background.registration import start_registration
from workers.background.remote_sweep import start_remote_sweep
from workers.heartbeat import Heartbeat
from workers.storage.errors import ArtifactsLostError
from workers.units.registry import make_handlers
from workers.units.resources import Resources

COMMIT_TRIES = 5
COLLECT_SECONDS = 5.0
"""Least time between two rounds of the garbage collector: of units of a second each not every one pays for its own."""


class UnitRunner:
    """Runs units in this process. Models stay loaded between units.

    Args:
        settings: Of the service.
        owner: Name of this worker, as leases show it.
        shutdown: Set when the process is asked to end.
        wedged: Ends the process when a unit hangs and does not hear that its lease is gone, or when its device is
            gone; None lets it go on.
    """

    def __init__(
        self, settings: Settings, owner: str, shutdown: threading.Event, wedged: Callable[[], object] | None = None
    ) -> None:
        self.settings, self.owner, self.shutdown, self.wedged = settings, owner, shutdown, wedged
        self.database = Database(settings.resolved_database_url, pool_size=4)
        self.store = ArtifactStore(settings.data_dir)
        self.folder = SharedFolder(settings, self.database)
        self.tables = OwnTables(self.database)
        self.units = UnitService(self.database, settings)
        self.resources = Resources(settings, self.store, self.units)
        self.handlers = make_handlers(self.resources)
        self._collected_at: float | None = None

    def warm_up(self) -> None:
        """Load torch in the background, so that the first selection need not wait for it.

        For a process that does nothing else: what the libraries brought is taken from the garbage collector for good.
        From then on the process says that it lives and what memory it has. Models bring transformers when they come.
        """

        def load() -> None:
            self.resources.load_selection()

            self.resources.keep_libraries()
            self._collected_at = time.monotonic()
            start_registration(self.database, self.owner, self.resources.device, self.shutdown)
            if self.resources.shards.is_remote:
                start_remote_sweep(self.settings, self.database, self.owner, self.resources.shards, self.shutdown)

        threading.Thread(target=load, name="warm-up", daemon=True).start()

    def run(self, unit_id: str) -> bool:
        """Claim a unit and do it; safe to call twice for one unit.

        Returns:
            Whether the unit could be claimed.
        """
        claim = self.units.claim(unit_id, self.owner) if self._may_claim() else None
        if claim is None:
            return False
        self.run_claim(claim)
        return True

    def claim_next(self) -> Claim | None:
        """Claim whatever waits; None when nothing does, or when this process must not.

        It must not on another data folder than that of the API, nor on the tables of another build.
        """
        return self.units.claim_next(self.owner) if self._may_claim() else None

    def _may_claim(self) -> bool:
        return self.tables.are_own() and self.folder.is_here()

    def run_claim(self, claim: Claim) -> None:
        """Do a claimed unit and record how it ended."""
        structlog.contextvars.bind_contextvars(
            unit_id=claim.unit_id, kind=claim.kind, epoch=claim.epoch, job_id=claim.job_id
        )
        log = get_logger()
        about = {
            "spice.job_id": claim.job_id,
            "spice.evaluation_id": claim.evaluation_id,
            "spice.unit_id": claim.unit_id,
            "spice.kind": claim.kind.value,
            "spice.shard": claim.shard,
            "spice.attempt": claim.attempt,
            "spice.epoch": claim.epoch,
        }
        parents: list[str] = []
        if tracing.is_on():
            with suppress(DBAPIError):  # a trace less is better than a unit that is not begun
                parents = self.units.traces(claim)
        began = time.monotonic()
        try:
            with tracing.span(f"unit {claim.kind.value}", "consumer", parents=parents, attributes=about) as span:
                log.info("unit_started", attempt=claim.attempt, shard=claim.shard)
                with Heartbeat(self.units, claim, self.settings, self.shutdown, self.wedged) as heartbeat:
                    ended = self._guarded(claim, heartbeat)
                log.info("unit_ended", outcome=ended, seconds=round(time.monotonic() - began, 3))
                if span is not None:
                    span.set_attribute("spice.outcome", ended)
                    if ended.startswith("failed"):
                        tracing.failed(span, ended)
        finally:
            self.resources.shards.release()
            structlog.contextvars.unbind_contextvars("unit_id", "kind", "epoch", "job_id")
            tracing.flush()
            self._collect()

    def _collect(self) -> None:
        """Free what units have left behind, in a process that keeps its libraries from the collector.

        Autograd leaves cycles that hold tensors. Beside half a million objects of libraries the collector seldom thinks
        a full round worth while, and each would cost it a third of a second.
        """
        if self._collected_at is not None and time.monotonic() - self._collected_at >= COLLECT_SECONDS:
            gc.collect()
            self._collected_at = time.monotonic()

    def _guarded(self, claim: Claim, heartbeat: Heartbeat) -> str:
        log = get_logger()
        reasons: Mapping[str, int] = {}
        try:
            return "committed" if self._work(claim, heartbeat) else "stale"
        except Stopped:
            if heartbeat.lost:
                return "lease_lost" if heartbeat.stop is None else "stopped"
            self._tell(partial(self.units.release, claim, heartbeat.last_lines()))
            return "released"
        except ClaimGoneError:
            return "stale"
        except ArtifactsLostError as lost:
            log.error("artifacts_lost", units=lost.unit_ids, detail=lost.detail)
            self._tell(partial(self.units.recompute, claim, lost.unit_ids, lost.detail, heartbeat.last_lines()))
            return "waits_for_recompute"
        except (ServiceError, SpiceError) as error:
            code, detail, errors = error.code, error.detail, error.errors
            reasons = error.reasons
            log.warning("unit_failed", code=code, detail=detail)
        except MemoryError as error:
            code, detail, errors = "out-of-memory", str(error) or "the worker ran out of memory", []
            log.error("unit_failed", code=code, detail=detail)
        except Exception as error:  # the unit must end in a recorded state whatever happened
            trouble = as_device_error(error)
            code, detail, errors = "internal", f"{type(error).__name__} in the worker; see its log", []
            if trouble is not None:
                code, detail = trouble.code, trouble.detail
            elif storage_is_full(error):
                code, detail = "storage-full", "there is no room left on a disk of the worker"
            log.error("unit_crashed", exc_info=error)
        lines = heartbeat.last_lines()
        self._tell(lambda: self.units.fail(claim, code, detail, errors, reasons, lines))
        if code == DeviceLostError.code and self.wedged is not None:
            # Every later call of this process to the device would fail as well, and eat the attempts of other units.
            log.error("process_without_device")
            self.wedged()
        return f"failed: {code}"

    def _work(self, claim: Claim, heartbeat: Heartbeat) -> bool:
        """Load, run and commit; whether it counts."""
        handler = self.handlers[claim.kind]
        with self.database.read() as session:
            inputs = handler.load(session, claim)
        with self.store.scratch() as folder:
            outcome = handler.run(claim, inputs, heartbeat, folder)
            lines = heartbeat.last_lines()
            committed = bool(self._tell(lambda: self.commit(claim, outcome, lines)))
        if committed:
            handler.clean_up(claim)
        return committed

    def commit(self, claim: Claim, outcome: Outcome, lines: Sequence[LogLine] = ()) -> bool:
        """Make an outcome count, with what the log does not say yet; False when the lease was stale."""
        return commit_unit(self.database, claim, self.handlers[claim.kind], outcome, lines)

    def _tell(self, call: Callable[[], Any]) -> Any:
        """Call the database, again when the connection broke: commits are safe to repeat, the epoch sees to it."""
        for attempt in range(1, COMMIT_TRIES):
            try:
                return call()
            except DBAPIError as error:
                get_logger().warning("database_retry", attempt=attempt, error=str(error))
                time.sleep(min(2.0**attempt / 4, 4.0))
        return call()
