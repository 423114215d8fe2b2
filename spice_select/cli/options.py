"""Options that several commands share, and what they become in a job or a run."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, NoReturn, TypeAlias

import typer

from spice_select.errors import ConfigError

if TYPE_CHECKING:
    from spice_select.client import Client
    from spice_select.client.filters import ListFilters

Json: TypeAlias = Annotated[bool, typer.Option("--json", help="Print the result as one line of JSON.")]
BudgetOption: TypeAlias = Annotated[
    str, typer.Option("--budget", "-b", help='How much to select: "10%", "100" samples or "50000 tokens".')
]
SourceFile: TypeAlias = Annotated[
    Path, typer.Argument(exists=True, dir_okay=False, readable=True, help="JSON Lines, JSON, CSV or Parquet, or gzip.")
]
Format: TypeAlias = Annotated[
    str | None,
    typer.Option(
        help="Record format: messages, sharegpt, alpaca, prompt_completion, question_answer or text; else detected."
    ),
]
Column: TypeAlias = Annotated[
    list[str] | None,
    typer.Option(
        "--column", help="ROLE=NAME for a column under an unusual name; may be repeated.", metavar="ROLE=NAME"
    ),
]
Encoding: TypeAlias = Annotated[
    str | None, typer.Option(help="Encoding of a file of text, such as cp1252, gbk or shift_jis; else detected.")
]
Metadata: TypeAlias = Annotated[
    list[str] | None, typer.Option("--metadata", help="KEY=VALUE of your own; may be repeated.", metavar="KEY=VALUE")
]
OnlyMetadata: TypeAlias = Annotated[
    list[str] | None,
    typer.Option("--metadata", help="Only with this pair; may be repeated, all must hold.", metavar="KEY=VALUE"),
]
CreatedAfter: TypeAlias = Annotated[
    str | None,
    typer.Option(
        "--created-after", help="Only those made then or later: 2026-11-01, or 2026-11-01T08:00Z.", metavar="TIME"
    ),
]
CreatedBefore: TypeAlias = Annotated[
    str | None, typer.Option("--created-before", help="Only those made before then.", metavar="TIME")
]
OnlyName: TypeAlias = Annotated[str | None, typer.Option("--name", help="Only of this name.")]
WithText: TypeAlias = Annotated[
    str | None, typer.Option("--search", "-q", help="Only with this text in the name, or of this id.", metavar="TEXT")
]
SortBy: TypeAlias = Annotated[
    str | None, typer.Option("--sort", help="newest (when left out), oldest or name.", metavar="ORDER")
]
MaxWait: TypeAlias = Annotated[
    float | None,
    typer.Option("--max-wait", min=0, help="Longest wait in seconds; then exit status 4, and the work goes on."),
]
Deadline: TypeAlias = Annotated[
    float | None, typer.Option(min=0, help="Seconds after which it ends; what was selected by then is kept.")
]
Target: TypeAlias = Annotated[
    list[str] | None,
    typer.Option(
        metavar="NAME=FILE", help="What the model should get better at: a file of example records. May be repeated."
    ),
]
JobTarget: TypeAlias = Annotated[
    list[str] | None,
    typer.Option(
        metavar="NAME=FILE|DATASET",
        help="What the model should get better at: a file of example records, or a data set (ds_...). May be repeated.",
    ),
]
TargetWeight: TypeAlias = Annotated[
    list[str] | None,
    typer.Option(metavar="NAME=NUMBER", help="Share of the picks that a target is due, relative to the others."),
]
Protect: TypeAlias = Annotated[
    list[str] | None,
    typer.Option(metavar="NAME=FILE", help="What must not get worse: a file of example records. May be repeated."),
]
JobProtect: TypeAlias = Annotated[
    list[str] | None,
    typer.Option(
        metavar="NAME=FILE|DATASET",
        help="What must not get worse: a file of example records, or a data set (ds_...). May be repeated.",
    ),
]
MustInclude: TypeAlias = Annotated[
    list[str] | None,
    typer.Option(
        "--must-include",
        help="Rows of the source (from 0) that are selected first: 3,17,40-49; may be repeated.",
        metavar="ROWS",
    ),
]
Exclude: TypeAlias = Annotated[
    list[str] | None,
    typer.Option("--exclude", help="Rows of the source (from 0) that are never selected.", metavar="ROWS"),
]


def refuse(detail: str) -> NoReturn:
    """End the command as misused.

    Args:
        detail: What is wrong.

    Raises:
        ConfigError: Always.
    """
    raise ConfigError(detail)


def target_files(
    targets: Sequence[str] | None, weights: Sequence[str] | None, option: str = "--target"
) -> list[tuple[str, Path, float]]:
    """``--target`` and ``--target-weight`` as name, file and weight of each target.

    Args:
        targets: ``NAME=FILE``, or a file alone, whose stem is the name.
        weights: ``NAME=NUMBER``.
        option: Name of the option, for the message.

    Raises:
        ConfigError: A file that is not there, two targets of one name, or a weight that is none or has no target.
    """
    named = []
    for text in targets or ():
        name, equals, place = text.partition("=")
        file = Path(place if equals else text)
        if not file.is_file():
            raise ConfigError(f"{option} {text!r}: there is no file {str(file)!r}")
        named.append((name if equals else file.stem, file))
    names = [name for name, _ in named]
    if len(set(names)) < len(names):
        raise ConfigError(f"{option}: two of them have one name")
    shares = {}
    for name, number in (pairs(weights, "--target-weight") or {}).items():
        if name not in names:
            raise ConfigError(f"--target-weight: there is no target {name!r}")
        try:
            shares[name] = float(number)
        except ValueError:
            raise ConfigError(f"--target-weight {name}={number}: write NAME=NUMBER") from None
    return [(name, file, shares.get(name, 1.0)) for name, file in named]


def pairs(given: Sequence[str] | None, option: str) -> dict[str, str] | None:
    """``NAME=VALUE`` options as a mapping.

    Args:
        given: The options.
        option: Their name, for the message.

    Raises:
        ConfigError: One has no ``=``.
    """
    mapping = {}
    for text in given or ():
        name, equals, value = text.partition("=")
        if not (name and equals and value):
            raise ConfigError(f"{option} {text!r}: write NAME=VALUE")
        mapping[name] = value
    return mapping or None


def moment(given: str | None, option: str) -> datetime | None:
    """A time as it was typed; without a zone it is this machine's.

    Args:
        given: The option.
        option: Its name, for the message.

    Raises:
        ConfigError: It is not a time.
    """
    if given is None:
        return None
    try:
        return datetime.fromisoformat(given).astimezone()
    except (ValueError, OverflowError, OSError) as error:
        raise ConfigError(f"{option} {given!r}: write 2026-11-01 or 2026-11-01T08:00+01:00") from error


def list_filters(
    metadata: Sequence[str] | None,
    created_after: str | None,
    created_before: str | None,
    *,
    name: str | None = None,
    q: str | None = None,
    sort: str | None = None,
) -> ListFilters:
    """The filters of a list, as the client takes them."""
    return {
        "metadata": pairs(metadata, "--metadata"),
        "created_after": moment(created_after, "--created-after"),
        "created_before": moment(created_before, "--created-before"),
        "name": name,
        "q": q,
        "sort": sort,
    }


def rows(given: Sequence[str] | None, option: str) -> list[int] | None:
    """Rows of the source, written as ``3,17,40-49``.

    Args:
        given: The options.
        option: Their name, for the message.

    Raises:
        ConfigError: One is neither a row nor a range of rows.
    """
    numbers: list[int] = []
    for part in ",".join(given or ()).split(","):
        first, dash, last = part.strip().partition("-")
        if not part.strip():
            continue
        if not (first.isdecimal() and (not dash or (last.isdecimal() and int(first) <= int(last)))):
            raise ConfigError(f"{option} {part!r}: write rows as 3,17,40-49")
        numbers += range(int(first), int(last or first) + 1)
    return numbers or None


def without_none(**given: Any) -> dict[str, Any]:
    """Only what was given, so that the defaults of the other side hold."""
    return {name: value for name, value in given.items() if value is not None}


def service() -> Client:
    """The service that the environment names."""
    # Imported late, so that --help does not load an HTTP client.
    from spice_select.client import Client

    return Client()
