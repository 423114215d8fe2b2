"""Check a result against the gradients that it was selected by: its numbers by their definition, its picks made again.

No model is loaded: which shards belong to the result follows from the rows of the source and from the stated settings.
"""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import torch

from spice_select.config import RunConfig
from spice_select.errors import ConfigError, VerificationError
from spice_select.fingerprint import conversations_sha256, gradient_fingerprint, pool_sha256, shard_fingerprints
from spice_select.ingest import DatasetManifest, read_dataset
from spice_select.models.memory import host_bytes
from spice_select.pipeline.constraints import read_base_selections, read_source_rows
from spice_select.pipeline.gradients import target_set
from spice_select.pipeline.local import LocalRows, benchmark_rows
from spice_select.pipeline.pool import Pool, load_pool, pool_within
from spice_select.pipeline.progress import Clock
from spice_select.pipeline.read_files import FilesBeside, ReadFile, read_files
from spice_select.pipeline.select import select_from_pool
from spice_select.pipeline.targets import TargetFile, TargetSet, prepare
from spice_select.results.result_folder import ranking_rows, read_statement, stated_dependencies, stated_options
from spice_select.results.verify import Check, run_check
from spice_select.selection.definition import conflicts_of, gains_of
from spice_select.selection.partitions import Part
from spice_select.storage.shard_finder import ShardFinder

RECOMPUTED = (
    "The rows, their order and their numbers follow from the source, the stated settings and these gradients. That a "
    "deployment made them is shown by --key; that the gradients are those of the stated model, only by a new run."
)
"""What a check with gradients and without a key proves, and what it does not."""
RELATIVE, ABSOLUTE = 1e-6, 1e-9
"""Difference up to which two numbers of a pick are the same: gradients are kept in float32, summed in any order."""
NUMBERS = ("gain", "base_gain", "epsilon", "conflict", "score")


@dataclass(frozen=True)
class Beside:
    """What was given to a selection beside its source.

    Attributes:
        targets: Name and file of each target.
        protect: Name and file of each protected set.
        benchmarks: Files that nothing of may be trained on.
        bases: Folders of the results that this one adds to.
    """

    targets: Sequence[tuple[str, Path]] = ()
    protect: Sequence[tuple[str, Path]] = ()
    benchmarks: Sequence[Path] = ()
    bases: Sequence[Path] = ()


def verify_selection(folder: Path, source: Path, gradients: str | Path, beside: Beside | None = None) -> list[Check]:
    """Check the numbers of a result by their definition, and make its picks again.

    Args:
        folder: Folder with the files of the result.
        source: The file that its rows were selected from.
        gradients: Cache of a run, data folder of a service, any folder that holds the gradient shards, or an address.
        beside: What else the selection was given.

    Returns:
        The checks ``gradients``, ``numbers`` and ``selection``; the later ones are left out where nothing can be
        computed.
    """
    made: list[_Inputs] = []

    def find() -> str:
        made.append(_Inputs(folder, source, gradients, beside or Beside(), Path(scratch)))
        return made[0].find_shards()

    with tempfile.TemporaryDirectory(prefix="spice-verify-") as scratch:
        found = run_check("gradients", find)
        if not found.ok:
            return [found]
        return [
            found,
            run_check("numbers", lambda: _numbers(folder, made[0])),
            run_check("selection", lambda: _selected_again(folder, made[0])),
        ]


