"""``spice-select run``, ``verify`` and ``version``: no service needed. Heavy packages are imported when they run."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from spice_select.cli import options
from spice_select.cli.output import Exit, counted, leave, note, out, print_fields, print_json, result_fields
from spice_select.cli.progress import ProgressView
from spice_select.cli.settings import JOB_SETTINGS, checked, run_config, with_settings
from spice_select.models.threads import let_idle_threads_sleep
from spice_select.results.signature import KEYS_PATH, read_keys
from spice_select.version import GRADIENT_FORMAT, __version__

if TYPE_CHECKING:
    from spice_select.results.verify import VerificationReport

MARKS = {True: "ok    ", False: "FAILED", None: "-     "}
"""How a check went, at the beginning of its line."""


@with_settings("settings", JOB_SETTINGS)
def run(
    file: options.SourceFile,
    budget: options.BudgetOption,
    output: Annotated[
        Path, typer.Option("--output", "-o", file_okay=False, help="Folder for the files of the result.")
    ] = Path("spice-output"),
    cache: Annotated[
        str | None,
        typer.Option(
            metavar="<dir>",
            help="Folder for gradients, warm-ups and checkpoints, or an address (s3://bucket/prefix) for gradients and "
            "warm-ups: what is there is not computed again.",
        ),
    ] = None,
    device: Annotated[str, typer.Option(help="auto, cpu or cuda.")] = "auto",
    format: options.Format = None,
    column: options.Column = None,
    encoding: options.Encoding = None,
    *,
    settings: dict[str, Any],
    must_include: options.MustInclude = None,
    exclude: options.Exclude = None,
    given: Annotated[
        list[Path] | None,
        typer.Option(
            exists=True,
            file_okay=False,
            help="A result on the same gradients whose rows are owned already. Repeated for those that it adds to.",
        ),
    ] = None,
    target: options.Target = None,
    target_weight: options.TargetWeight = None,
    protect: options.Protect = None,
    benchmark: Annotated[
        list[Path] | None,
        typer.Option(exists=True, dir_okay=False, help="A file that nothing of may be trained on. May be repeated."),
    ] = None,
    deadline: options.Deadline = None,
    json: options.Json = False,
) -> None:
    """Select from a file on this machine, without a service."""
    included, excluded = options.rows(must_include, "--must-include"), options.rows(exclude, "--exclude")
    columns = options.pairs(column, "--column")
    wanted = options.target_files(target, target_weight)
    kept = options.target_files(protect, None, "--protect")
    conditions = options.without_none(must_include=included, exclude=excluded)
    config = run_config(budget, settings, conditions, targeted=bool(wanted))

    replaces = _replaces(output)
    let_idle_threads_sleep()
    from spice_select.ingest import IntakeOptions
    from spice_select.pipeline.run import run as run_pipeline
    from spice_select.pipeline.targets import TargetFile
    from spice_select.results.result_folder import MEDIA_TYPES

    intake = checked(IntakeOptions, options.without_none(format=format, columns=columns, encoding=encoding), "columns")
    with ProgressView(quiet=json) as view:
        result = run_pipeline(
            file,
            config,
            output,
            cache=cache,
            device=torch_device(device),
            options=intake,
            deadline_seconds=deadline,
            given=given,
            targets=[TargetFile(*one) for one in wanted],
            protect=[TargetFile(*one) for one in kept],
            benchmarks=benchmark or (),
            on_progress=view.step,
        )
        view.end("done")
    if replaces:
        for name in MEDIA_TYPES.keys() - result.files.keys():
            (output / name).unlink(missing_ok=True)
        note(f"note: the earlier result in {output} was replaced")
    if json:
        print_json(
            {
                **result.summary,
                "gradients_reused": result.gradients_reused,
                "files": {name: str(path) for name, path in result.files.items()},
            }
        )
        return
    print_fields({"not usable": counted(result.manifest.rejected), **result_fields(result.summary)})
    note(f"files are in {output}; check them with: spice-select verify {output} --source {file}")


def _replaces(folder: Path) -> bool:
    """Whether a result of an earlier run is in the folder; anything else in it that is not hidden is refused."""
    present = {path.name for path in folder.iterdir() if not path.name.startswith(".")} if folder.is_dir() else set()
    ours = {"ranking.parquet", "provenance.intoto.jsonl", "SHA256SUMS"} <= present
    if present and (not ours or "provenance.dsse.json" in present):
        options.refuse(f"{folder} is not empty and holds no result of an earlier run: name another folder with -o")
    return ours


def torch_device(name: str) -> str:
    """The device of a name; ``auto`` is a CUDA device if there is one."""
    if name not in {"auto", "cpu", "cuda"} and not name.startswith("cuda:"):
        options.refuse(f"no device {name!r}; there is auto, cpu and cuda")
    import torch

    if name == "auto":
        return "cuda" if torch.cuda.is_available() else "cpu"
    if name != "cpu" and not torch.cuda.is_available():
        options.refuse(f"device {name}: no CUDA device here")
    return name


def verify(
    folder: Annotated[Path, typer.Argument(exists=True, file_okay=False, help="Folder with the files of a result.")],
    source: Annotated[
        Path | None,
        typer.Option(exists=True, dir_okay=False, help="The file that the rows were selected from."),
    ] = None,
    key: Annotated[
        str | None,
        typer.Option(
            metavar="<file or url>",
            help="Public key of the service that has to have signed the result: a file, or the address of the service "
            f"(its keys are at {KEYS_PATH}).",
        ),
    ] = None,
    job: Annotated[
        str | None, typer.Option(metavar="JOB", help="With --key: the job that the result has to be of.")
    ] = None,
    gradients: Annotated[
        str | None,
        typer.Option(
            metavar="<dir or address>",
            help="With --source: where the gradients are (a --cache, the data folder of a service, any folder of "
            "shards). Gains are computed again in float64 and the rows are selected again.",
        ),
    ] = None,
    target: options.Target = None,
    protect: options.Protect = None,
    benchmark: Annotated[
        list[Path] | None,
        typer.Option(exists=True, dir_okay=False, help="With --gradients: what the pool was compared with."),
    ] = None,
    given: Annotated[
        list[Path] | None,
        typer.Option(exists=True, file_okay=False, help="With --gradients: a result that this adds to. Repeatable."),
    ] = None,
    json: options.Json = False,
) -> None:
    """Check every digest of a result, its rows, its signature and its selection, as far as these are given."""
    from spice_select.results.verify import verify_folder

    if job is not None and key is None:
        options.refuse("--job needs --key: only a signature says which job a result is of")
    if gradients is not None and source is None:
        options.refuse("--gradients needs --source: which gradients belong to the result follows from its rows")
    if gradients is None and (target or protect or benchmark or given):
        options.refuse("--target, --protect, --benchmark and --given need --gradients")
    report = verify_folder(folder, source, None if key is None else read_keys(key), job)
    if gradients is not None and source is not None:
        report = _with_selection(report, folder, source, gradients, target, protect, benchmark, given)
    if json:
        checks = [check._asdict() for check in report.checks]
        print_json({"ok": report.ok, "checks": checks, "notice": report.notice})
    else:
        for check in report.checks:
            out().print(f"{MARKS[check.ok]}  {check.name}: {check.detail}", markup=False)
        if report.notice is not None:
            note(report.notice)
    if not report.ok:
        leave(Exit.FAILED)


def _with_selection(
    report: VerificationReport,
    folder: Path,
    source: Path,
    gradients: str,
    target: list[str] | None,
    protect: list[str] | None,
    benchmark: list[Path] | None,
    given: list[Path] | None,
) -> VerificationReport:
    """The report with what the gradients say."""
    from spice_select.pipeline.verify_selection import RECOMPUTED, Beside, verify_selection

    let_idle_threads_sleep()
    beside = Beside(
        [(name, file) for name, file, _ in options.target_files(target, None)],
        [(name, file) for name, file, _ in options.target_files(protect, None, "--protect")],
        benchmark or (),
        given or (),
    )
    checks = verify_selection(folder, source, gradients, beside)
    proven = report.notice is not None and all(check.ok for check in checks)
    return replace(report, checks=[*report.checks, *checks], notice=RECOMPUTED if proven else report.notice)


def version(json: options.Json = False) -> None:
    """Print the version."""
    if json:
        print_json({"version": __version__, "gradient_format": GRADIENT_FORMAT})
    else:
        out().print(f"spice-select {__version__}")
