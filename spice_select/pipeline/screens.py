"""Screens: rows that leave the pool before the selection, each with a code, a number and the evidence."""

from __future__ import annotations

import statistics
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from spice_select.config import RunConfig, Screens
from spice_select.errors import BudgetError, ConfigError
from spice_select.pipeline.constraints import read_source_rows
from spice_select.pipeline.pool import Pool, read_conversations, read_texts
from spice_select.records.contamination import Benchmark, contaminated
from spice_select.records.conversation import Conversation, Role, said
from spice_select.records.near_duplicates import near_duplicate_clusters
from spice_select.records.repeated_responses import repeated_responses
from spice_select.records.unrelated_responses import unrelated_responses

MAD_SCALE = 1.4826
"""What makes the median absolute deviation of a normal distribution its standard deviation."""
YIELDING = ("near-duplicate", "unrelated-response", "repeated-response", "loss-outlier")
"""Codes of rows that stay where ``if_short`` is ``keep`` and the budget needs them, in this order."""
ASKING: frozenset[Role] = frozenset({"user"})
ANSWERING: frozenset[Role] = frozenset({"assistant", "text"})
"""Who asks and who answers; a text without roles is all answer."""
GIVEN: frozenset[Role] = frozenset({"system", "tool"})
"""Who else tells the assistant what to answer from."""


@dataclass(frozen=True)
class BenchmarkRows:
    """A data set that nothing of may be trained on.

    Attributes:
        name: For people.
        uri: ``spice:dataset/<id or file name>``.
        sha256: Digest (hex) of its bytes.
        rows_shards: Its ``rows-*.parquet``, in order.
    """

    name: str
    uri: str
    sha256: str
    rows_shards: Sequence[Path]


@dataclass(frozen=True)
class Settled:
    """What is settled about the rows of a pool before the screens, by position.

    Attributes:
        included: Rows that must be included: no screen takes them out, contamination apart.
        gone: Rows that cannot be selected anyway.
        groups: Group of each candidate, in pool order, where there are quotas.
    """

    included: frozenset[int] = frozenset()
    gone: frozenset[int] = frozenset()
    groups: Sequence[str] | None = None


class _Rows:
    """What the candidates say, read once, when the first screen asks for it.

    Args:
        pool: The pool.
        rows_shards: Its ``rows-*.parquet``, in order.
    """

    def __init__(self, pool: Pool, rows_shards: Sequence[Path]) -> None:
        self.positions: list[int] = pool.positions.tolist()
        self._rows_shards = rows_shards

    def say(self, roles: frozenset[Role] | None = None) -> list[str]:
        """What some roles say in each candidate; without roles everything."""
        return [said(conversation, roles) for conversation in self._conversations]

    @cached_property
    def sources(self) -> list[int]:
        """Row in the source of each candidate."""
        found: list[int] = read_source_rows(self._rows_shards)[self.positions].tolist()
        return found

    @cached_property
    def _conversations(self) -> list[Conversation]:
        every = read_conversations(self._rows_shards)
        return [every[position] for position in self.positions]


def screened(
    config: RunConfig,
    pool: Pool,
    rows_shards: Sequence[Path],
    benchmarks: Sequence[BenchmarkRows],
    settled: Settled = Settled(),
) -> list[dict[str, Any]]:
    """Candidates that the screens take out, each once, by the first screen that does.

    Args:
        config: Settings of the run.
        pool: The pool.
        rows_shards: The pool's ``rows-*.parquet``, in order.
        benchmarks: What the screen ``contamination`` compares with.
        settled: What is settled about the rows already.

    Returns:
        ``{"row": position, "code", "detail"}`` of each, ascending.

    Raises:
        BudgetError: Fewer rows are left than are asked for.
        ConfigError: Contamination was found, and the settings refuse it.
    """  # ruff: ignore[docstring-extraneous-exception] - raised by _contaminated()
    screens, rows = config.conditions.screens, _Rows(pool, rows_shards)
    excluded: dict[int, dict[str, Any]] = {}
    for found in (
        _lengths(screens, pool),
        _loss_outliers(screens, pool),
        _contaminated(screens, rows, benchmarks),
        _repeated_responses(screens, rows),
        _unrelated_responses(screens, rows),
        _near_duplicates(screens, rows),
    ):
        for item in found:
            if item["row"] not in settled.included or item["code"] == "contamination":
                excluded.setdefault(item["row"], item)
    if screens.if_short == "keep":
        for row in _needed(config, pool, excluded, settled):
            del excluded[row]
    left, wanted = len(pool.positions) - len(excluded), config.selection.budget.resolve_count(len(pool.positions))
    if excluded and wanted is not None and wanted > left:
        counts = ", ".join(f"{code} {count}" for code, count in Counter(i["code"] for i in excluded.values()).items())
        of = f" of the {len(pool.positions)} with a gradient" if config.conditions.prefilter is not None else ""
        raise BudgetError(f"the screens leave {left} rows{of} ({counts}), {wanted} are asked for", pointer="#/screens")
    return [excluded[row] for row in sorted(excluded)]