class _Inputs(LocalRows):
    """What a result was selected from, found again."""

    def __init__(self, folder: Path, source: Path, gradients: str | Path, beside: Beside, scratch: Path) -> None:
        build = read_statement(folder)["predicate"]["buildDefinition"]
        self.config = RunConfig.model_validate(build["externalParameters"]["config"])
        if self.config.schedule.kind == "periodic":
            raise ConfigError("a periodic selection keeps no gradients: repeat the run to compare")
        self._folder, self._stated, self._scratch = folder, build["internalParameters"], scratch
        self._gradients, self._beside = gradients, beside
        self._manifest = read_dataset(source, scratch / "rows", stated_options(folder))
        super().__init__(
            [scratch / "rows" / shard.name for shard in self._manifest.shards],
            [scratch / "rows" / shard.name for shard in self._manifest.source_shards],
        )
        self._revision = stated_dependencies(folder, "proxy-model")[0]["annotations"]["revision"]
        self._pool_sha256 = pool_sha256(self._manifest.rows_sha256, self._infos(self._manifest))
        self._refuse_others("--target", "target", beside.targets)
        self._refuse_others("--protect", "protected", beside.protect)
        if len(stated_dependencies(folder, "given-selection")) != len(beside.bases):
            raise ConfigError("--given has to name the folder of each result that this one adds to")
        benchmarks = self._stated.get("decontamination", {}).get("sets", [])
        if len(benchmarks) != len(beside.benchmarks):
            raise ConfigError(f"the pool was compared with {len(benchmarks)} benchmarks: name each with --benchmark")
        self.fingerprint = self._print(self._manifest)

    def find_shards(self) -> str:
        stated = self._stated["gradientFingerprint"]
        if self.fingerprint != stated:
            raise VerificationError(
                f"the rows of the source, the stated proxy and settings have the gradients {self.fingerprint}, "
                f"the result states {stated}"
            )
        return f"{len(self._paths(self._manifest))} shards hold the gradients {stated}"

    def pool(self) -> Pool:
        return pool_within(
            [(path, None) for path in self._paths(self._manifest)], self._prints(self._manifest), host_bytes()
        )

    def base_rows(self) -> Sequence[int]:
        rows, facts = read_base_selections(self._beside.bases, self.fingerprint)
        stated = {item["digest"]["sha256"] for item in stated_dependencies(self._folder, "given-selection")}
        for folder, found in zip(self._beside.bases, facts, strict=True):
            if found.ranking_sha256 not in stated:
                raise VerificationError(f"{folder} is not a result that this one adds to")
        return rows

    def targets(self) -> list[TargetSet]:
        return [self._set(read, "target") for read in self._files.targets]

    def protected(self) -> list[TargetSet]:
        return [self._set(read, "protected") for read in self._files.protect]

    def benchmarks(self) -> list[Any]:
        return benchmark_rows(self._files.benchmarks)

    def parts(self, _size: int) -> list[Part] | None:
        return None

    @cached_property
    def _files(self) -> FilesBeside:
        weights = {
            (role, said["annotations"][role]): said["annotations"]["weight"]
            for role in ("target", "protected")
            for said in stated_dependencies(self._folder, f"{role}-dataset")
        }
        return read_files(
            [TargetFile(name, file, weights["target", name]) for name, file in self._beside.targets],
            [TargetFile(name, file, weights["protected", name]) for name, file in self._beside.protect],
            self._beside.benchmarks,
            objective=self.config.gradients.objective,
            scratch=self._scratch / "beside",
            limits=None,
            should_stop=lambda: False,
        )

    @cached_property
    def _finder(self) -> ShardFinder:
        return ShardFinder(self._gradients, self._scratch)

    def _set(self, read: ReadFile, role: str) -> TargetSet:
        pool = load_pool([(path, None) for path in self._paths(read.manifest)], self._prints(read.manifest))
        made = target_set(read, pool, self._print(read.manifest))
        said = next(
            one
            for one in stated_dependencies(self._folder, f"{role}-dataset")
            if one["annotations"][role] == read.given.name
        )
        if (said["annotations"]["rows_digest"]["sha256"], said["annotations"]["rows"]) != (
            made.facts.rows_sha256,
            made.facts.rows,
        ):
            raise VerificationError(f"{read.given.file} does not have the rows of the {role} set {read.given.name!r}")
        return made

    def _refuse_others(self, option: str, role: str, files: Sequence[tuple[str, Path]]) -> None:
        stated = [one["annotations"][role] for one in stated_dependencies(self._folder, f"{role}-dataset")]
        if [name for name, _ in files] != stated:
            wanted = " ".join(f"{option} {name}=FILE" for name in stated) or f"no {option}"
            raise ConfigError(f"the result was selected with {wanted}: give these, in this order")

    def _paths(self, manifest: DatasetManifest) -> list[Path]:
        return [self._finder.find(name) for name in self._prints(manifest)]

    def _prints(self, manifest: DatasetManifest) -> list[str]:
        ranked = stated_dependencies(self._folder, "prefilter") if manifest is self._manifest else []
        return shard_fingerprints(
            self._infos(manifest),
            proxy_revision=self._revision,
            config=self.config.gradients,
            pool=self._pool_sha256,
            prefilter=next((said["uri"].removeprefix("spice:prefilter/") for said in ranked), None),
        )

    def _print(self, manifest: DatasetManifest) -> str:
        return gradient_fingerprint(
            rows_sha256=conversations_sha256(manifest.rows_sha256, self._infos(manifest)),
            proxy_revision=self._revision,
            config=self.config.gradients,
            pool=self._pool_sha256,
        )

    @staticmethod
    def _infos(manifest: DatasetManifest) -> list[dict[str, Any]]:
        return [info.model_dump() for info in manifest.shards]


