"""``spice-select datasets``."""

from __future__ import annotations

from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from spice_select.cli import options
from spice_select.cli.output import (
    Exit,
    leave,
    leave_detached,
    note,
    print_dataset,
    print_json,
    print_problem,
    print_table,
    shown,
    size,
)
from spice_select.cli.progress import ProgressView

if TYPE_CHECKING:
    from spice_select.client import Client, Dataset

app = typer.Typer(help="Register data sets and look at them.", no_args_is_help=True, rich_markup_mode=None)

DatasetId = Annotated[str, typer.Argument(metavar="DATASET", help="Id of a data set (ds_...).")]


@app.command()
def push(
    file: options.SourceFile,
    name: Annotated[str | None, typer.Option(help="Name for people; the file's name when left out.")] = None,
    format: options.Format = None,
    column: options.Column = None,
    encoding: options.Encoding = None,
    metadata: options.Metadata = None,
    wait: Annotated[bool, typer.Option(help="Wait until it has been validated.")] = True,
    max_wait: options.MaxWait = None,
    json: options.Json = False,
) -> None:
    """Send a file as a new data set and wait until its rows have been validated."""
    with options.service() as client:
        dataset = send(
            client,
            file,
            quiet=json,
            name=name,
            format=format,
            columns=options.pairs(column, "--column"),
            encoding=encoding,
            metadata=options.pairs(metadata, "--metadata"),
        )
        finish(client, dataset, wait=wait, max_wait=max_wait, json=json)


@app.command()
def append(
    dataset: DatasetId,
    file: options.SourceFile,
    name: Annotated[str | None, typer.Option(help="Name for people; that of the old one when left out.")] = None,
    metadata: options.Metadata = None,
    wait: Annotated[bool, typer.Option(help="Wait until it has been validated.")] = True,
    max_wait: options.MaxWait = None,
    json: options.Json = False,
) -> None:
    """Make a new version of a data set: its rows and, behind them, those of a file."""
    with options.service() as client:
        made = client.datasets.append(dataset, file, name=name, metadata=options.pairs(metadata, "--metadata"))
        finish(client, made, wait=wait, max_wait=max_wait, json=json)


@app.command()
def add(
    hf: Annotated[str | None, typer.Option("--hf", help="A data set of the Hugging Face hub, ORG/NAME.")] = None,
    https: Annotated[str | None, typer.Option("--https", help="A file behind an https address.")] = None,
    s3: Annotated[str | None, typer.Option("--s3", help="s3://BUCKET/KEY; one that ends in / is a folder.")] = None,
    path: Annotated[str | None, typer.Option("--path", help="A file or folder on a disk of the service.")] = None,
    revision: Annotated[str | None, typer.Option(help="With --hf: branch, tag or commit; main when left out.")] = None,
    config: Annotated[str | None, typer.Option(help="With --hf: the configuration, where there are several.")] = None,
    split: Annotated[str | None, typer.Option(help="With --hf: the split; train when left out.")] = None,
    sha256: Annotated[str | None, typer.Option(help="With --https: the digest that the file must have.")] = None,
    name: Annotated[str | None, typer.Option(help="Name for people; the address when left out.")] = None,
    format: options.Format = None,
    column: options.Column = None,
    encoding: options.Encoding = None,
    metadata: options.Metadata = None,
    wait: Annotated[bool, typer.Option(help="Wait until it has been fetched and validated.")] = True,
    max_wait: options.MaxWait = None,
    json: options.Json = False,
) -> None:
    """Have the service fetch a data set from where it lies, and wait until its rows have been validated."""
    kinds = {"hf": hf, "https": https, "s3": s3, "file": path}
    named = [kind for kind, value in kinds.items() if value is not None]
    if len(named) != 1:
        options.refuse("name one source: --hf, --https, --s3 or --path")
    kind = named[0]
    field = {"hf": "repo", "file": "path"}.get(kind, "url")
    more = options.without_none(revision=revision, config=config, split=split, sha256=sha256)
    wrong = sorted(more.keys() - {"hf": {"revision", "config", "split"}, "https": {"sha256"}}.get(kind, set()))
    if wrong:
        options.refuse(f"--{wrong[0]} does not go with this source")
    with options.service() as client:
        dataset = client.datasets.from_source(
            {"type": kind, field: kinds[kind], **more},
            name=name,
            format=format,
            columns=options.pairs(column, "--column"),
            encoding=encoding,
            metadata=options.pairs(metadata, "--metadata"),
        )
        finish(client, dataset, wait=wait, max_wait=max_wait, json=json)


