"""The whole way of a run on one machine: file -> rows -> gradients -> selection -> files.

Each step is the function that the service's workers call, so a run gives the same bytes as a job of the same settings.
"""

from __future__ import annotations

import tempfile
import time
import uuid
from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal

import torch

from spice_select.config import RunConfig
from spice_select.defaults import with_dtype, with_preset
from spice_select.errors import ConfigError
from spice_select.fingerprint import gradient_fingerprint
from spice_select.ingest import DatasetManifest, IntakeLimits, IntakeOptions, iter_rows, read_dataset
from spice_select.models.compute_type import is_bfloat16_fast
from spice_select.models.device_errors import device_errors
from spice_select.models.model_files import file_digest, is_folder, sizes_of
from spice_select.pipeline.constraints import read_source_rows
from spice_select.pipeline.gradients import LocalGradients
from spice_select.pipeline.local import LocalRows, select_locally
from spice_select.pipeline.measure import measure_shard
from spice_select.pipeline.pool import Pool, load_pool
from spice_select.pipeline.progress import Clock, RunProgress
from spice_select.pipeline.read_files import read_files
from spice_select.pipeline.targets import TargetFile, same_rows
from spice_select.pipeline.write import write_choice
from spice_select.records.objectives import check_objective
from spice_select.results.run_metadata import DatasetFacts, ProxyFacts, RunFacts, is_commit
from spice_select.results.selected_sample import SelectedSample
from spice_select.selection.result import Selection, StopRequest
from spice_select.selection.validation import (
    check_prefilter,
    check_protected,
    check_quotas,
    check_screens,
    check_settings,
    check_targets,
    group_of,
)
from spice_select.storage.cache import Cache

__all__ = ["Pool", "RunProgress", "RunResult", "gradient_fingerprint", "load_pool", "measure_shard", "run"]


@dataclass(frozen=True)
class RunResult:
    """What a run led to.

    Attributes:
        manifest: What was read.
        selection: The selection; ``indices`` count candidates, ``ranking`` names rows of the source.
        ranking: One row per pick.
        summary: The numbers on one page, as in a job's ``result``.
        files: Name -> path of what was written; empty without an output folder.
        statement: The in-toto statement.
        gradients_reused: Whether every gradient came from the cache.
        excluded: Usable rows that became no candidate: ``row`` (position among them), ``code`` and ``detail`` of each.
    """

    manifest: DatasetManifest
    selection: Selection
    ranking: list[SelectedSample]
    summary: dict[str, Any]
    files: dict[str, Path]
    statement: dict[str, Any]
    gradients_reused: bool
    excluded: list[dict[str, Any]]


def run(
    source: Path,
    config: RunConfig,
    out: Path | None = None,
    *,
    cache: str | Path | None = None,
    device: str = "cpu",
    options: IntakeOptions | None = None,
    limits: IntakeLimits | None = None,
    name: str | None = None,
    on_progress: Callable[[RunProgress], None] | None = None,
    should_stop: Callable[[], bool] | None = None,
    deadline_seconds: float | None = None,
    given: Path | Sequence[Path] | None = None,
    targets: Sequence[TargetFile] = (),
    protect: Sequence[TargetFile] = (),
    benchmarks: Sequence[Path] = (),
) -> RunResult:
    """Choose part of a file of training records.

    Args:
        source: JSON Lines, JSON array, CSV or Parquet, plain or gzip.
        config: Proxy model, gradients and selection. Where it names no preset, ``recommended`` fills in what was not
            set; ``preset=None`` takes the settings as they are.
        out: Folder for the files of the result; None writes none.
        cache: Folder for gradients, so that another budget or penalty on the same data computes none, for warm-ups, and
            for the checkpoints of a periodic run, which goes on from there when it was interrupted. An address that
            fsspec knows (``s3://bucket/prefix``) does as well, for all but those checkpoints.
        device: torch device of the proxy model.
        options: Record form and columns, when they should not be found.
        limits: Caps on the source.
        name: Name of the data set; the file's name when left out.
        on_progress: Told about every step.
        should_stop: Asked often; while choosing, a stop keeps the picks so far.
        deadline_seconds: A stop this long after the start, whose reason is ``deadline``; None has none.
        given: Folder of an earlier result on the same gradients whose rows are owned already: the choice is what adds
            most to them, and none of them is chosen again. Several where that result adds to others in turn.
        targets: Files of records that say what the model should get better at, measured in the same way. Rows of the
            source that are also in one are taken out of the pool.
        protect: Files of records that must not get worse: rows whose gradient points against the mean of one pay for
            it. Rows of the source that are also in one are taken out likewise.
        benchmarks: Files that nothing of may be trained on: rows that repeat one of theirs leave the pool.

    Returns:
        The selection, where its rows are in the source, and the files.

    Raises:
        BudgetError: More samples are asked for than the file has usable rows.
        DatasetError: The file as a whole, or a target, protected set or benchmark, cannot be read.
        DeviceError: The device vanished, or is too small for one sample; finished shards stay in ``cache``.
        ProxyError: The proxy model cannot be used.
        StoreUnreachableError: The address given as ``cache`` does not answer.
        Stopped: ``should_stop`` said so, or the deadline passed, before anything was chosen.
    """  # ruff: ignore[docstring-extraneous-exception] - raised by the steps
    source, started = Path(source), datetime.now(UTC)
    config = _with_dtype(with_preset(config, targeted=bool(targets)), device)
    clock, asked = Clock(on_progress), _stops(should_stop, deadline_seconds)

    def stops() -> bool:
        return bool(asked())

    with device_errors(), ExitStack() as stack:
        scratch = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="spice-select-")))
        clock.phase("validating", measure="bytes")
        manifest = read_dataset(
            source, scratch / "rows", options, limits, lambda _rows, done, total: clock.advance(done, total), stops
        )
        shards = [scratch / "rows" / shard.name for shard in manifest.shards]
        _check_settings(config, manifest, shards, targets=targets, protect=protect)
        kept = Cache(cache or scratch, scratch)
        gradients = LocalGradients(config, manifest, kept, device, clock, stops)
        rows = LocalRows(shards, [scratch / "rows" / shard.name for shard in manifest.source_shards])
        beside = read_files(
            targets,
            protect,
            benchmarks,
            objective=config.gradients.objective,
            scratch=scratch / "beside",
            limits=limits,
            should_stop=stops,
        )
        local = select_locally(
            config,
            rows,
            gradients,
            kept,
            clock,
            asked,
            bases=[given] if isinstance(given, Path) else given or (),
            beside=beside,
        )
        choice = local.choice
        clock.phase("writing_files")
        facts = RunFacts(
            dataset=DatasetFacts.from_manifest(
                manifest, name=name or source.name, reference=source.name, options=options
            ),
            proxy=local.proxy,
            config=_resolved(config, local.proxy),
            gradient_fingerprint=local.fingerprint,
            gradients_reused=local.reused,
            halvings=choice.halvings,
            device=_device_name(device),
            invocation_id=f"urn:uuid:{uuid.uuid4()}",
            started_on=started,
            finished_on=datetime.now(UTC),
            builder="library",
            given=local.bases,
            targets=choice.targets,
            protected=choice.protected,
            warmup=gradients.warmup,
            prefilter=gradients.prefilter,
        )
        folder = out or scratch / "out"
        folder.mkdir(parents=True, exist_ok=True)
        staging = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix=".spice-select-", dir=folder)))
        summary, written = write_choice(staging, choice, rows, facts)
        files: dict[str, Path] = {}
        for file in written.files if out is not None else ():
            files[file.name] = (staging / file.name).replace(folder / file.name)
    numbers = {**summary, "seconds": clock.seconds(), "proxy": asdict(local.proxy), "device": facts.device}
    if gradients.warmup is not None:
        numbers["warmup"] = asdict(gradients.warmup)
    return RunResult(
        manifest,
        choice.selection,
        written.ranking,
        numbers,
        files,
        written.statement,
        local.reused,
        choice.excluded,
    )


