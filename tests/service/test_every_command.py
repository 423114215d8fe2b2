"""Every command of ``spice-select`` against a real service: `--json` is JSON, the exit status is as promised."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import click
import pytest
import typer.main

from spice_select.cli import server
from spice_select.cli.main import app
from tests.fixtures.commands import Command, commands
from tests.fixtures.service import InProcessService, jsonl, sums

UNKNOWN = "01K9RZ3V5X8N3Q2J6T4W7Y0ABC"
PREFIXES = {"job": "job", "dataset": "ds", "evaluation": "ev", "endpoint": "whe", "schedule": "sch", "delivery": "whd"}
"""Arguments that are ids, and what ids of that kind begin with."""


def _commands(command: Any, path: tuple[str, ...] = ()) -> Iterator[tuple[str, Any]]:
    if hasattr(command, "commands"):
        for name, inner in command.commands.items():
            yield from _commands(inner, (*path, name))
    else:
        yield " ".join(path), command


COMMANDS = {
    name: command for name, command in _commands(typer.main.get_command(app)) if name not in {*server.COMMANDS, "mcp"}
}
"""All but those that start a part of the service, whose arguments it reads itself, and what speaks to an assistant."""


def _ids(command: click.Command) -> list[str]:
    """Unknown ids for the arguments of a command; empty where it takes something else."""
    names = [one.name or "" for one in command.params if one.param_type_name == "argument" and one.required]
    return [f"{PREFIXES[name]}_{UNKNOWN}" for name in names] if all(name in PREFIXES for name in names) else []


@pytest.fixture
def spice(capsys: pytest.CaptureFixture[str]) -> Command:
    return commands(capsys)


@pytest.mark.parametrize("name", COMMANDS)
def test_a_command_takes_json_and_refuses_what_it_does_not_know(name: str, spice: Command) -> None:
    assert any("--json" in one.opts for one in COMMANDS[name].params), "every command takes --json"
    assert COMMANDS[name].help, "every command says what it does"
    assert spice(*name.split(), "--no-such-option").status == 2


def test_an_unknown_id_is_status_1_and_a_problem_in_json(
    service: InProcessService, spice: Command, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("SPICE_API_URL", str(service.http.base_url).rstrip("/"))
    asked = {name: ids for name, command in COMMANDS.items() if (ids := _ids(command))}
    assert {"jobs show", "jobs delete", "datasets delete", "evaluations show", "webhooks redeliver", "pull"} <= set(
        asked
    )
    for name, ids in asked.items():
        extra = ["--name", "x"] if name in {"jobs update", "webhooks change"} else []
        extra = ["--held-out", f"ds_{UNKNOWN}"] if name == "evaluations submit" else extra
        extra = ["-o", str(tmp_path / "out")] if name == "pull" else extra
        ended = spice(*name.split(), *ids, *extra, "--json")
        assert ended.status == 1, f"{name}: {ended}"
        assert ended.json()["error"]["code"] == "not-found", f"{name}: {ended.out}"
        assert ended.err.startswith("error: "), name


class Step(NamedTuple):
    """A command that works.

    Attributes:
        words: The command.
        arguments: What follows it, from what is known by then.
        keep: Names to keep fields of the answer under.
        lines: Whether it prints a line of JSON for each entry.
    """

    words: str
    arguments: Callable[[dict[str, Any]], list[object]] = lambda _: []
    keep: dict[str, str] = {}  # ruff: ignore[mutable-class-default] - never changed
    lines: bool = False


STEPS = (
    Step("version"),
    Step("datasets push", lambda known: [known["file"], "--name", "pool", "--no-wait"], {"dataset": "id"}),
    Step("datasets add", lambda known: ["--path", known["file"].name, "--no-wait"], {"added": "id"}),
    Step("datasets list"),
    Step("datasets show", lambda known: [known["dataset"]]),
    Step("datasets append", lambda known: [known["dataset"], known["file"], "--no-wait"], {"longer": "id"}),
    Step("datasets rejected", lambda known: [known["dataset"]]),
    Step("estimate", lambda known: [known["dataset"], "-b", "3"]),
    Step("jobs submit", lambda known: ["-d", known["dataset"], "-b", "3", "--sketch-dim", "4"], {"job": "id"}),
    Step("jobs update", lambda known: [known["job"], "--name", "named"]),
    Step("jobs watch", lambda known: [known["job"]]),
    Step("jobs list", lambda _: ["--status", "succeeded"]),
    Step("jobs show", lambda known: [known["job"]]),
    Step("jobs events", lambda known: [known["job"]], lines=True),
    Step("logs", lambda known: [known["job"]], lines=True),
    Step("jobs logs", lambda known: [known["job"], "--level", "info"], lines=True),
    Step("jobs link", lambda known: [known["job"]]),
    Step("explain", lambda known: [known["job"], "0"]),
    Step("open", lambda known: [known["job"]]),
    Step("pull", lambda known: [known["job"], "-o", known["folder"]]),
    Step("verify", lambda known: [known["folder"]]),
    Step("datasets push", lambda known: [known["like"], "--name", "wanted", "--no-wait"], {"wanted": "id"}),
    Step(
        "jobs submit",
        lambda known: ["-d", known["dataset"], "-b", "2", "--target", f"sums={known['wanted']}"],
        {"other": "id"},
    ),
    Step("jobs cancel", lambda known: [known["other"]]),
    Step("retry", lambda known: [known["other"]], {"again": "id"}),
    Step("jobs retry", lambda known: [known["other"]], {"once_more": "id"}),
    Step("jobs delete", lambda known: [known["job"]]),
    Step(
        "schedule add",
        lambda known: ["nightly", "--cron", "0 2 * * *", "-d", known["dataset"], "-b", "2"],
        {"schedule": "id"},
    ),
    Step("schedule list"),
    Step("schedule show", lambda known: [known["schedule"]]),
    Step("schedule pause", lambda known: [known["schedule"]]),
    Step("schedule resume", lambda known: [known["schedule"]]),
    Step("schedule remove", lambda known: [known["schedule"]]),
    Step("webhooks add", lambda _: ["http://127.0.0.1:9/hook"], {"endpoint": "id"}),
    Step("webhooks list"),
    Step("webhooks show", lambda known: [known["endpoint"]]),
    Step("webhooks change", lambda known: [known["endpoint"], "--name", "named"]),
    Step("webhooks rotate", lambda known: [known["endpoint"]]),
    Step("webhooks ping", lambda known: [known["endpoint"]], {"delivery": "id"}),
    Step("webhooks deliveries", lambda known: [known["endpoint"]]),
    Step("webhooks remove", lambda known: [known["endpoint"]]),
    Step("datasets delete", lambda known: [known["dataset"]]),
)
ELSEWHERE = {
    "run", "hold-out", "evaluate", "preview",  # tests/library: they need no service
    "webhooks redeliver",  # tests/service/test_webhook_endpoints.py: a message must have ended before
}  # fmt: skip


@pytest.fixture
def open_service(sqlite_url: str, tmp_path: Path) -> Iterator[InProcessService]:
    changes = {"source_roots": [tmp_path], "outbound_allowed_networks": ["127.0.0.1/32"], "outbound_ports": [9]}
    with InProcessService(sqlite_url, tmp_path / "data", **changes) as running:
        yield running


def test_every_command_answers_with_status_0_and_json(
    open_service: InProcessService, spice: Command, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    named = {step.words for step in STEPS} | ELSEWHERE
    missing = {name for name in COMMANDS if not name.startswith("evaluations ")} - named
    assert not missing, "evaluations have a test of their own; what else is new belongs into the table"
    monkeypatch.setenv("SPICE_API_URL", str(open_service.http.base_url).rstrip("/"))
    file = tmp_path / "pool.jsonl"
    file.write_bytes(jsonl(sums(8)))
    like = tmp_path / "like.jsonl"
    like.write_bytes(jsonl(sums(3, 500)))
    known: dict[str, Any] = {"file": file, "folder": tmp_path / "out", "like": like}
    for step in STEPS:
        ended = spice(*step.words.split(), *step.arguments(known), "--json")
        assert ended.status == 0, f"{step.words}: {ended.err}"
        lines = [json.loads(line) for line in ended.out.splitlines()]
        assert lines if step.lines else len(lines) == 1, f"{step.words}: {ended.out}"
        known |= {name: lines[0][field] for name, field in step.keep.items()}
        if step.words != "jobs submit" or ("job" in known and "other" not in known):
            open_service.drain()
