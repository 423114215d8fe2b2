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

import numpy as np
import torch

from spice_select.conditions import read_given, read_source_rows, settle
from spice_select.config import ProxyConfig, RunConfig
from spice_select.errors import ConfigError, StoreError
from spice_select.fingerprint import conversations_sha256, gradient_fingerprint, shard_fingerprints
from spice_select.greedy import random_control, select
from spice_select.intake import DatasetManifest, IntakeLimits, IntakeOptions, iter_rows, read_dataset
from spice_select.memory import host_bytes
from spice_select.pool_shards import Pool, load_pool, measure_shard, pool_within, read_groups
from spice_select.preflight import check_quotas, check_settings, check_target, group_of
from spice_select.proxy import Proxy, load_proxy
from spice_select.proxy_files import BUILTIN, folder_digest
from spice_select.results import RankingRow, summarise, write_results
from spice_select.run_facts import DatasetFacts, ProxyFacts, RunFacts, TargetFacts, is_commit
from spice_select.selection import Selection, StopRequest
from spice_select.stacked import Stacked
from spice_select.store import read_shard, write_shard

__all__ = ["Pool", "RunProgress", "RunResult", "gradient_fingerprint", "load_pool", "measure_shard", "run"]


@dataclass(frozen=True)
class RunProgress:
    """How far a run is.

    Attributes:
        phase: ``validating``, ``loading_model``, ``computing_gradients``, ``loading_gradients``, ``selecting`` or
            ``writing_files``.
        completed: Done so far in this phase.
        total: To be done in this phase; 0 where it is not known.
        unit: What is counted: ``bytes``, ``samples``, ``picks`` or ``steps``.
    """

    phase: str
    completed: int
    total: int
    unit: str


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
    ranking: list[RankingRow]
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
    cache: Path | None = None,
    device: str = "cpu",
    options: IntakeOptions | None = None,
    limits: IntakeLimits | None = None,
    name: str | None = None,
    on_progress: Callable[[RunProgress], None] | None = None,
    should_stop: Callable[[], bool] | None = None,
    deadline_seconds: float | None = None,
    given: Path | None = None,
    target: Path | None = None,
) -> RunResult:
    """Choose part of a file of training records.

    Args:
        source: JSON Lines, JSON array, CSV or Parquet, plain or gzip.
        config: Proxy model, gradients and selection.
        out: Folder for the files of the result; None writes none.
        cache: Folder for gradients, so that another budget or penalty on the same data computes none.
        device: torch device of the proxy model.
        options: Record form and columns, when they should not be found.
        limits: Caps on the source.
        name: Name of the data set; the file's name when left out.
        on_progress: Told about every step.
        should_stop: Asked often; while choosing, a stop keeps the picks so far.
        deadline_seconds: A stop this long after the start, whose reason is ``deadline``; None has none.
        given: Folder of an earlier result on the same gradients whose rows are owned already: the choice is what adds
            most to them, and none of them is chosen again.
        target: For the method ``less``: file of records that the choice is to be close to, measured in the same way.

    Returns:
        The selection, where its rows are in the source, and the files.

    Raises:
        BudgetError: More samples are asked for than the file has usable rows.
        DatasetError: The file as a whole cannot be read.
        ProxyError: The proxy model cannot be used.
        Stopped: ``should_stop`` said so, or the deadline passed, before anything was chosen.
    """  # ruff: ignore[docstring-extraneous-exception] - raised by the steps
    source, started = Path(source), datetime.now(UTC)
    clock, asked = _Clock(on_progress), _stops(should_stop, deadline_seconds)

    def stops() -> bool:
        return bool(asked())

    with ExitStack() as stack:
        scratch = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="spice-select-")))
        clock.enter("validating", unit="bytes")
        manifest = read_dataset(
            source, scratch / "rows", options, limits, lambda _rows, done, total: clock.tell(done, total), stops
        )
        shards = [scratch / "rows" / shard.name for shard in manifest.shards]
        _check_settings(config, manifest, shards, has_target=target is not None)
        store = _Store(config, manifest, cache or scratch, device, clock, stops)
        paths, proxy = store.fill(shards)
        clock.enter("loading_gradients")
        pool = pool_within([(path, None) for path in paths], store.prints, host_bytes())
        owned, given_facts = ((), None) if given is None else read_given(given, store.fingerprint(proxy.revision))
        settled = settle(config.conditions, pool, shards, owned).arguments()
        targets, target_facts = store.beside(target, scratch / "target", limits) if target is not None else (None, None)
        clock.enter("selecting", unit="picks")
        tokens = pool.tokens.tolist()
        quotas = config.selection.quotas
        column = quotas.column if quotas is not None else None
        selection = select(
            pool.features,
            config.selection,
            costs=tokens,
            losses=pool.losses.tolist(),
            groups=read_groups(shards, column, pool.positions.tolist()) if column is not None else None,
            **settled,
            targets=targets,
            on_progress=clock.tell,
            should_stop=asked,
        )
        control = random_control(
            pool.features, config.selection, len(selection.indices), config.selection.seed, **settled
        )
        clock.enter("writing_files")
        summary = summarise(
            selection,
            tokens=tokens,
            excluded=pool.excluded,
            truncated=len(pool.truncated),
            random_utility=control,
        )
        facts = RunFacts(
            dataset=DatasetFacts.from_manifest(manifest, name=name or source.name, reference=source.name),
            proxy=proxy,
            config=_resolved(config, proxy),
            gradient_fingerprint=store.fingerprint(proxy.revision),
            gradients_reused=store.reused,
            halvings=pool.halvings,
            device=_device_name(device),
            invocation_id=f"urn:uuid:{uuid.uuid4()}",
            started_on=started,
            finished_on=datetime.now(UTC),
            builder="library",
            given=given_facts,
            target=target_facts,
        )
        target = out or scratch / "out"
        target.mkdir(parents=True, exist_ok=True)
        staging = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix=".spice-select-", dir=target)))
        written = write_results(
            staging,
            rows_shards=shards,
            source_shards=[scratch / "rows" / shard.name for shard in manifest.source_shards],
            selection=selection,
            positions=pool.positions.tolist(),
            tokens=tokens,
            summary=summary,
            facts=facts,
        )
        files: dict[str, Path] = {}
        for file in written.files if out is not None else ():
            files[file.name] = (staging / file.name).replace(target / file.name)
    numbers = {**summary, "seconds": clock.seconds(), "proxy": asdict(proxy), "device": facts.device}
    return RunResult(
        manifest, selection, written.ranking, numbers, files, written.statement, store.reused, pool.excluded
    )


