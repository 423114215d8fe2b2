"""``spice-select pull``: files of a job, ready for a trainer."""

from __future__ import annotations

import json as jsonlib
import re
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from spice_select.cli import options
from spice_select.cli.output import note, out, print_json, size
from spice_select.errors import ClientError

if TYPE_CHECKING:
    from spice_select.client import Client

SELECTED = "selected.jsonl"


def pull(
    job: Annotated[str, typer.Argument(metavar="JOB", help="Id of a job (job_...).")],
    output: Annotated[Path, typer.Option("--output", "-o", file_okay=False, help="Folder for the files.")],
    format: Annotated[
        str | None,
        typer.Option(help="jsonl, parquet, hf, llamafactory, axolotl, trl or swift; every file when left out."),
    ] = None,
    name: Annotated[
        str | None, typer.Option(help="Name of the entry in dataset_info.json, for --format llamafactory.")
    ] = None,
    json: options.Json = False,
) -> None:
    """Download the files of a job, continuing where an earlier call broke off; every digest is checked."""
    writers: dict[str | None, Callable[[], tuple[dict[str, Path], str]]] = {
        None: lambda: _plain(client, job, output, None, _how_to_verify(output)),
        "jsonl": lambda: _plain(client, job, output, [SELECTED], ""),
        "parquet": lambda: _plain(client, job, output, ["selected.parquet"], ""),
        "hf": lambda: _plain(
            client,
            job,
            output,
            ["README.md", SELECTED, "selected.parquet"],
            f'datasets.load_dataset("{output}", split="train")',
        ),
        "llamafactory": lambda: _llamafactory(client, job, output, name),
        "axolotl": lambda: _conversations(client, job, output, "axolotl.yaml"),
        "swift": lambda: _conversations(client, job, output, "swift.yaml"),
        "trl": lambda: _conversations(client, job, output, "trl.yaml"),
    }
    if format not in writers:
        known = ", ".join(name for name in writers if name is not None)
        options.refuse(f"no format {format!r}; the formats are {known}")
    with options.service() as client:
        _check_files(client, job)
        files, hint = writers[format]()
    if json:
        print_json({"job_id": job, "files": {label: str(path) for label, path in files.items()}})
        return
    for path in files.values():
        out().print(f"{path} ({size(path.stat().st_size)})", markup=False)
    if hint:
        note(hint)


def _how_to_verify(output: Path) -> str:
    from spice_select.client.connection import connection

    service = str(connection(None, None, 1).base_url.copy_with(userinfo=b"")).rstrip("/")
    return (
        f"verify them with: spice-select verify {output} --source FILE --key {service} "
        "(FILE is what the rows were selected from)"
    )


def _check_files(client: Client, job: str) -> None:
    """Refuse a job without files.

    Raises:
        ClientError: It has none.
    """
    if not client.jobs.files(job):
        raise ClientError(f"{job} has no files: it is {client.jobs.get(job).status}", code="no-files")


def _plain(client: Client, job: str, output: Path, names: list[str] | None, hint: str) -> tuple[dict[str, Path], str]:
    return client.jobs.download(job, output, names=names), hint


def _llamafactory(client: Client, job: str, output: Path, name: str | None) -> tuple[dict[str, Path], str]:
    """The rows under a name of their own, and an entry added to the ``dataset_info.json`` that may be there."""
    with _Scratch(output, job) as scratch:
        fetched = client.jobs.download(job, scratch, names=[SELECTED, "dataset_info.json"])
        entries: dict[str, Any] = jsonlib.loads(fetched["dataset_info.json"].read_text(encoding="utf-8"))
        if not entries:
            options.refuse("LLaMA-Factory cannot read these records; take --format trl, axolotl or swift")
        ((stem, entry),) = entries.items()
        # Two jobs on one data set must not take each other's name.
        label = name or f"{stem}_{job[-8:].lower()}"
        if not re.fullmatch(r"[A-Za-z0-9_.-]+", label):
            options.refuse(f"--name {label!r}: letters, digits, '_', '-' and '.' only")
        rows = output / f"{label}.jsonl"
        if rows.exists() and rows.read_bytes() != fetched[SELECTED].read_bytes():
            options.refuse(f"{rows} exists already and holds other rows; give another --name")
        info = output / "dataset_info.json"
        from spice_select.results.llamafactory import merge_dataset_info

        merge_dataset_info(info, {label: {**entry, "file_name": rows.name}})
        fetched[SELECTED].replace(rows)
    return {rows.name: rows, info.name: info}, f"in LLaMA-Factory: dataset_dir: {output}, dataset: {label}"


def _conversations(client: Client, job: str, output: Path, config: str) -> tuple[dict[str, Path], str]:
    """The rows as conversations, and the lines of configuration that read them."""
    from spice_select.results import trainers

    dependencies = client.jobs.provenance(job)["predicate"]["buildDefinition"]["resolvedDependencies"]
    about = next(item["annotations"] for item in dependencies if item.get("name") == "dataset")
    form, columns = about["format"], about["columns"]
    fetched = client.jobs.download(job, output, names=[SELECTED])
    rows = output / trainers.ROWS
    trainers.write_conversations(fetched[SELECTED], rows, form, columns, trainer=config.removesuffix(".yaml"))  # type: ignore[arg-type]
    text = {
        "axolotl.yaml": lambda: trainers.axolotl_config(rows, form),
        "swift.yaml": lambda: trainers.swift_config(rows),
        "trl.yaml": lambda: trainers.trl_config(rows),
    }[config]()
    (output / config).write_text(text, encoding="utf-8")
    files = {**fetched, rows.name: rows, config: output / config}
    return files, f"add {output / config} to your configuration:\n{text}".rstrip()


class _Scratch:
    """A scratch folder beside the files, so that what is fetched can be moved and resumed."""

    def __init__(self, output: Path, job: str) -> None:
        self._path = output / f".spice-{job}"

    def __enter__(self) -> Path:
        self._path.mkdir(parents=True, exist_ok=True)
        return self._path

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        if kind is None:
            for path in self._path.iterdir():
                path.unlink()
            self._path.rmdir()
