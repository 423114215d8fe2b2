"""What operators watch.

Whatever concerns the whole service is read from the database at each scrape, so that any API process gives the same
answer; what concerns one process is counted in it.
"""

from __future__ import annotations

import math
import shutil
from collections import Counter
from collections.abc import Callable, Iterator
from datetime import datetime, timedelta
from statistics import median

from prometheus_client import CollectorRegistry, Histogram, ProcessCollector, generate_latest
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.registry import Collector
from sqlalchemy.exc import SQLAlchemyError

from app.persistence.repositories.clock_steps import seconds_ahead
from app.persistence.repositories.history import MetricQueries, RecentJob, RecentUnit
from app.persistence.repositories.rows import now
from app.persistence.session import Database
from app.status import DatasetStatus, DeliveryState, JobStatus, UnitKind, UnitState
from app.storage import ArtifactStore
from spice_select.version import __version__

REQUEST_SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 300.0)
LATELY = timedelta(hours=1)


class ServiceMetrics(Collector):
    """Gauges read from the database.

    Args:
        database: Where the records are.
        streams: Event streams open in this process.
        store: The artifacts.
    """

    def __init__(self, database: Database, streams: Callable[[], int], store: ArtifactStore) -> None:
        self.database = database
        self.streams = streams
        self.store = store

    def describe(self) -> list[GaugeMetricFamily]:
        """Nothing: registering must not ask the database."""
        return []

    def collect(self) -> Iterator[GaugeMetricFamily]:
        """Read everything in one transaction."""
        build = GaugeMetricFamily("spice_build_info", "The running code; always 1.", labels=["version"])
        build.add_metric([__version__], 1)
        yield build
        yield GaugeMetricFamily("spice_event_streams", "Event streams open in this process.", value=self.streams())
        yield GaugeMetricFamily(
            "spice_artifacts_corrupt", "Stored files found with other bytes by this process.", value=self.store.corrupt
        )
        yield from self._of_disk()
        try:
            yield from self._of_database()
            answers = 1
        except SQLAlchemyError:
            answers = 0
        yield GaugeMetricFamily("spice_database_up", "Whether the database answered this scrape.", value=answers)

    def _of_disk(self) -> list[GaugeMetricFamily]:
        try:
            disk = shutil.disk_usage(self.store.root)
        except OSError:
            return []
        return [
            GaugeMetricFamily(
                "spice_data_size_bytes", "Size of the disk that the data folder is on.", value=disk.total
            ),
            GaugeMetricFamily("spice_data_free_bytes", "What is left of it for the service.", value=disk.free),
        ]

    def _of_database(self) -> list[GaugeMetricFamily]:
        with self.database.read() as session:
            queries = MetricQueries(session)
            moment = now(session)
            jobs, failures, datasets = queries.jobs(), queries.failures(), queries.datasets()
            waiting, held = queries.waiting(), queries.held()
            deliveries, overdue = queries.deliveries(), queries.overdue_delivery()
            recent_jobs, recent_units = queries.recent_jobs(), queries.recent_units()
            ahead = seconds_ahead(session)
        jobs_by = GaugeMetricFamily("spice_jobs", "Jobs by status.", labels=["status"])
        for status in JobStatus:
            jobs_by.add_metric([status.value], jobs.get(status, 0))
        failed = GaugeMetricFamily("spice_jobs_failed", "Failed jobs by the code of their error.", labels=["code"])
        for code, count in sorted(failures.items()):
            failed.add_metric([code], count)
        datasets_by = GaugeMetricFamily("spice_datasets", "Data sets by status.", labels=["status"])
        for state in DatasetStatus:
            datasets_by.add_metric([state.value], datasets.get(state, 0))
        depth = GaugeMetricFamily("spice_queue_depth", "Units that wait for a worker.", labels=["kind"])
        oldest = GaugeMetricFamily(
            "spice_queue_oldest_age_seconds", "How long the oldest unit has waited for a worker.", labels=["kind"]
        )
        running = GaugeMetricFamily("spice_units_running", "Units that a worker holds.", labels=["kind"])
        for kind in UnitKind:
            count, since = waiting.get(kind, (0, moment))
            depth.add_metric([kind.value], count)
            oldest.add_metric([kind.value], max(0.0, (moment - since).total_seconds()))
            running.add_metric([kind.value], sum(1 for unit in held if unit[0] == kind and unit[3] > moment))
        lost = GaugeMetricFamily(
            "spice_leases_expired",
            "Units whose worker fell silent and that nobody has taken over yet.",
            value=sum(1 for unit in held if unit[3] <= moment),
        )
        silence = GaugeMetricFamily(
            "spice_worker_heartbeat_age_seconds", "Time since a busy worker was last heard.", labels=["worker"]
        )
        ages: dict[str, float] = {}
        for _, owner, heard, _ in held:
            ages[owner] = min(ages.get(owner, float("inf")), max(0.0, (moment - heard).total_seconds()))
        for owner, age in sorted(ages.items()):
            silence.add_metric([owner], age)
        messages = GaugeMetricFamily(
            "spice_webhook_deliveries", "Messages to webhook endpoints of the last 30 days.", labels=["state"]
        )
        for sent in DeliveryState:
            messages.add_metric([sent.value], deliveries.get(sent, 0))
        late = GaugeMetricFamily(
            "spice_webhook_oldest_due_age_seconds",
            "How long the oldest message that could be sent has not been.",
            value=0.0 if overdue is None else max(0.0, (moment - overdue).total_seconds()),
        )
        clock = GaugeMetricFamily(
            "spice_clock_ahead_seconds",
            "How far records of what has not ended are ahead of the database's clock, which was then set back.",
            value=ahead,
        )
        lately = [*_times(recent_jobs, moment - LATELY), _attempts(recent_units, moment - LATELY)]
        return [jobs_by, failed, datasets_by, depth, oldest, running, lost, silence, messages, late, clock, *lately]