class _Clock:
    """Reports steps and remembers how long each phase took, in seconds."""

    def __init__(self, on_progress: Callable[[RunProgress], None] | None) -> None:
        self._on_progress = on_progress
        self._phases: dict[str, float] = {}
        self._phase, self._unit, self._since = "", "steps", time.monotonic()

    def enter(self, phase: str, *, unit: str = "steps") -> None:
        """Begin a phase."""
        self.seconds()
        self._phase, self._unit = phase, unit
        self.tell(0, 0)

    def tell(self, completed: int, total: int) -> None:
        """Report a count of the present phase."""
        if self._on_progress is not None:
            self._on_progress(RunProgress(self._phase, completed, total, self._unit))

    def seconds(self) -> dict[str, float]:
        """Seconds per phase so far."""
        now = time.monotonic()
        if self._phase:
            self._phases[self._phase] = round(self._phases.get(self._phase, 0.0) + now - self._since, 3)
        self._since = now
        return dict(self._phases)


class _Store:
    """The gradient shards of one pool in a folder, made where they are not there yet.

    Attributes:
        prints: What each shard was made from; empty before ``fill``.
        reused: Whether all of them were there.
    """

    def __init__(
        self,
        config: RunConfig,
        manifest: DatasetManifest,
        folder: Path,
        device: str,
        clock: _Clock,
        should_stop: Callable[[], bool],
    ) -> None:
        self._config, self._manifest, self._folder = config, manifest, folder
        self._device, self._clock, self._should_stop = device, clock, should_stop
        self._proxy: Proxy | None = None
        self.prints: list[str] = []
        self.reused = True

    def fingerprint(self, revision: str) -> str:
        """Name of the gradients under a revision of the proxy model."""
        return gradient_fingerprint(
            rows_sha256=conversations_sha256(
                self._manifest.rows_sha256, [s.model_dump() for s in self._manifest.shards]
            ),
            proxy_revision=revision,
            config=self._config.gradients,
        )

    def fill(self, shards: list[Path]) -> tuple[list[Path], ProxyFacts]:
        """Make what is missing; returns the shards and what is known about the proxy model."""
        revision = _known_revision(self._config.proxy) or self._load().revision
        folder = self._folder / "gradients"
        folder.mkdir(parents=True, exist_ok=True)
        infos = [info.model_dump() for info in self._manifest.shards]
        self.prints = shard_fingerprints(infos, proxy_revision=revision, config=self._config.gradients)
        facts: ProxyFacts | None = None
        paths, first = [], 0
        for number, (rows, fingerprint) in enumerate(zip(shards, self.prints, strict=True)):
            path = folder / f"{fingerprint}.safetensors"
            found = _stored_facts(path, fingerprint, number)
            if found is None:
                self.reused = False
                found = ProxyFacts.of(self._load())
                self._measure(rows, path, number, first, fingerprint, found)
            facts = facts or found
            paths.append(path)
            first += self._manifest.shards[number].rows
        assert facts is not None, "the intake refuses a data set without a usable row"
        return paths, facts

    def beside(
        self, source: Path, scratch: Path, limits: IntakeLimits | None
    ) -> tuple[np.ndarray | Stacked, TargetFacts]:
        """Gradients of the samples of another file by the same proxy, shape (m, d), and what to say about it."""
        self._clock.enter("validating", unit="bytes")
        manifest = read_dataset(source, scratch, None, limits, should_stop=self._should_stop)
        other = _Store(self._config, manifest, self._folder, self._device, self._clock, self._should_stop)
        other._proxy = self._proxy
        paths, proxy = other.fill([scratch / shard.name for shard in manifest.shards])
        fingerprint = other.fingerprint(proxy.revision)
        facts = DatasetFacts.from_manifest(manifest, name=source.name, reference=source.name)
        features = pool_within([(path, None) for path in paths], other.prints, host_bytes()).features
        return features, TargetFacts(facts.uri, facts.sha256, facts.rows_sha256, fingerprint)

    def _measure(self, rows: Path, path: Path, number: int, first: int, fingerprint: str, facts: ProxyFacts) -> None:
        self._clock.enter("computing_gradients", unit="samples")
        total = self._manifest.num_usable
        self._clock.tell(first, total)
        shard = measure_shard(
            rows,
            first,
            self._load(),
            self._config.gradients,
            header={"fingerprint": fingerprint, "shard": number, "proxy": asdict(facts)},
            on_progress=lambda completed, _total, _tokens: self._clock.tell(first + completed, total),
            should_stop=self._should_stop,
        )
        write_shard(path, shard)

    def _load(self) -> Proxy:
        if self._proxy is None:
            self._clock.enter("loading_model")
            self._proxy = load_proxy(self._config.proxy, self._config.gradients, device=self._device)
        return self._proxy


