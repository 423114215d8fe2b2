"""From a file and a choice to a report: what was compared, what it cost, what follows.

Clean is: hold rows out first, choose from the rest; ``hold_out_file`` makes the two files. The command with a budget
does both. A choice that was made from the whole file is judged too, on rows drawn afterwards that are taken out of the
choice; the report then says that the choice has seen them.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq

from spice_select.config import GradientConfig, ProxyConfig, RunConfig
from spice_select.errors import DatasetError
from spice_select.evaluation.dataset import evaluation_dataset, groups_of, text_of
from spice_select.evaluation.experiment import run_experiment, standard_arms
from spice_select.evaluation.hold_out import split
from spice_select.evaluation.report import facts_of, report
from spice_select.evaluation.settings import EvaluationConfig
from spice_select.ingest import IntakeOptions, PoolRow, iter_rows, read_dataset
from spice_select.models.proxy import load_proxy
from spice_select.pipeline.run import run
from spice_select.records.near_duplicates import near_duplicates_of

POOL, HELD_OUT, CHOSEN = "pool.jsonl", "held_out.jsonl", "chosen"
"""What ``hold_out_file`` writes, and the folder of a choice made here."""


@dataclass(frozen=True)
class SplitFiles:
    """A file cut in two.

    Attributes:
        pool: Rows to choose from and to train on.
        held_out: Rows to judge by.
        pool_rows: Rows in the first.
        held_out_rows: Rows in the second.
        clusters: Clusters of near-duplicates that were kept together.
        clustered: Rows in them.
    """

    pool: Path
    held_out: Path
    pool_rows: int
    held_out_rows: int
    clusters: int
    clustered: int


def hold_out_file(
    source: Path,
    out: Path,
    *,
    share: float = 0.1,
    group: str | None = None,
    options: IntakeOptions | None = None,
    seed: int = 0,
) -> SplitFiles:
    """Cut a file into rows to choose from and rows to judge by, near-duplicates together.

    Args:
        source: JSON Lines, JSON array, CSV or Parquet, plain or gzip.
        out: Folder for the two files of JSON Lines.
        share: Share of the usable rows to hold out, in (0, 1).
        group: Column whose groups keep their shares in both.
        options: Record form and columns, when they should not be found.
        seed: Seed of the draw.
    """
    rows = read_usable(source, options)
    cut = split(
        [text_of(row) for row in rows],
        count=max(2, round(share * len(rows))),
        groups=groups_of(rows, group),
        seed=seed,
    )
    out.mkdir(parents=True, exist_ok=True)
    for name, places in ((POOL, cut.pool), (HELD_OUT, cut.held_out)):
        text = "".join(rows[place].record + "\n" for place in places)
        (out / name).write_text(text, encoding="utf-8", newline="\n")
    return SplitFiles(out / POOL, out / HELD_OUT, len(cut.pool), len(cut.held_out), cut.clusters, cut.clustered)


def select_from_pool(
    pool: Path, run_config: RunConfig, out: Path, *, device: str, options: IntakeOptions | None = None
) -> Path:
    """Choose from the pool of a split; returns the folder of the result.

    Args:
        pool: The pool's file.
        run_config: What to choose and how.
        out: Folder of the evaluation.
        device: torch device.
        options: Record form and columns, when they should not be found.
    """
    run(pool, run_config, out / CHOSEN, device=device, options=options)
    return out / CHOSEN


def evaluate(
    source: Path,
    ranking: Path,
    config: EvaluationConfig,
    *,
    held_out: Path | None = None,
    share: float = 0.1,
    group: str | None = None,
    proxy: ProxyConfig | None = None,
    max_length: int = 512,
    device: str = "cpu",
    options: IntakeOptions | None = None,
    name: str = "the choice",
    on_progress: Callable[[str, int, int], None] | None = None,
    should_stop: Callable[[], bool] | None = None,
) -> dict[str, Any]:
    """Judge a choice from a file by training on it and on controls.

    Args:
        source: The file that was chosen from.
        ranking: ``ranking.parquet`` of the result.
        config: How, how often, how sure.
        held_out: Rows to judge by that the choice has not seen; None draws them from the source.
        share: Share of the source to draw, when no file is given.
        group: Column that names a row's group.
        proxy: Model to train.
        max_length: Longest sequence in tokens; longer ones are cut.
        device: torch device.
        options: Record form and columns, when they should not be found.
        name: What the report calls the choice.
        on_progress: Told the name of the next arm, trainings done and trainings in all.
        should_stop: Asked before every step.

    Returns:
        The report, as JSON values.

    Raises:
        ConfigError: Nothing is left to train on or to judge by.
        DatasetError: The ranking names rows that the file does not have.
        Stopped: ``should_stop`` said so.
    """  # ruff: ignore[docstring-extraneous-exception] - raised by the steps
    rows = read_usable(source, options)
    place_of = {row.source_row: place for place, row in enumerate(rows)}
    picks = pq.read_table(ranking, columns=["source_row", "row_sha256"]).to_pylist()
    for pick in picks:
        place = place_of.get(pick["source_row"])
        if place is None or rows[place].row_sha256 != pick["row_sha256"]:
            raise DatasetError(
                f"row {pick['source_row']} of the ranking is no row of {source.name}", code="artifact-mismatch"
            )
    texts = [text_of(row) for row in rows]
    if held_out is not None:
        judges = read_usable(held_out, options)
        taken = set(near_duplicates_of(texts, [text_of(row) for row in judges], seed=config.seed))
    else:
        cut = split(texts, count=max(2, round(share * len(rows))), groups=groups_of(rows, group), seed=config.seed)
        judges, taken = [rows[place] for place in cut.held_out], set(cut.held_out)
    loaded = load_proxy(proxy or ProxyConfig(), GradientConfig(), device=device)
    material = evaluation_dataset(
        rows,
        [place_of[pick["source_row"]] for pick in picks],
        judges,
        taken=taken,
        tokenizer=loaded.tokenizer,
        max_length=max_length,
        group=group,
    )
    experiment = run_experiment(
        loaded.model,
        material.pool,
        material.held_out,
        standard_arms(name, material.chosen, tokens=material.tokens, groups=material.pool_groups, config=config),
        config,
        count=len(material.chosen),
        held_out_groups=material.held_out_groups,
        on_progress=on_progress,
        should_stop=should_stop,
    )
    near = len(taken) if held_out is not None else 0
    facts = facts_of(material, loaded, config, near_duplicates=near, saw_held_out=held_out is None)
    return {**report(experiment, name), **facts}


def read_usable(source: Path, options: IntakeOptions | None = None) -> list[PoolRow]:
    """The usable rows of a file, in order.

    Args:
        source: JSON Lines, JSON array, CSV or Parquet, plain or gzip.
        options: Record form and columns, when they should not be found.
    """
    with tempfile.TemporaryDirectory(prefix="spice-evaluate-") as scratch:
        manifest = read_dataset(source, Path(scratch), options)
        return [row for shard in manifest.shards for row in iter_rows(Path(scratch) / shard.name)]
