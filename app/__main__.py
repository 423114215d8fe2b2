"""``python -m app``: the embedded service. API and one worker process on SQLite; no server or broker to install."""

from __future__ import annotations

import argparse
import ipaddress
import json
import os
import shlex
import signal
import subprocess  # ruff: ignore[suspicious-subprocess-import] - starts our own worker, no shell
import sys
import threading
import time
from collections.abc import Sequence
from pathlib import Path
from types import FrameType

import uvicorn

from app import admin, logs
from app.main import contract_document, create_app
from app.persistence.schema import OtherBuildError, migrate
from app.services.access.keys import NoKeyError
from app.services.health import ROOT
from app.services.storage.data_folder import ForeignFolderError
from app.services.storage.permissions import close_folder
from app.settings import Settings

TRAINED_MODEL = "HuggingFaceTB/SmolLM2-135M-Instruct@12fd25f77366fa6b3b4b768ec3050bf629380bac"
"""A trained model that the service allows where its operator says nothing: 270 MB, fetched when a job names it."""
WORKER_END_SECONDS = 20.0
RESTART_PAUSE_SECONDS = 1.0


class EmbeddedWorker:
    """The worker process, started again whenever it dies.

    Args:
        environment: Settings for it.
    """

    def __init__(self, environment: dict[str, str]) -> None:
        self._environment = environment
        self._ending = threading.Event()
        self._process: subprocess.Popen[bytes] | None = None
        self._ready = False
        self._thread = threading.Thread(target=self._keep_alive, name="embedded-worker", daemon=True)

    def start(self) -> None:
        """Start it and watch it."""
        self._thread.start()

    def alive(self) -> bool:
        """Whether it runs and has said that it is taking up work."""
        return self._ready and self._process is not None and self._process.poll() is None

    def stop(self) -> None:
        """Let it give back its unit, and end it."""
        self._ending.set()
        process = self._process
        if process is not None and process.poll() is None:
            process.send_signal(signal.SIGTERM)
            try:
                process.wait(WORKER_END_SECONDS)
            except subprocess.TimeoutExpired:
                process.kill()
        self._thread.join(WORKER_END_SECONDS)

    def _keep_alive(self) -> None:
        log = logs.get_logger()
        while not self._ending.is_set():
            status = self._run_once()
            self._ready = False
            if not self._ending.is_set():
                log.error("embedded_worker_died", status=status)
                time.sleep(RESTART_PAUSE_SECONDS)

    def _run_once(self) -> int:
        """Start the process, wait until it says that it is ready, then until it ends; its exit status."""
        heard, said = os.pipe()
        arguments = [sys.executable, "-m", "workers", "poll", "--parent", str(os.getpid()), "--ready-fd", str(said)]
        try:
            # A session of its own: Ctrl-C reaches only us, and the worker is told in an orderly way.
            self._process = subprocess.Popen(  # ruff: ignore[subprocess-without-shell-equals-true] - our own interpreter and module
                arguments, env=self._environment, cwd=ROOT, start_new_session=True, pass_fds=(said,)
            )
        finally:
            os.close(said)
        with os.fdopen(heard, "rb") as words:
            self._ready = words.read(1) != b""
        return self._process.wait()


def end_on_terminate(_signal: int, _frame: FrameType | None) -> None:
    """The server raises the signal again once it is done: let that unwind, so that the worker is ended as well.

    Raises:
        SystemExit: Always.
    """
    raise SystemExit(0)


