"""The folder that API, dispatcher and workers share: a process with another one touches nothing and says so."""

from __future__ import annotations

import io
import json
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from unittest.mock import MagicMock

import pytest
from fastapi import FastAPI
from fastapi.testclient import TestClient
from sqlalchemy import text
from structlog.testing import capture_logs

from app import __main__ as command
from app.main import create_app
from app.persistence.session import Database
from app.services.storage.data_folder import NAME_FILE, ForeignFolderError, SharedFolder
from app.services.units.service import UnitService
from app.settings import Settings
from tests.fixtures.servers import free_port
from tests.fixtures.service import InProcessService, jsonl, sums
from workers import dispatcher, poller
from workers.background import maintenance
from workers.background.maintenance import Maintenance
from workers.celery_child import Busy, CeleryChild
from workers.executors import Embedded
from workers.run_unit import UnitRunner


@pytest.fixture
def foreign(any_service: InProcessService, tmp_path: Path) -> Iterator[UnitRunner]:
    """A worker of the same database with a folder of its own."""
    settings = any_service.settings.model_copy(update={"data_dir": tmp_path / "local"})
    runner = UnitRunner(settings, "foreign", threading.Event())
    yield runner
    runner.database.dispose()


def refused(database_url: str, folder: Path) -> bool:
    settings = Settings(database_url=database_url, data_dir=folder)
    database = Database(database_url)
    try:
        SharedFolder(settings, database).take()
    except ForeignFolderError:
        return True
    finally:
        database.dispose()
    return False


def test_a_worker_with_a_folder_of_its_own_leaves_work_to_the_others(
    any_service: InProcessService, foreign: UnitRunner
) -> None:
    sent = any_service.http.post("/v1/datasets", files={"file": ("pool.jsonl", jsonl(sums(5)))})
    with foreign.database.read() as session:
        [unit_id] = session.scalars(text("SELECT id FROM unit"))
    with capture_logs() as logs:
        assert foreign.claim_next() is None
        assert not foreign.run(unit_id)
        busy = Busy()
        asked = CeleryChild(lambda: foreign, busy, threading.Event(), silence_seconds=9, pause_seconds=9)
        assert not asked._look(), "it does not take what nobody rang for either"
        busy.close()
    [said] = [entry for entry in logs if entry["event"] == "data_folder_foreign"]
    assert said["log_level"] == "error"
    assert str(foreign.settings.data_dir) in said["detail"]
    assert any_service.runner.run(unit_id), "the attempt is not used up"
    assert any_service.http.get(sent.headers["Location"]).json()["status"] == "ready"


def test_workers_on_the_same_folder_take_it_whatever_they_call_it(
    any_service: InProcessService, tmp_path: Path
) -> None:
    (tmp_path / "mounted").symlink_to(any_service.settings.data_dir)
    settings = any_service.settings.model_copy(update={"data_dir": tmp_path / "mounted"})
    any_service.http.post("/v1/datasets", files={"file": ("pool.jsonl", jsonl(sums(5)))})
    other = UnitRunner(settings, "other", threading.Event())
    assert other.claim_next() is not None
    assert (tmp_path / "mounted" / NAME_FILE).stat().st_mode & 0o077 == 0, "its owner's alone"
    other.database.dispose()


