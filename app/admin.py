"""``python -m app keys ...``, ``projects ...``, ``folder ...``: who may use the service and its folder, set there."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from app.errors import ServiceError
from app.ids import DEFAULT_PROJECT
from app.persistence.session import Database
from app.persistence.tables import ApiKey, Project
from app.services.access.keys import KeyService
from app.services.storage.data_folder import SharedFolder
from app.services.storage.permissions import close_folder
from app.settings import Settings
from app.status import EVERYDAY, SCOPES

COMMANDS = ("keys", "projects", "folder")


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m app", description=__doc__)
    place = argparse.ArgumentParser(add_help=False)
    place.add_argument("--data-dir", type=Path, default=None, help="of the embedded service that was started with it")
    nouns = parser.add_subparsers(dest="noun", required=True)
    keys = nouns.add_parser("keys").add_subparsers(dest="verb", required=True)
    create = keys.add_parser("create", parents=[place], help="make a key; its secret is printed once")
    create.add_argument("--name", required=True)
    create.add_argument("--project", default=DEFAULT_PROJECT)
    create.add_argument("--scope", action="append", choices=SCOPES)
    create.add_argument("--days", type=float, default=None)
    listing = keys.add_parser("list", parents=[place], help="every key: prefix, scopes, expiry, last used")
    listing.add_argument("--project", default=None)
    rotate = keys.add_parser(
        "rotate", parents=[place], help="a new key with the same rights; the old one ends after the overlap"
    )
    rotate.add_argument("id")
    rotate.add_argument("--overlap-hours", type=float, default=24.0)
    revoke = keys.add_parser("revoke", parents=[place], help="end a key at once")
    revoke.add_argument("id")
    projects = nouns.add_parser("projects").add_subparsers(dest="verb", required=True)
    made = projects.add_parser("create", parents=[place], help="make a project, with a limit or without one")
    made.add_argument("--name", required=True)
    made.add_argument("--max-running", type=int, default=None)
    projects.add_parser("list", parents=[place], help="every project and its limit")
    limit = projects.add_parser("limit", parents=[place], help="units of work that may run at a time; 0 is any number")
    limit.add_argument("id")
    limit.add_argument("--max-running", type=int, required=True)
    folder = nouns.add_parser("folder").add_subparsers(dest="verb", required=True)
    folder.add_parser("adopt", parents=[place], help="the records belong to this data folder from now on")
    return parser


def _key(key: ApiKey) -> dict[str, Any]:
    names = ("id", "project_id", "name", "prefix", "scopes", "created_at", "expires_at", "revoked_at", "last_used_at")
    return {name: getattr(key, name) for name in names}


def _project(project: Project) -> dict[str, Any]:
    return {name: getattr(project, name) for name in ("id", "name", "max_running_units", "created_at")}


def carry_out(service: KeyService, given: argparse.Namespace) -> list[dict[str, Any]]:
    """Carry out a parsed command; the lines to print."""
    command = (given.noun, given.verb)
    if command == ("keys", "create"):
        key, secret = service.create(given.project, given.name, given.scope or EVERYDAY, given.days)
        return [_key(key) | {"secret": secret}]
    if command == ("keys", "rotate"):
        key, secret = service.rotate(None, given.id, given.overlap_hours)
        return [_key(key) | {"secret": secret}]
    if command == ("keys", "revoke"):
        service.revoke(None, given.id)
        return [{"id": given.id, "revoked": True}]
    if command == ("keys", "list"):
        return [_key(key) for key in service.page(given.project)]
    if command == ("projects", "create"):
        return [_project(service.create_project(given.name, given.max_running))]
    if command == ("projects", "limit"):
        service.limit_project(given.id, given.max_running or None)
    return [_project(project) for project in service.projects()]


def main(arguments: Sequence[str], migrate: Callable[[str], None]) -> int:
    """Run one command on the configured database, made first where it is SQLite; prints one line of JSON per record.

    Args:
        arguments: Behind the name of the program.
        migrate: Brings a database to the head of the migrations.

    Returns:
        Exit status: 0 done, 1 refused.
    """
    given = _parser().parse_args(arguments)
    settings = Settings() if given.data_dir is None else Settings(data_dir=given.data_dir.absolute())
    if not settings.database_url:
        close_folder(settings)
        migrate(settings.resolved_database_url)
    database = Database(settings.resolved_database_url)
    try:
        if given.noun == "folder":
            lines = [{"data_dir": str(settings.data_dir.absolute()), "name": SharedFolder(settings, database).adopt()}]
        else:
            lines = carry_out(KeyService(database), given)
        for line in lines:
            sys.stdout.write(json.dumps(line, default=str) + "\n")
    except ServiceError as error:
        sys.stderr.write(f"{error.detail}\n")
        return 1
    finally:
        database.dispose()
    return 0
