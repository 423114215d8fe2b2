"""``spice-select serve | worker | dispatcher | migrate | admin``: the service itself, where it is installed.

The library does not import the service. The distribution registers these commands as entry points of the group
``spice_select.commands``, and they are looked up when one of them is called.
"""

from __future__ import annotations

from importlib.metadata import entry_points

import typer

from spice_select.errors import SpiceError

GROUP = "spice_select.commands"
COMMANDS = {
    "serve": "The service on this machine: API, page and one worker, on SQLite.",
    "worker": "A worker of a deployment, woken by Celery or polling (--poll).",
    "dispatcher": "The dispatcher of a deployment with Celery.",
    "migrate": "Bring the database of SPICE_DATABASE_URL to this release.",
    "admin": "API keys, projects and the data folder of a service.",
}
_FORWARDED = {"allow_extra_args": True, "ignore_unknown_options": True, "help_option_names": []}


def register(app: typer.Typer) -> None:
    """Add the commands to the command line.

    Args:
        app: The command ``spice-select``.
    """
    for name, summary in COMMANDS.items():
        app.command(name, help=summary, context_settings=_FORWARDED, rich_help_panel=None)(_forward)


def _forward(context: typer.Context) -> None:
    """Run the command of the service with the arguments as they are.

    Raises:
        SpiceError: A package of the service is not installed.
        ModuleNotFoundError: A module of the service itself is missing.
        Exit: With the status of the command.
    """
    name = context.info_name
    registered = list(entry_points(group=GROUP, name=name or ""))
    if not registered:
        raise SpiceError(f"{name} is not registered in this install: pip install 'spice-select[server]'")
    extra = "all" if name == "worker" else "server"
    try:
        status = registered[0].load()(context.args)
    except ModuleNotFoundError as error:
        if error.name is None or error.name.partition(".")[0] in {"app", "workers", "spice_select"}:
            raise
        raise SpiceError(f"{name} needs {error.name}: pip install 'spice-select[{extra}]'") from error
    raise typer.Exit(status or 0)