def test_an_api_with_another_folder_does_not_start_until_it_is_adopted(
    any_database_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def started(folder: str) -> None:
        settings = Settings(database_url=any_database_url, data_dir=tmp_path / folder, auth="loopback")
        with TestClient(create_app(settings)) as client:
            assert client.get("/livez").status_code == 200

    started("one")
    started("one")
    with pytest.raises(ForeignFolderError, match=r"mount that one as SPICE_DATA_DIR.*python -m app folder adopt"):
        started("two")
    with pytest.raises(ForeignFolderError):
        started("two")
    monkeypatch.setenv("SPICE_DATABASE_URL", any_database_url)
    made: list[FastAPI] = []

    def make(*given: Any, **named: Any) -> FastAPI:
        made.append(create_app(*given, **named))
        return made[0]

    monkeypatch.setattr(command, "create_app", make)
    monkeypatch.setattr("sys.argv", ["app", "--port", "1", "--data-dir", str(tmp_path / "two")])
    with pytest.raises(SystemExit, match="folder adopt"):
        command.main()
    made[0].state.services.keys.database.dispose()
    monkeypatch.setattr("sys.argv", ["app", "folder", "adopt", "--data-dir", str(tmp_path / "two")])
    printed = io.StringIO()
    monkeypatch.setattr("sys.stdout", printed)
    with pytest.raises(SystemExit) as ended:
        command.main()
    assert ended.value.code == 0
    assert json.loads(printed.getvalue()) == {
        "data_dir": str(tmp_path / "two"),
        "name": (tmp_path / "two" / NAME_FILE).read_text(),
    }
    started("two")
    with pytest.raises(ForeignFolderError):
        started("one")


def test_of_two_that_start_at_once_one_is_refused(any_database_url: str, tmp_path: Path) -> None:
    refusals: dict[str, bool] = {}
    together = threading.Barrier(2)

    def start(name: str) -> None:
        together.wait(10)
        refusals[name] = refused(any_database_url, tmp_path / name)

    threads = [threading.Thread(target=start, args=(name,)) for name in ("one", "two")]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert sorted(refusals.values()) == [False, True]


def test_before_an_api_has_started_there_is_nothing_to_compare_with(any_database_url: str, tmp_path: Path) -> None:
    settings = Settings(database_url=any_database_url, data_dir=tmp_path / "early")
    database = Database(any_database_url)
    early = SharedFolder(settings, database)
    assert early.is_here()
    assert not refused(any_database_url, tmp_path / "of-the-api")
    assert not early.is_here(), "what was no answer yet is asked again"
    database.dispose()


def test_a_database_within_its_folder_may_move_without_the_rest(tmp_path: Path) -> None:
    settings = Settings(database_url="", data_dir=tmp_path)
    folder = SharedFolder(settings, Database(settings.resolved_database_url))
    folder.take()
    assert folder.is_here()
    assert not (tmp_path / NAME_FILE).exists()


def test_a_database_that_is_away_keeps_no_api_from_starting(tmp_path: Path) -> None:
    url = f"postgresql+psycopg://nobody@127.0.0.1:{free_port()}/nowhere"
    with capture_logs() as logs:
        assert not refused(url, tmp_path)
    assert [entry["event"] for entry in logs] == ["data_folder_not_checked"]


def test_files_that_are_to_be_removed_stay_written_down_where_they_are_not(
    any_database_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def doomed() -> int:
        database = Database(any_database_url)
        with database.read() as session:
            count = session.scalar(text("SELECT count(*) FROM obsolete_artifact"))
        database.dispose()
        return int(count or 0)

    def left_by(settings: Settings) -> int:
        shutdown = threading.Event()
        keeper = Maintenance(settings, shutdown)
        keeper.remove()
        shutdown.set()
        keeper.stop()
        return doomed()

    with InProcessService(any_database_url, tmp_path / "data", artifact_grace_seconds=3600) as service:
        dataset = service.push(jsonl(sums(5)))
        assert service.http.delete(f"/v1/datasets/{dataset['id']}").status_code == 204
    before = doomed()
    assert before > 0
    ripe = service.settings.model_copy(update={"artifact_grace_seconds": 0.0})
    assert left_by(ripe.model_copy(update={"data_dir": tmp_path / "local"})) == before
    assert left_by(ripe) == 0


@pytest.mark.parametrize("which", ["dispatcher", "poll"])
def test_neither_loop_sweeps_a_folder_that_is_not_the_shared_one(
    any_service: InProcessService, foreign: UnitRunner, monkeypatch: pytest.MonkeyPatch, which: str
) -> None:
    checkpoint = "checkpoints/job_of_another_database"
    for settings in (any_service.settings, foreign.settings):
        (settings.data_dir / checkpoint).mkdir(parents=True)

    def rounds(settings: Settings) -> bool:
        """Let the loop go round three times; whether the folder was swept."""
        shutdown, begun = threading.Event(), 0
        runners: list[UnitRunner] = []
        sweep: Callable[[UnitService], None] = UnitService.sweep
        module: Any = dispatcher if which == "dispatcher" else poller

        def counted(units: UnitService) -> None:
            nonlocal begun
            begun += 1
            if begun > 3:
                shutdown.set()
            sweep(units)

        with monkeypatch.context() as patched:
            patched.setattr(module, "stop_on_signals", lambda: shutdown)
            patched.setattr(maintenance, "SWEEP_SECONDS", 0.0)
            # It has connections of its own that nobody here would close.
            patched.setattr(maintenance, "WebhookSender", MagicMock())
            patched.setattr(UnitRunner, "warm_up", lambda runner: runners.append(runner))
            patched.setattr(UnitService, "sweep", counted)
            if which == "dispatcher":
                dispatcher.dispatch(settings, Embedded())
            else:
                poller.poll(settings)
        for runner in runners:
            runner.database.dispose()
        return not (settings.data_dir / checkpoint).exists()

    quick = {"poll_seconds": 0.01}
    assert not rounds(foreign.settings.model_copy(update=quick))
    assert rounds(any_service.settings.model_copy(update=quick))