def is_loopback(host: str) -> bool:
    """Whether an address to listen on is reached from this machine only."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def migrate_or_leave(url: str | None = None) -> None:
    """Bring a database to this release, or say in a sentence why not.

    Args:
        url: Of the database; None takes that of the settings.

    Raises:
        SystemExit: Its tables are those of another build.
    """
    try:
        migrate(url)
    except OtherBuildError as error:
        raise SystemExit(str(error)) from error


def administer(arguments: Sequence[str]) -> int:
    """``spice-select admin``: API keys, projects, the data folder.

    Args:
        arguments: Behind the name of the command.

    Returns:
        Exit status: 0 done, 1 refused.
    """
    return admin.main(arguments, migrate_or_leave)


def migrate_database(arguments: Sequence[str]) -> int:
    """``spice-select migrate``: bring the database of ``SPICE_DATABASE_URL`` to this release.

    Args:
        arguments: Behind the name of the command; there are none but ``--help``.

    Returns:
        Exit status 0.
    """
    argparse.ArgumentParser(prog="spice-select migrate", description=migrate_database.__doc__).parse_args(arguments)
    migrate_or_leave()
    return 0


def main() -> None:
    """``python -m app``: serve, or one of the other commands.

    Raises:
        SystemExit: After an administrative command.
    """
    arguments = sys.argv[1:]
    if arguments and arguments[0] in admin.COMMANDS:
        raise SystemExit(administer(arguments))
    if arguments == ["openapi"]:
        print(json.dumps(contract_document(), indent=1, ensure_ascii=False, sort_keys=True))  # ruff: ignore[print] - what the command is for
        return
    serve(arguments, prog="python -m app")


def serve(command_line: Sequence[str], prog: str = "spice-select serve") -> None:
    """``spice-select serve``: the embedded service, until told to stop.

    Args:
        command_line: Behind the name of the command.
        prog: Name of the command in its help.

    Raises:
        SystemExit: When no API key exists and the address is not a local one, or when the records of the database
            belong to another data folder or its tables to another build.
    """
    parser = argparse.ArgumentParser(prog=prog, description=__doc__)
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, default=8000)
    parser.add_argument("--data-dir", type=Path, default=None)
    arguments = parser.parse_args(command_line)
    changes: dict[str, object] = {}
    if arguments.data_dir is not None:
        changes["data_dir"] = arguments.data_dir.absolute()
    if not is_loopback(arguments.host):
        changes["auth"] = "keys"
    elif "SPICE_AUTH" not in os.environ:
        changes["auth"] = "loopback"
    settings = Settings(**changes)  # type: ignore[arg-type]  # fields already checked
    if "allowed_proxies" not in settings.model_fields_set:
        settings = settings.model_copy(update={"allowed_proxies": [*settings.allowed_proxies, TRAINED_MODEL]})
    logs.configure(settings.log_level, settings.log_format)
    close_folder(settings)
    migrate_or_leave(settings.resolved_database_url)
    environment = os.environ | {
        # A worker of many threads and few arenas gives memory back between units (docs/reliability.md).
        "MALLOC_ARENA_MAX": os.environ.get("MALLOC_ARENA_MAX", "2"),
        "SPICE_DATA_DIR": str(settings.data_dir.absolute()),
        "SPICE_DATABASE_URL": settings.resolved_database_url,
    }
    app = create_app(settings, worker_alive=lambda: worker.alive())
    try:
        app.state.services.keys.refuse_unlocked(settings.auth)
    except NoKeyError as error:
        if arguments.data_dir is None or settings.database_url:
            raise SystemExit(str(error)) from error
        where = f"--data-dir {shlex.quote(str(arguments.data_dir))}"
        keys = f"{prog.removesuffix(' serve')} admin keys" if prog.endswith(" serve") else f"{prog} keys"
        raise SystemExit(f"no API key exists: make one with `{keys} create --name first {where}`") from error
    try:
        app.state.services.folder.take()
    except ForeignFolderError as error:
        raise SystemExit(str(error)) from error
    worker = EmbeddedWorker(environment)
    worker.start()
    at = f"[{arguments.host}]" if ":" in arguments.host else arguments.host
    logs.get_logger().info("service_starts", address=f"http://{at}:{arguments.port}", page="/ui", reference="/docs")
    signal.signal(signal.SIGTERM, end_on_terminate)
    try:
        uvicorn.run(
            app,
            host=arguments.host,
            port=arguments.port,
            log_level="warning",
            server_header=False,
            timeout_graceful_shutdown=5,
        )
    finally:
        worker.stop()


if __name__ == "__main__":
    main()