def send(client: Client, file: Path, *, quiet: bool, **about: Any) -> Dataset:
    """Send a file, with progress when it goes in parts; after Ctrl-C the same command continues where it stopped."""
    sent = [0, 0]
    try:
        with ProgressView(quiet=quiet) as view:

            def report(done: int, total: int) -> None:
                sent[:] = done, total
                view.show("sending", done // 2**20, total // 2**20, "MiB")

            return client.datasets.push(file, on_bytes=report, **about)
    except KeyboardInterrupt:
        if sent[1]:
            note(f"\nstopped after {size(sent[0])} of {size(sent[1])}; the same command continues from there")
        leave(Exit.DETACHED)


def finish(client: Client, dataset: Dataset, *, wait: bool, max_wait: float | None, json: bool) -> None:
    """Wait for the validation if that is wanted, print what has become of a data set, and exit as it says."""
    if wait:
        dataset = wait_for(client, dataset, max_wait, quiet=json)
    if json:
        print_json(dataset)
    else:
        print_dataset(dataset)
    end(dataset)


def wait_for(client: Client, dataset: Dataset, max_wait: float | None, *, quiet: bool) -> Dataset:
    """Wait for the validation, with progress; Ctrl-C ends the waiting only."""
    try:
        with ProgressView(quiet=quiet) as view:
            return client.datasets.wait(dataset.id, on_progress=view.dataset, max_wait=max_wait)
    except KeyboardInterrupt:
        leave_detached("the validation", f"spice-select datasets show {dataset.id}")


def end(dataset: Dataset) -> None:
    """Exit with status 1 for an invalid data set, after saying why."""
    if dataset.status == "invalid":
        if dataset.error is not None:
            print_problem(dataset.error, f"{dataset.id} is invalid")
        leave(Exit.FAILED)


@app.command("list")
def list_datasets(
    status: Annotated[str | None, typer.Option(help="Only in this state: validating, ready, invalid.")] = None,
    metadata: options.OnlyMetadata = None,
    created_after: options.CreatedAfter = None,
    created_before: options.CreatedBefore = None,
    name: options.OnlyName = None,
    search: options.WithText = None,
    sort: options.SortBy = None,
    limit: Annotated[int, typer.Option(min=1, help="Most entries.")] = 50,
    json: options.Json = False,
) -> None:
    """List data sets, newest first."""
    wanted = options.list_filters(metadata, created_after, created_before, name=name, q=search, sort=sort)
    with options.service() as client:
        datasets = list(islice(client.datasets.list(status=status, **wanted), limit))
    if json:
        print_json({"data": datasets})
        return
    print_table(
        ["ID", "STATUS", "NAME", "FORMAT", "USABLE", "ROWS", "SIZE", "CREATED"],
        (
            [one.id, one.status, one.name, one.format, one.num_usable, one.num_rows, size(one.bytes), one.created_at]
            for one in datasets
        ),
    )


@app.command()
def show(dataset: DatasetId, json: options.Json = False) -> None:
    """Show one data set."""
    with options.service() as client:
        details = client.datasets.get(dataset)
    if json:
        print_json(details)
        return
    print_dataset(details)
    if details.error is not None:
        print_problem(details.error, f"{details.id} is {details.status}")


@app.command()
def rejected(
    dataset: DatasetId,
    limit: Annotated[int, typer.Option(min=1, help="Most rows.")] = 100,
    json: options.Json = False,
) -> None:
    """List the rows that cannot be used, and why."""
    with options.service() as client:
        rows = list(islice(client.datasets.rejected(dataset), limit + 1))
    if json:
        print_json({"data": rows[:limit], "has_more": len(rows) > limit})
        return
    print_table(["ROW", "REASON", "DETAIL"], ([row.row, row.code, shown(row.detail)] for row in rows[:limit]))
    if len(rows) > limit:
        note(f"there are more than {limit}; --limit shows them")


@app.command()
def delete(dataset: DatasetId, json: options.Json = False) -> None:
    """Delete a data set; results of finished jobs stay."""
    with options.service() as client:
        client.datasets.delete(dataset)
    if json:
        print_json({"id": dataset, "deleted": True})
    else:
        note(f"{dataset} deleted")
