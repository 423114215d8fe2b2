"""The whole service in its own processes, behind proxies, with every part killable."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Self

from sqlalchemy.engine import make_url

from app.persistence.session import Database
from tests.fixtures.databases import migrate
from tests.fixtures.processes import ApiProcess, CeleryWorker, Dispatcher, LaunchedProcess, environment
from tests.fixtures.servers import PostgresServer, RedisServer
from tests.soak.chaos.proxy import Proxy

SETTINGS = {
    "SPICE_LEASE_SECONDS": "4",
    "SPICE_HEARTBEAT_SECONDS": "0.5",
    "SPICE_NOTIFY_SECONDS": "2",
    "SPICE_SILENCE_SECONDS": "15",
    "SPICE_POLL_SECONDS": "0.2",
    "SPICE_BACKOFF_SECONDS": "0.2",
    "SPICE_DEVICE": "cpu",
    # Far more than a nemesis can use up, so that no job may be excused by it.
    "SPICE_MAX_ATTEMPTS": "60",
    "SPICE_MAX_LOST_LEASES": "60",
}


class SabotagedApi(ApiProcess):
    """The API started through tests.soak.chaos.sabotage."""

    def command(self) -> tuple[str, ...]:
        return tuple(word.replace("app.main:", "tests.soak.chaos.sabotage:") for word in super().command())


class SabotagedWorker(CeleryWorker):
    """A worker started through tests.soak.chaos.sabotage."""

    def command(self) -> tuple[str, ...]:
        return tuple(word.replace("workers.celery_app:", "tests.soak.chaos.sabotage:") for word in super().command())


class SabotagedDispatcher(Dispatcher):
    """The dispatcher started through tests.soak.chaos.sabotage."""

    def command(self) -> tuple[str, ...]:
        return ("python", "-m", "tests.soak.chaos.sabotage")


class Cluster:
    """PostgreSQL (durable), a Redis-protocol server without persistence, API, dispatchers, Celery workers.

    Args:
        folder: For logs and artifacts.
        workers: Number of workers.
        dispatchers: Number of dispatchers.
        extra: Environment of the processes; any of it starts them through tests.soak.chaos.sabotage.
        settings: Settings that differ from ``SETTINGS``.
        postgres: Class of the database server.
        of_workers: Environment of each worker; any of it starts them through tests.soak.chaos.sabotage.
    """

    def __init__(
        self,
        folder: Path,
        *,
        workers: int = 2,
        dispatchers: int = 2,
        extra: Mapping[str, str] | None = None,
        settings: Mapping[str, str] | None = None,
        postgres: type[PostgresServer] = PostgresServer,
        of_workers: Sequence[Mapping[str, str]] = (),
    ) -> None:
        self.postgres_class, self.of_workers = postgres, [dict(of) for of in of_workers]
        self.folder, self.extra, self.settings = folder, dict(extra or {}), dict(settings or {})
        self.counts = (workers, dispatchers)
        self._stack = ExitStack()

    def __enter__(self) -> Self:
        try:
            self._start()
        except BaseException:
            self._stack.close()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    def _start(self) -> None:
        enter = self._stack.enter_context
        self.postgres = enter(self.postgres_class(durable=True))
        self.redis = enter(RedisServer())
        migrate(self.postgres.url)
        self.database_wire = enter(Proxy(self.postgres.port))
        self.broker_wire = enter(Proxy(self.redis.port))
        self.data = self.folder / "data"
        through = make_url(self.postgres.url).set(port=self.database_wire.port)
        self.env = environment(
            data_dir=self.data,
            database_url=through.render_as_string(hide_password=False),
            broker_url=self.redis.url.replace(str(self.redis.port), str(self.broker_wire.port)),
            extra={**SETTINGS, **self.settings, **self.extra},
        )
        # The checker looks past the proxy.
        self.database = Database(self.postgres.url, pool_size=2)
        self._stack.callback(self.database.dispose)
        logs = self.folder / "logs"
        broken = bool(self.extra)
        api, worker, dispatcher = (
            (SabotagedApi, SabotagedWorker, SabotagedDispatcher) if broken else (ApiProcess, CeleryWorker, Dispatcher)
        )
        self.api = api(self.env, logs)
        self.workers = [worker(self.env, logs, name=f"worker-{number}") for number in range(self.counts[0])]
        for number, of in enumerate(self.of_workers):
            self.workers.append(SabotagedWorker({**self.env, **of}, logs, name=f"own-{number}"))
        self.dispatchers = [dispatcher(self.env, logs, name=f"dispatcher-{i}") for i in range(self.counts[1])]
        for process in self.processes:
            self._stack.callback(process.stop, 3)
            process.start()
        for process in self.processes:
            process.wait_ready()

    @property
    def processes(self) -> list[LaunchedProcess]:
        """Everything that is ours to restart, servers apart."""
        return [self.api, *self.dispatchers, *self.workers]

    def heal(self) -> None:
        """Undo every fault: wires work, servers run, processes run."""
        for wire in (self.database_wire, self.broker_wire):
            wire.mode = "pass"
        for server in (self.postgres, self.redis):
            server.resume()
            if server.process is None:
                server.start()
        for process in self.processes:
            if process.process is not None and process.process.poll() is None:
                process.resume()
            else:
                process.kill()
                process.start()
