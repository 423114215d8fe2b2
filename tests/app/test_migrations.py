"""Migrations, on both databases."""

from __future__ import annotations

from pathlib import Path

import pytest
from alembic import command
from alembic.config import Config
from sqlalchemy import create_engine, inspect

from app.services.health import ROOT


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