def _numbers(folder: Path, made: _Inputs) -> str:
    """Gain, gain alone and conflict of every pick by their definition, whatever rule made the picks.

    Raises:
        VerificationError: A pick has no gradient, or other numbers.
    """
    pool, base = made.pool(), made.base_rows()
    picks, sources = list(ranking_rows(folder)), read_source_rows(made.rows_shards)[pool.positions]
    candidate_of = {int(row): place for place, row in enumerate(sources)}
    for pick in picks:
        if pick["source_row"] not in candidate_of:
            raise VerificationError(f"rank {pick['rank']}: row {pick['source_row']} of the source has no gradient")
        if pick["tokens"] != pool.tokens[candidate_of[pick["source_row"]]]:
            raise VerificationError(f"rank {pick['rank']}: row {pick['source_row']} has another number of tokens")
    if not picks:
        return "there are no picks"
    owned = pool.features[torch.tensor(sorted({candidate_of[row] for row in base})).numpy()] if base else None
    targets = made.targets()
    prepared = prepare(pool, targets, made.config.selection, owned, made.protected())
    rows = prepared.candidates.take(torch.tensor([candidate_of[pick["source_row"]] for pick in picks])).cpu()
    given = torch.zeros(0, rows.shape[1], dtype=torch.float64)
    if prepared.given is not None:
        given = torch.as_tensor(prepared.given, dtype=torch.float64)
    config = made.config.selection
    compared: dict[str, tuple[torch.Tensor, torch.Tensor | float]] = {
        "base_gain": (torch.log1p(config.alpha * rows.square().sum(dim=1)), 0.0)
    }
    if config.scope.kind != "windows":  # in those each window begins anew
        gains, doubt = gains_of(rows, given, config)
        compared["gain"] = (gains, doubt)
        if not targets:
            compared["conflict"] = (conflicts_of(rows, given), 0.0)
    wrong: dict[int, str] = {}
    for name, (values, doubts) in compared.items():
        allowed = ABSOLUTE + RELATIVE * values.abs() + doubts
        said = torch.tensor([pick[name] for pick in picks], dtype=torch.float64)
        for place in torch.nonzero(~((said - values).abs() <= allowed)).flatten().tolist():
            wrong.setdefault(place, f"{name} {said[place]:.9g}, by its definition {values[place]:.9g}")
    if wrong:
        first = min(wrong)
        count = f"{len(wrong)} of {len(picks)} picks"
        raise VerificationError(f"{count} have other numbers, first rank {first + 1}: {wrong[first]}")
    utility = f", utility {float(compared['gain'][0].sum()):.6f} nats" if "gain" in compared else ""
    return f"{', '.join(compared)} of {len(picks)} picks are what the definition gives in float64{utility}"


def _selected_again(folder: Path, made: _Inputs) -> str:
    """The same picks in the same order with the same numbers, by the stated settings.

    Raises:
        VerificationError: It is otherwise.
    """
    choice = select_from_pool(made.config, made, Clock(None), lambda: False)
    sources = read_source_rows(made.rows_shards)
    again = [int(sources[choice.positions[index]]) for index in choice.selection.indices]
    stated = list(ranking_rows(folder))
    rows = [pick["source_row"] for pick in stated]
    pairs = enumerate(zip(rows, again, strict=False))
    first = next((place for place, (row, made_again) in pairs if row != made_again), None)
    if first is not None:
        strangers = len(set(rows) - set(again))
        raise VerificationError(
            f"from rank {first + 1} on the settings give other rows or another order: row {again[first]}, not "
            f"{rows[first]}; of {len(rows)} rows {strangers} are not among theirs"
        )
    if len(stated) != len(again):
        raise VerificationError(
            f"the settings select {len(again)} rows, the result has {len(stated)}"
            + (": so does one that a cancel or a deadline ended early" if len(stated) < len(again) else "")
        )
    numbers = choice.selection
    for place, pick in enumerate(stated):
        values = (numbers.gains, numbers.base_gains, numbers.epsilons, numbers.conflicts, numbers.scores)
        for name, value in zip(NUMBERS, (column[place] for column in values), strict=True):
            if not abs(pick[name] - value) <= ABSOLUTE + 10 * RELATIVE * max(1.0, abs(value)):
                raise VerificationError(f"rank {place + 1}: {name} {pick[name]:.9g}, made again {value:.9g}")
    return f"selected again: the same {len(stated)} rows in the same order"
