"""From a file and a choice to a report: what was compared, what it cost, what follows.

Clean is: hold rows out first, choose from the rest; ``hold_out_file`` makes the two files. The command with a budget
does both. A choice that was made from the whole file is judged too, on rows drawn afterwards that are taken out of the
choice; the report then says that the choice has seen them.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq

from spice_select.config import GradientConfig, ProxyConfig, RunConfig
from spice_select.errors import DatasetError
from spice_select.evaluation.dataset import evaluation_dataset, groups_of, text_of
from spice_select.evaluation.experiment import run_experiment, standard_arms
from spice_select.evaluation.held_out_files import halves_of, hold_out_file, pool_beside, read_judges, read_usable
from spice_select.evaluation.hold_out import split
from spice_select.evaluation.report import facts_of, report
from spice_select.evaluation.settings import EvaluationConfig
from spice_select.ingest import IntakeOptions
from spice_select.models.proxy import load_proxy
from spice_select.pipeline.run import run
from spice_select.pipeline.targets import TargetFile
from spice_select.records.near_duplicates import near_duplicates_of

CHOSEN = "chosen"
"""Folder of a choice made here."""


def select_beside(
    source: Path,
    run_config: RunConfig,
    out: Path,
    *,
    held_out: Path | None = None,
    targets: Sequence[TargetFile] = (),
    share: float = 0.1,
    group: str | None = None,
    device: str = "cpu",
    options: IntakeOptions | None = None,
    seed: int = 0,
) -> tuple[Path, Path | dict[str, Path]]:
    """Settle what judges, choose from rows unlike it, and write pool, rows to judge by and choice.

    Rows to judge by are those of ``held_out``; without it one half of each target, whose other half is chosen for; and
    without targets a share of the source.

    Args:
        source: The file to choose from.
        run_config: What to choose and how.
        out: Folder of the evaluation; the choice is in its folder ``CHOSEN``.
        held_out: File of rows to judge by.
        targets: What the model should get better at.
        share: Share of the source to hold out where nothing else judges.
        group: Column whose groups keep their shares in what is held out.
        device: torch device.
        options: Record form and columns of the source, when they should not be found.
        seed: Seed of the draws.

    Returns:
        The pool's file, and that of the rows to judge by, or one for each target.
    """
    judges: Path | dict[str, Path]
    if held_out is None and not targets:
        cut = hold_out_file(source, out, share=share, group=group, options=options, seed=seed)
        pool, judges = cut.pool, cut.held_out
    else:
        if held_out is None:
            halves = [halves_of(target, out, seed=seed) for target in targets]
            targets, judges = [half for half, _ in halves], {half.name: file for half, file in halves}
        else:
            judges = held_out
        pool = pool_beside(source, judges, out, options=options, seed=seed)
    run(pool, run_config, out / CHOSEN, device=device, options=options, targets=targets)
    return pool, judges


def evaluate(
    source: Path,
    ranking: Path,
    config: EvaluationConfig,
    *,
    held_out: Path | Mapping[str, Path] | None = None,
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
        held_out: Rows to judge by that the choice has not seen; a file for each task, whose losses are then told by
            task; None draws them from the source.
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
    tasks = None
    if held_out is not None:
        read = read_judges(held_out, options)
        judges = [row for _, row in read]
        tasks = [task for task, _ in read] if isinstance(held_out, Mapping) and len(held_out) > 1 else None
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
        tasks=tasks,
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