def _stops(should_stop: Callable[[], bool] | None, deadline_seconds: float | None) -> StopRequest:
    """The caller's wish to stop and the deadline in one question."""
    ends = None if deadline_seconds is None else time.monotonic() + deadline_seconds

    def asked() -> bool | Literal["deadline"]:
        if should_stop is not None and should_stop():
            return True
        return "deadline" if ends is not None and time.monotonic() >= ends else False

    return asked


def _stored_facts(path: Path, fingerprint: str, number: int) -> ProxyFacts | None:
    """What a stored shard says about its proxy model; None when it is not there or cannot be trusted."""
    if not path.exists():
        return None
    try:
        header = read_shard(path, fingerprint=fingerprint).header
        return ProxyFacts(**header["proxy"]) if header.get("shard") == number else None
    except (StoreError, KeyError, TypeError):
        return None


def _known_revision(proxy: ProxyConfig) -> str | None:
    """Revision of a proxy model that can be told without loading it; None for the others."""
    if proxy.model in BUILTIN and proxy.revision is None:
        return BUILTIN[proxy.model]
    folder = Path(proxy.model).expanduser()
    if proxy.revision is None and folder.is_dir():
        return folder_digest(folder)
    return proxy.revision if proxy.revision is not None and is_commit(proxy.revision) else None


def _resolved(config: RunConfig, proxy: ProxyFacts) -> RunConfig:
    """The settings with the commit of a hub model filled in."""
    if is_commit(proxy.revision) and not Path(proxy.model).expanduser().is_dir():
        pinned = config.proxy.model_copy(update={"revision": proxy.revision})
        return config.model_copy(update={"proxy": pinned})
    return config


def _check_settings(config: RunConfig, manifest: DatasetManifest, shards: Sequence[Path], *, has_target: bool) -> None:
    """Refuse what cannot be met before gradients are computed for it.

    Raises:
        ConfigError: ``given_job`` or ``target_dataset_id``, which only a service knows.
    """
    if config.conditions.target_dataset_id is not None:
        raise ConfigError(
            "target_dataset_id needs a service; a run is given the target as a file", pointer="#/target_dataset_id"
        )
    check_target(config, given=has_target)
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