def _stops(should_stop: Callable[[], bool] | None, deadline_seconds: float | None) -> StopRequest:
    """The caller's wish to stop and the deadline in one question."""
    ends = None if deadline_seconds is None else time.monotonic() + deadline_seconds

    def asked() -> bool | Literal["deadline"]:
        if should_stop is not None and should_stop():
            return True
        return "deadline" if ends is not None and time.monotonic() >= ends else False

    return asked


def _with_dtype(config: RunConfig, device: str) -> RunConfig:
    """The settings with the type of the computation settled for this machine."""
    model = Path(config.proxy.model).expanduser()
    sizes = sizes_of(model) if is_folder(config.proxy.model) and model.exists() else None
    gradients = with_dtype(config.gradients, sizes, is_fast=lambda: is_bfloat16_fast(device))
    return config.model_copy(update={"gradients": gradients})


def _resolved(config: RunConfig, proxy: ProxyFacts) -> RunConfig:
    """The settings with the commit of a hub model filled in."""
    if is_commit(proxy.revision) and not Path(proxy.model).expanduser().is_dir():
        pinned = config.proxy.model_copy(update={"revision": proxy.revision})
        return config.model_copy(update={"proxy": pinned})
    return config


def _check_settings(
    config: RunConfig,
    manifest: DatasetManifest,
    shards: Sequence[Path],
    *,
    targets: Sequence[TargetFile],
    protect: Sequence[TargetFile],
) -> None:
    """Refuse what cannot be met before gradients are computed for it.

    Raises:
        ConfigError: ``given_job`` or ``target_dataset_id``, which only a service knows.
    """
    if config.conditions.target_dataset_id is not None:
        raise ConfigError(
            "target_dataset_id needs a service; a run is given the target as a file", pointer="#/target_dataset_id"
        )
    if config.conditions.targets:
        raise ConfigError("targets need a service; a run is given files", pointer="#/targets")
    if config.conditions.protect:
        raise ConfigError("protect needs a service; a run is given files", pointer="#/protect")
    if config.conditions.screens.contamination:
        raise ConfigError(
            "screens.contamination needs a service; a run is given files", pointer="#/screens/contamination"
        )
    check_objective(config.gradients.objective, manifest.format, manifest.columns)
    check_screens(config)
    names = [target.name for target in targets]
    check_prefilter(config, len(names), manifest.num_usable)
    check_targets(config, names, [target.weight for target in targets])
    check_protected(config, [one.name for one in protect], [one.weight for one in protect], names)
    digests = {file_digest([target.file]): target.name for target in targets}
    for number, one in enumerate(protect):
        if file_digest([one.file]) in digests:
            detail = same_rows(one.name, digests[file_digest([one.file])])
            raise ConfigError(detail, pointer=f"#/protect/{number}")
    if config.conditions.given_job is not None:
        raise ConfigError("given_job needs a service; a run is given the folder of a result", pointer="#/given_job")
    never = config.conditions.exclude
    unavailable = len(set(never).intersection(read_source_rows(shards).tolist())) if never else 0
    check_settings(config, manifest.num_usable, unavailable=unavailable)
    quotas = config.selection.quotas
    if quotas is not None and quotas.column is not None:
        groups = Counter(
            group_of(row.record, quotas.column)
            for path in shards
            for row in iter_rows(path)
            if row.source_row not in set(never)
        )
        check_quotas(config, groups)


def _device_name(device: str) -> str:
    return str(torch.cuda.get_device_name(device)) if device.startswith("cuda") else device