def _times(jobs: list[RecentJob], since: datetime) -> list[GaugeMetricFamily]:
    """How long jobs waited that began since then, and how long each phase took of those that ended since then."""
    waits = GaugeMetricFamily(
        "spice_queue_wait_seconds", "Wait of jobs that began in the last hour, until they did.", labels=["stat"]
    )
    _describe(
        waits,
        [],
        [
            (job.started_at - job.created_at).total_seconds()
            for job in jobs
            if job.started_at is not None and job.started_at >= since
        ],
    )
    phases = GaugeMetricFamily(
        "spice_phase_duration_seconds", "Phases of jobs that ended in the last hour.", labels=["phase", "stat"]
    )
    took: dict[str, list[float]] = {}
    for job in jobs:
        if job.finished_at is not None and job.finished_at >= since:
            for phase, seconds in (job.seconds or {}).items():
                took.setdefault(phase, []).append(seconds)
    for phase, durations in sorted(took.items()):
        _describe(phases, [phase], durations)
    return [waits, phases]


def _describe(family: GaugeMetricFamily, labels: list[str], seconds: list[float]) -> None:
    """Add the middle, the 95th percentile and the longest; nothing where there is nothing."""
    if seconds:
        ranked = sorted(max(0.0, value) for value in seconds)
        family.add_metric([*labels, "median"], median(ranked))
        family.add_metric([*labels, "p95"], ranked[math.ceil(0.95 * len(ranked)) - 1])
        family.add_metric([*labels, "longest"], ranked[-1])


def _attempts(units: list[RecentUnit], since: datetime) -> GaugeMetricFamily:
    """How attempts at units ended; those of a worker that was told to end do not count."""
    ends: Counter[str] = Counter()
    for unit in units:
        if unit.heard_at < since:
            continue
        lost = unit.lost_leases + (unit.code == "worker-killed")
        last = {UnitState.DONE: "committed", UnitState.LEASED: "running"}.get(UnitState(unit.state))
        if last is None and unit.state == UnitState.DEAD and unit.code is None:
            last = "dropped"
        ends["lost"] += lost
        ends["failed"] += max(0, unit.attempts - lost - (last is not None))
        ends[last or ""] += 1
    family = GaugeMetricFamily(
        "spice_attempts",
        "Attempts at units that were last heard of in the last hour, by how they ended.",
        labels=["outcome"],
    )
    for outcome in ("committed", "failed", "lost", "dropped"):
        family.add_metric([outcome], ends[outcome])
    return family


class ProcessMetrics:
    """The registry of one API process.

    Args:
        database: Where the records are.
        streams: Event streams open in this process.
        store: The artifacts.
    """

    def __init__(self, database: Database, streams: Callable[[], int], store: ArtifactStore) -> None:
        self.registry = CollectorRegistry()
        self.registry.register(ServiceMetrics(database, streams, store))
        ProcessCollector(registry=self.registry)
        self._requests = Histogram(
            "spice_http_request_duration_seconds",
            "Time to the end of an answer, by route and class of status.",
            ["method", "route", "status"],
            buckets=REQUEST_SECONDS,
            registry=self.registry,
        )

    def answered(self, method: str, route: str, status: int, seconds: float) -> None:
        """Count one answer; the route is a template, never a path with ids in it."""
        self._requests.labels(method, route, f"{status // 100}xx").observe(seconds)

    def text(self) -> bytes:
        """Everything in the exposition format of Prometheus."""
        return generate_latest(self.registry)
