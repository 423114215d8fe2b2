"""The entry: what goes wrong becomes one line on standard error and an exit status, never a traceback."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from typing import Annotated, NoReturn

import typer

from spice_select.cli import (
    datasets,
    estimate,
    evaluation,
    evaluations,
    explain,
    jobs,
    local,
    options,
    preview,
    pull,
    schedules,
    server,
    webhooks,
)
from spice_select.cli.output import Exit, error_json, print_error, print_json
from spice_select.cli.profiles import choose_service, in_front
from spice_select.errors import ClientError, ConfigError, SpiceError, WaitTimeoutError

LIGHT = {"securesystemslib": "securesystemslib[crypto]"}
"""Packages that a command needs alone, without the extra ``compute`` around them."""
USAGE_CODES = frozenset({"invalid-url", "validation-error"})

app = typer.Typer(
    name="spice-select",
    help=(
        "Select the part of an instruction-tuning data set that is worth training on. "
        "Commands talk to the service at --url (SPICE_API_URL; http://127.0.0.1:8000), with --api-key (SPICE_API_KEY) "
        "if it wants one, or to that of a --profile (SPICE_PROFILE); these options may stand anywhere. "
        "`preview`, `run`, `hold-out`, `evaluate`, `verify` and `version` need no service."
    ),
    epilog="Exit status: 0 done, 1 failed, 2 usage, 3 cancelled or expired, 4 wait timed out, 130 detached by Ctrl-C.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    context_settings={"help_option_names": ["-h", "--help"]},
)
app.add_typer(datasets.app, name="datasets")
app.add_typer(jobs.app, name="jobs")
app.add_typer(evaluations.app, name="evaluations")
app.add_typer(schedules.app, name="schedule")
app.add_typer(webhooks.app, name="webhooks")
app.command("estimate")(estimate.estimate)
app.command("retry")(jobs.retry)
app.command("logs")(jobs.logs)
app.command("pull")(pull.pull)
app.command("preview")(preview.preview)
app.command("explain")(explain.explain)
app.command("run")(local.run)
app.command("hold-out")(evaluation.hold_out)
app.command("evaluate")(evaluation.evaluate)
app.command("verify")(local.verify)
app.command("version")(local.version)
server.register(app)


@app.callback()
def service(
    url: Annotated[str | None, typer.Option(help="Address of the service [SPICE_API_URL].")] = None,
    api_key: Annotated[str | None, typer.Option(help="API key [SPICE_API_KEY].")] = None,
    profile: Annotated[
        str | None,
        typer.Option(help="Table of ~/.config/spice-select/config.toml with url and api_key [SPICE_PROFILE]."),
    ] = None,
) -> None:
    """Which service the commands talk to."""
    choose_service(url, api_key, profile)


@app.command("open")
def open_page(job: jobs.JobId, json: options.Json = False) -> None:
    """Show the page of a job in a browser; with --json only its address is printed."""
    from spice_select.client.connection import connection

    with options.service() as client:
        found = client.jobs.get(job)
    address = f"{connection(None, None, 1.0).base_url}/ui/jobs/{found.id}"
    if json:
        print_json({"url": address})
        return
    typer.echo(address)
    typer.launch(address)


@app.command()
def mcp() -> None:
    """The service as tools of an assistant (Model Context Protocol, over standard input and output).

    Raises:
        SpiceError: The extra `mcp` is not installed.
        ModuleNotFoundError: A module of our own is missing.
    """
    from spice_select.cli import mcp_server

    try:
        tools = mcp_server.server()
    except ModuleNotFoundError as error:
        if error.name is None or error.name.partition(".")[0] != "mcp":
            raise
        raise SpiceError("mcp needs its package: pip install 'spice-select[mcp]'") from error
    tools.run("stdio")


def main(arguments: Sequence[str] | None = None) -> NoReturn:
    """Run the command line.

    Args:
        arguments: Those of the process when left out.

    Raises:
        ModuleNotFoundError: A module of our own is missing.
    """
    given = list(sys.argv[1:] if arguments is None else arguments)
    if not given or given[0] not in server.COMMANDS:
        given = in_front(given)
    try:
        app(args=given, prog_name="spice-select")
    except SpiceError as error:
        _fail(error, given)
    except ModuleNotFoundError as error:
        if error.name is None or error.name.partition(".")[0] == "spice_select":
            raise
        package = LIGHT.get(error.name.partition(".")[0], "spice-select[compute]")
        _fail(SpiceError(f"this command needs {error.name}: pip install '{package}'"), given)
    except BrokenPipeError:
        # The reader of our output is gone; Python must not try to flush it at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(Exit.FAILED)
    except OSError as error:
        where = f"{error.filename}: " if error.filename else ""
        _fail(SpiceError(f"{where}{error.strerror or error}"), given)
    except Exception as error:
        if os.environ.get("SPICE_DEBUG"):
            raise
        _fail(
            SpiceError(f"internal error: {type(error).__name__}: {error}; SPICE_DEBUG=1 shows where it comes from"),
            given,
        )
    sys.exit(Exit.DONE)


def _fail(error: SpiceError, arguments: Sequence[str]) -> NoReturn:
    print_error(error)
    if "--json" in arguments:
        print_json(error_json(error))
    sys.exit(_status_of(error))


def _status_of(error: SpiceError) -> Exit:
    if isinstance(error, WaitTimeoutError):
        return Exit.WAIT_TIMED_OUT
    if isinstance(error, ConfigError) or (isinstance(error, ClientError) and error.code in USAGE_CODES):
        return Exit.USAGE
    return Exit.FAILED
