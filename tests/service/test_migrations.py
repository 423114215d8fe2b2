"""Migrations, on both databases."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from pathlib import Path

import psycopg
import pytest
from alembic import command
from alembic.config import Config
from sqlalchemy import create_engine, inspect, text

from app.__main__ import migrate_database
from app.persistence.session import Database
from app.persistence.tables import SelectedSample
from app.persistence.types import SafeString
from app.services.health import ROOT, Health
from spice_select.results import selected_sample
from tests.fixtures.service import InProcessService, jsonl, sums
from workers.background.maintenance import Maintenance
from workers.run_unit import UnitRunner


@pytest.fixture(params=["sqlite", "postgresql"])
def empty_url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path / 'empty.db'}"
    return str(request.getfixturevalue("empty_database_url"))


def alembic(url: str) -> Config:
    config = Config(str(ROOT / "alembic.ini"))
    config.attributes["url"] = url
    return config


def tables(url: str) -> set[str]:
    engine = create_engine(url)
    try:
        return set(inspect(engine).get_table_names()) - {"alembic_version"}
    finally:
        engine.dispose()


def test_migrations_go_up_down_and_up_again(empty_url: str) -> None:
    command.upgrade(alembic(empty_url), "head")
    first = tables(empty_url)
    assert {"project", "dataset", "job", "unit", "unit_commit", "event", "selected_sample", "file"} <= first
    command.downgrade(alembic(empty_url), "base")
    assert tables(empty_url) == set()
    command.upgrade(alembic(empty_url), "head")
    assert tables(empty_url) == first


def test_migrations_make_exactly_the_tables_of_the_code(empty_url: str) -> None:
    command.upgrade(alembic(empty_url), "head")
    command.check(alembic(empty_url))


def test_the_table_of_selected_rows_has_the_columns_of_a_selected_row() -> None:
    columns = SelectedSample.__table__.columns.items()
    kinds = {name: str if isinstance(one.type, SafeString) else one.type.python_type for name, one in columns}
    assert kinds.pop("job_id") is str
    fields = selected_sample.SelectedSample.model_fields
    assert kinds.keys() == fields.keys()
    required = {name: field.annotation for name, field in fields.items() if field.is_required()}
    assert {name: kinds[name] for name in required} == required
    assert {name for name, one in columns if one.nullable} == kinds.keys() - required.keys()


NEXT = '''
"""A revision that takes `unit` first and `event` last."""

import sqlalchemy as sa
from alembic import op

revision, down_revision, branch_labels, depends_on = "next", "0001", None, None


def upgrade():
    op.add_column("unit", sa.Column("colour", sa.Text(), nullable=True))
    op.create_index("ix_event_type", "event", ["type"])
'''


def test_a_migration_lets_go_of_its_locks_and_asks_again_while_a_worker_is_in_the_way(
    empty_database_url: str, tmp_path: Path
) -> None:
    """The worker holds `event` and wants `unit`, which the next revision takes first."""
    url = empty_database_url
    command.upgrade(alembic(url), "head")
    (tmp_path / "next.py").write_text(NEXT)
    config = alembic(url)
    config.set_main_option("version_locations", f"{ROOT / 'migrations' / 'versions'} {tmp_path}")
    config.set_main_option("path_separator", "space")
    done: list[str] = []
    with psycopg.connect(url.replace("postgresql+psycopg", "postgresql")) as worker:
        worker.execute("LOCK TABLE event IN ROW EXCLUSIVE MODE")  # as an INSERT does
        migration = threading.Thread(target=lambda: done.append(str(command.upgrade(config, "next"))))
        migration.start()
        migration.join(2.5)
        assert migration.is_alive(), "it waits"
        worker.execute("SET lock_timeout = '20s'")
        worker.execute(
            "LOCK TABLE unit IN ROW EXCLUSIVE MODE"
        )  # a deadlock if the migration kept `unit` while it waits
        worker.commit()
    migration.join(60)
    assert done == ["None"]
    with psycopg.connect(url.replace("postgresql+psycopg", "postgresql")) as connection:
        assert connection.execute("SELECT count(colour) FROM unit").fetchone() == (0,)


def test_tables_of_another_build_are_refused_in_a_sentence(empty_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SPICE_DATABASE_URL", empty_url)
    assert migrate_database([]) == 0
    database = Database(empty_url)
    try:
        assert Health(database).checks() == {"database": None}
        with database.engine.begin() as connection:
            connection.execute(text("ALTER TABLE job DROP COLUMN partial"))
            connection.execute(text("ALTER TABLE project ADD COLUMN colour TEXT"))
        said = Health(database).checks()["database"]
        assert said is not None
        assert "table job has no column partial" in said
        assert "another build" in said
        assert "--data-dir" in said
        assert "project" not in said  # a column that nobody must fill is in nobody's way
        with pytest.raises(SystemExit, match="table job has no column partial"):
            migrate_database([])
        with database.engine.begin() as connection:
            connection.execute(text("DROP TABLE unit_commit"))
        assert "table unit_commit is missing" in str(Health(database).checks()["database"])
    finally:
        database.dispose()


def test_workers_take_nothing_from_tables_of_another_build_and_pages_say_why(
    any_database_url: str, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    with InProcessService(any_database_url, tmp_path / "data") as service:
        service.push(jsonl(sums(4)))
        waiting = service.http.post("/v1/datasets", files={"file": ("pool.jsonl", jsonl(sums(4, 50)))}).json()["id"]
        with service.runner.database.engine.begin() as connection:
            connection.execute(text("ALTER TABLE job DROP COLUMN partial"))
        other = UnitRunner(service.settings, "another", threading.Event())
        assert other.claim_next() is None, "although a data set waits"
        other.database.dispose()
        maintenance = Maintenance(service.settings, threading.Event())
        maintenance.sweep()
        maintenance._database.dispose()
        assert "tables_of_another_build" in "".join(capfd.readouterr())
        for path, headers in (("/v1/jobs", {}), ("/ui", {"Accept": "text/html"})):
            answer = service.http.get(path, headers=headers)
            assert answer.status_code == 503
            assert "table job has no column partial" in answer.text, path
        assert service.http.get(f"/v1/datasets/{waiting}").json()["status"] == "validating"


def test_the_service_does_not_start_on_tables_of_another_build(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path / 'spice.db'}"
    command.upgrade(alembic(url), "head")
    engine = create_engine(url)
    with engine.begin() as connection:
        connection.execute(text("DROP TABLE data_folder"))
        connection.execute(text("CREATE TABLE data_folder (name TEXT, colour TEXT NOT NULL)"))
    engine.dispose()
    done = subprocess.run(
        [sys.executable, "-m", "app", "--port", "0", "--data-dir", str(tmp_path)],
        env=os.environ | {"SPICE_DATABASE_URL": url},
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 1
    assert "wants a value for colour" in done.stderr
    assert "Traceback" not in done.stderr