def _needed(config: RunConfig, pool: Pool, excluded: Mapping[int, Mapping[str, Any]], settled: Settled) -> list[int]:
    """Rows that have to stay for the budget and the quotas, in the order of ``YIELDING``, outliers by their loss."""
    positions, selection = pool.positions.tolist(), config.selection
    groups = settled.groups or [""] * len(positions)
    quotas = selection.quotas
    floors, caps = (quotas.floors, quotas.caps) if quotas is not None else ({}, {})
    sizes = Counter(
        group
        for row, group in zip(positions, groups, strict=True)
        if row not in excluded and (row not in settled.gone or row in settled.included)
    )
    wanted = selection.budget.resolve_count(len(positions)) or 0
    if selection.max_count is not None:
        wanted = min(wanted, selection.max_count)
    place_of = {row: place for place, row in enumerate(positions)}
    losses = pool.losses.tolist() or [0.0] * len(positions)
    waiting = [
        (YIELDING.index(item["code"]), losses[place_of[row]] if item["code"] == "loss-outlier" else 0.0, row)
        for row, item in excluded.items()
        if item["code"] in YIELDING and row not in settled.gone
    ]
    needed = []
    reachable = sum(min(size, caps.get(group, size)) for group, size in sizes.items())
    for _, _, row in sorted(waiting):
        group = groups[place_of[row]]
        counts = sizes[group] < caps.get(group, sizes[group] + 1)
        if sizes[group] < floors.get(group, 0) or (reachable < wanted and counts):
            needed.append(row)
            sizes[group] += 1
            reachable += counts
    return needed


def decontamination(
    config: RunConfig,
    rows_shards: Sequence[Path],
    benchmarks: Sequence[BenchmarkRows],
    excluded: Sequence[Mapping[str, Any]],
) -> dict[str, Any] | None:
    """What the result says about contamination: which sets, how compared, which rows; None where nothing was compared.

    Args:
        config: Settings of the run.
        rows_shards: The pool's ``rows-*.parquet``, in order.
        benchmarks: What the pool was compared with.
        excluded: Rows that left the pool.
    """
    if not benchmarks:
        return None
    sources = read_source_rows(rows_shards).tolist()
    rows = [sources[item["row"]] for item in excluded if item["code"] == "contamination"]
    return {
        "sets": [{"name": item.name, "uri": item.uri, "digest": {"sha256": item.sha256}} for item in benchmarks],
        "words": config.conditions.screens.contamination_words,
        "source_rows": rows,
    }


def _lengths(screens: Screens, pool: Pool) -> list[dict[str, Any]]:
    least, most = screens.min_tokens or 0, screens.max_tokens
    return [
        {"row": position, "code": "length", "detail": f"{tokens} tokens, {_range(least, most)} are kept"}
        for position, tokens in zip(pool.positions.tolist(), pool.tokens.tolist(), strict=True)
        if tokens < least or (most is not None and tokens > most)
    ]


def _loss_outliers(screens: Screens, pool: Pool) -> list[dict[str, Any]]:
    if screens.loss_outliers is None or len(pool.losses) == 0:
        return []
    losses = pool.losses.tolist()
    median = statistics.median(losses)
    spread = MAD_SCALE * statistics.median(abs(loss - median) for loss in losses)
    limit = median + screens.loss_outliers * spread
    return [
        {
            "row": position,
            "code": "loss-outlier",
            "detail": f"loss {loss:.4f} nats, above {limit:.4f}: median {median:.4f} + {screens.loss_outliers:g} x "
            f"scaled MAD {spread:.4f}",
        }
        for position, loss in zip(pool.positions.tolist(), losses, strict=True)
        if loss > limit
    ]


def _near_duplicates(screens: Screens, rows: _Rows) -> list[dict[str, Any]]:
    if screens.near_duplicates is None:
        return []
    clusters = near_duplicate_clusters(rows.say(), similarity=screens.near_duplicates)
    return [
        {
            "row": rows.positions[place],
            "code": "near-duplicate",
            "detail": f"a near-duplicate (Jaccard index of word triples at least {screens.near_duplicates:g}) of row "
            f"{rows.sources[first]}, which is kept",
        }
        for place, first in enumerate(clusters)
        if first != place
    ]


def _repeated_responses(screens: Screens, rows: _Rows) -> list[dict[str, Any]]:
    if screens.repeated_responses is None:
        return []
    found = repeated_responses(rows.say(ASKING), rows.say(ANSWERING), screens.repeated_responses)
    return [
        {
            "row": rows.positions[place],
            "code": "repeated-response",
            "detail": f"{count} rows have this response; the prompts of rows "
            f"{', '.join(str(rows.sources[other]) for other in others)} have next to no words in common",
        }
        for place, count, others in found
    ]


def _unrelated_responses(screens: Screens, rows: _Rows) -> list[dict[str, Any]]:
    if screens.unrelated_responses is None:
        return []
    found = unrelated_responses(rows.say(ASKING | GIVEN), rows.say(ANSWERING), screens.unrelated_responses)
    return [
        {
            "row": rows.positions[item.place],
            "code": "unrelated-response",
            "detail": f"the response has as much in common with {item.share:.1%} of {item.compared} other prompts as "
            f"with its own, {screens.unrelated_responses:.1%} are allowed; most with that of row "
            f"{rows.sources[item.nearest]}",
        }
        for item in found
    ]


def _contaminated(screens: Screens, rows: _Rows, benchmarks: Sequence[BenchmarkRows]) -> list[dict[str, Any]]:
    """Rows of the pool that repeat a row of a benchmark.

    Raises:
        ConfigError: There are some, and the settings refuse them.
    """
    if not benchmarks:
        return []
    sets = [Benchmark(item.name, read_texts(item.rows_shards)) for item in benchmarks]
    found = contaminated(rows.say(), sets, screens.contamination_words)
    if found and screens.refuse_contamination:
        raise ConfigError(
            f"{len(found)} rows repeat a row of {', '.join(sorted({hit.benchmark for hit in found}))}",
            pointer="#/screens/refuse_contamination",
        )
    return [
        {"row": rows.positions[hit.place], "code": "contamination", "detail": hit.evidence(screens.contamination_words)}
        for hit in found
    ]


def _range(least: int, most: int | None) -> str:
    return f"{least} or more" if most is None else f"{least} to {most}"
