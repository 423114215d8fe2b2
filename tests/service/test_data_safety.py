"""The data folder is nobody else's, and the embedded database is still there when something is written into it."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from sqlalchemy.exc import OperationalError

from app.persistence.session import Database
from app.services.health import ROOT
from app.services.storage.permissions import close_folder, close_what_exists
from app.settings import Settings
from tests.fixtures.processes import environment
from tests.fixtures.service import InProcessService, jsonl, sums


@pytest.fixture
def open_folder(tmp_path: Path) -> Iterator[Path]:
    """A data folder of a service that closed nothing; the mask of the test process is its own again afterwards."""
    before = os.umask(0o022)
    folder = tmp_path / "data"
    (folder / "objects" / "proj").mkdir(parents=True)
    (folder / "objects" / "proj" / "rows").write_bytes(b"rows")
    (folder / "spice.db").write_bytes(b"")
    (folder / "link").symlink_to(tmp_path / "elsewhere")
    (tmp_path / "elsewhere").write_bytes(b"of somebody else")
    yield folder
    os.umask(before)


def modes(folder: Path) -> set[int]:
    found = [path for path in (folder, *folder.rglob("*")) if not path.is_symlink()]
    return {path.stat().st_mode & 0o777 for path in found}


@pytest.mark.parametrize(("group", "allowed"), [(False, {0o700, 0o600}), (True, {0o750, 0o640, 0o770, 0o660})])
def test_others_get_nothing_of_what_is_there_and_of_what_comes(
    open_folder: Path, group: bool, allowed: set[int]
) -> None:
    settings = Settings(data_dir=open_folder, data_dir_group_access=group)
    close_folder(settings)
    assert open_folder.stat().st_mode & 0o007 == 0, "the folder itself is closed before anything else happens"
    close_what_exists(settings)
    (open_folder / "new").mkdir()
    (open_folder / "new" / "file").write_bytes(b"")
    assert modes(open_folder) <= allowed
    assert (open_folder.parent / "elsewhere").stat().st_mode & 0o777 == 0o644, "links are not followed"
    assert close_what_exists(settings) == 0


def test_a_service_closes_what_an_earlier_one_left_open(sqlite_url: str, open_folder: Path) -> None:
    with InProcessService(sqlite_url, open_folder):
        deadline = time.monotonic() + 60
        while (open_folder / "objects" / "proj" / "rows").stat().st_mode & 0o077:
            assert time.monotonic() < deadline, "still open to others"
            time.sleep(0.01)


def test_the_processes_of_a_service_write_for_their_owner_only(tmp_path: Path) -> None:
    folder = tmp_path / "data"
    command = [sys.executable, "-m", "app", "keys", "create", "--name", "first", "--data-dir", str(folder)]
    given = environment(data_dir=folder)
    subprocess.run(command, cwd=ROOT, env=given, umask=0o022, check=True, capture_output=True)
    assert modes(folder) <= {0o700, 0o600}
    # The API of a deployment and a worker: whoever starts them by their own command line gets the same.
    for start in ("import app.main; app.main.create_app()", "import workers.celery_app as c; c._close_folder()"):
        code = f"{start}; open({str(folder / 'made')!r}, 'w').close()"
        subprocess.run([sys.executable, "-c", code], cwd=ROOT, env=given, umask=0o022, check=True, capture_output=True)
        assert (folder / "made").stat().st_mode & 0o777 == 0o600, start
        (folder / "made").unlink()


@pytest.mark.parametrize("how", ["deleted", "replaced"])
def test_without_its_database_the_service_takes_nothing(service: InProcessService, how: str) -> None:
    path = Path(str(service.runner.database.url.database))
    assert service.http.get("/readyz").status_code == 200
    away = path.rename(path.with_name("away.db"))
    if how == "replaced":
        path.write_bytes(away.read_bytes())
    refused = service.http.post("/v1/datasets", files={"file": ("a.jsonl", jsonl(sums(2)))})
    assert (refused.status_code, refused.json()["code"]) == (503, "unavailable"), refused.text
    assert service.http.get("/v1/datasets").status_code == 503
    said = service.http.get("/readyz")
    assert said.status_code == 503
    assert "deleted or replaced" in said.json()["detail"]
    if how == "deleted":
        assert not path.exists(), "no empty database takes its place"
        away.rename(path)
        assert service.http.get("/readyz").status_code == 200
        assert service.push(jsonl(sums(2)))["status"] == "ready"


def test_a_database_that_goes_within_a_transaction_takes_it_along(sqlite_url: str) -> None:
    database = Database(sqlite_url)
    path = Path(str(database.url.database))
    with pytest.raises(OperationalError, match="deleted or replaced"), database.write():
        path.rename(path.with_name("away.db"))
    database.dispose()
