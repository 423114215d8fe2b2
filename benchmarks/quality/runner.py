"""Runs the cells of a protocol in their order, unit by unit; whatever is finished is never done again."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from functools import cached_property, lru_cache
from pathlib import Path
from typing import Any

from benchmarks.machine import describe
from benchmarks.quality.arms import PER_SEED, Pool
from benchmarks.quality.cache import BusyError, Cache
from benchmarks.quality.corpus import FILES, Draw, Row, ShortEnough, draw_pool, read_corpus
from benchmarks.quality.features import Features
from benchmarks.quality.scales import TASKS, PoolKind, Scale
from benchmarks.quality.training import Training, losses, trained
from spice_select.models.model_files import file_digest
from spice_select.records.tokenize import Example

RATE_SEED = 100
"""Seed of the trainings that learning rates are chosen by."""
PAUSE = 20.0
"""Seconds between two looks at units that another process is at work on."""


@dataclass(frozen=True)
class Line:
    """One training of the plan.

    Attributes:
        pool: Which pool.
        budget: Share of its response tokens.
        draw: Number of the pool draw.
        arm: What is trained on.
        seed: Training seed.
        variant: Check that it belongs to; empty: none.
    """

    pool: PoolKind
    budget: float
    draw: int
    arm: str
    seed: int
    variant: str = ""


class Runner:
    """Runs one scale of the protocol.

    Args:
        scale: Its numbers.
        data: Folder with the files of ``corpus.FILES``.
        model: Folder of the model.
        cache: Keeps everything that was made.
        device: ``cpu`` or ``cuda``.
        dtype: Type the model computes in; by default bfloat16 where the device has it.
    """

    def __init__(self, scale: Scale, data: Path, model: str, cache: Cache, device: str, dtype: str | None) -> None:
        self.scale, self._data, self._cache, self._device = scale, data, cache, device
        self.features = Features(model, cache, device, scale.max_tokens, dtype)
        self._fits = ShortEnough(self.features.proxy.tokenizer, scale)
        self._files = file_digest([data / name for name in sorted(FILES.values())])
        self.draw = lru_cache(maxsize=4)(self._draw)
        self.pool = lru_cache(maxsize=2)(self._pool)

    @cached_property
    def _corpus(self) -> Any:
        return read_corpus(self._data, self.scale, self._fits)

    def plan(self) -> Iterator[Line]:
        """Every training, in the order of the protocol."""
        for cell in self.scale.cells:
            for seed in range(cell.seeds):
                for number in range(cell.draws):
                    for arm in cell.arms:
                        if arm != "untuned" or seed == 0:
                            yield Line(cell.pool, cell.budget, number, arm, seed, cell.variant)

    def run(self, until: float | None) -> bool:
        """Do what is left.

        Args:
            until: Time of ``time.monotonic()`` at which no further unit is begun.

        Returns:
            Whether the plan is finished.
        """
        while True:
            waits = False
            for line in self.plan():
                try:
                    for block in self._unmeasured(line):
                        if _is_past(until):
                            return False
                        self._told(f"gradients of {line.pool} {line.draw}", lambda b=block: self.features.block(b))
                    if _is_past(until):
                        return False
                    if not self.is_done(line):
                        self._told(f"{line}", lambda one=line: self.result(one))
                except BusyError:
                    waits = True
            if not waits:
                return True
            time.sleep(PAUSE)

    def result(self, line: Line) -> dict[str, Any]:
        """Losses of one training and what it was trained on.

        Args:
            line: Which.

        Raises:
            BusyError: Another process makes it, or something that it needs.
        """
        return self._cache.facts("results", self._key(line), lambda: self._train(line))

    def is_done(self, line: Line) -> bool:
        """Whether the result of a line is there.

        Args:
            line: Which.
        """
        return self._cache.has_facts("results", self._key(line))

    def keep(self, line: Line, result: dict[str, Any]) -> None:
        """Take the result of a training that was done elsewhere, unless it was done here.

        Args:
            line: Which.
            result: As ``result`` returns it.

        Raises:
            BusyError: Another process is at this training.
        """
        self._cache.facts("results", self._key(line), lambda: result)

    def is_measured(self, kind: PoolKind, number: int) -> bool:
        """Whether all gradients of a pool draw and of its targets are there.

        Args:
            kind: Which pool.
            number: Number of the draw.
        """
        if not self._cache.has_facts("draws", self._pool_key(kind, number)):
            return False
        draw = self.draw(kind, number)
        parts = [
            self.features.examples([row.record for row in rows])
            for rows in (*draw.targets.values(), *draw.others.values(), draw.pool)
        ]
        return all(self.features.is_measured(block) for part in parts for block in self.features.blocks(part))

    def selected(self, line: Line) -> list[int]:
        """The rows of the pool that a line trains on.

        Args:
            line: Which.
        """

        def make() -> list[int]:
            return self.pool(line.pool, line.draw, line.budget).rows_of(line.arm, _draw_seed(line))

        return self._cache.facts("selections", self._selection_key(line), make)

    def has_selection(self, line: Line) -> bool:
        """Whether the rows of a line are known.

        Args:
            line: Which.
        """
        return self._cache.has_facts("selections", self._selection_key(line))

    def test_rows(self, draw: Draw) -> list[tuple[str, Row]]:
        """Judging rows with what each judges: test rows by task, then settings rows.

        Args:
            draw: Of which draw.
        """
        tested = [(task, row) for task in TASKS for row in draw.test[task]]
        return tested + [(f"settings {task}", row) for task, rows in draw.settings.items() for row in rows]

    def _train(self, line: Line) -> dict[str, Any]:
        draw = self.draw(line.pool, line.draw)
        judges = self.test_rows(draw)
        judging = self.features.examples([row.record for _, row in judges])
        facts = {**asdict(line), "machine": describe(), "date": time.strftime("%Y-%m-%d", time.gmtime())}
        if line.arm == "untuned":
            return {**facts, "losses": losses(self.features.proxy.model, judging, 1024), "rows": 0}
        pool = self.pool(line.pool, line.draw, line.budget)
        rows = self.selected(line)
        rate = self.rate(line)
        how = self._training(pool, rate, line)
        done = trained(self.features.proxy.model, [pool.examples[row] for row in rows], judging, how)
        tokens = sum(pool.response_tokens[row] for row in rows)
        return {**facts, **done, "rate": rate, "rows": len(rows), "response_tokens": tokens}

    def rate(self, line: Line) -> float:
        """The learning rate of an arm, by its loss on the settings rows of draw 0.

        Args:
            line: Which training.

        Raises:
            BusyError: Another process chooses it.
        """
        rates = self._rates(line)
        if len(rates) == 1:
            return rates[0]
        tried = {
            rate: self._cache.facts("rates", [self._key(first), rate], lambda f=first, r=rate: self._try_rate(f, r))
            for rate in rates
            for first in [Line(line.pool, line.budget, 0, line.arm, RATE_SEED, line.variant)]
        }
        return min(tried, key=lambda rate: tried[rate]["loss"])

    def _try_rate(self, line: Line, rate: float) -> dict[str, float]:
        draw = self.draw(line.pool, line.draw)
        judging = self.features.examples([row.record for rows in draw.settings.values() for row in rows])
        pool = self.pool(line.pool, line.draw, line.budget)
        rows = [pool.examples[row] for row in self.selected(line)]
        done = trained(self.features.proxy.model, rows, judging, self._training(pool, rate, line))
        return {"loss": sum(done["losses"]) / len(judging)}

    def _rates(self, line: Line) -> list[float]:
        return self.scale.variant(line.variant).rates or self.scale.rates

    def _training(self, pool: Pool, rate: float, line: Line) -> Training:
        mean = sum(pool.response_tokens) / len(pool.response_tokens)
        learned = self.scale.passes * pool.budget_tokens
        steps = max(1, round(learned / (self.scale.step_rows * mean)))
        micro = 1024 if self._device == "cpu" else 16384
        rank = 0 if self.scale.variant(line.variant).full_tuning else self.scale.rank
        return Training(steps, learned / steps, rate, rank, line.seed, micro)

    def _unmeasured(self, line: Line) -> Iterator[list[Example]]:
        """Blocks of gradients that a line needs before its rows can be selected."""
        if line.arm == "untuned" or self.is_done(line) or self.has_selection(line):
            return
        draw = self.draw(line.pool, line.draw)
        for rows in (*draw.targets.values(), *draw.others.values(), draw.pool):
            yield from self.features.blocks(self.features.examples([row.record for row in rows]))

    def _pool(self, kind: PoolKind, number: int, budget: float) -> Pool:
        return Pool(self.draw(kind, number), self.features, budget)

    def _draw(self, kind: PoolKind, number: int) -> Draw:
        def make() -> dict[str, Any]:
            return asdict(draw_pool(self._corpus, kind, number, self.scale, self._fits))

        stored = self._cache.facts("draws", self._pool_key(kind, number), make)
        parts = {
            name: {task: [Row(**row) for row in rows] for task, rows in stored[name].items()}
            for name in ("targets", "settings", "test", "others")
        }
        return Draw([Row(**row) for row in stored["pool"]], **parts, counts=stored["counts"])

    def _pool_key(self, kind: PoolKind, number: int) -> list[Any]:
        numbers = self.scale.model_dump(mode="json", exclude={"cells", "rates", "passes", "step_rows", "rank"})
        return [self.features.identity, self._files, numbers, kind, number]

    def _selection_key(self, line: Line) -> list[Any]:
        return [self._pool_key(line.pool, line.draw), line.budget, line.arm, _draw_seed(line), "1"]

    def _key(self, line: Line) -> list[Any]:
        numbers = self.scale.model_dump(mode="json", exclude={"cells"})
        facts = asdict(line)
        if line.variant:
            facts["rates"], facts["full_tuning"] = self._rates(line), self.scale.variant(line.variant).full_tuning
        else:
            del facts["variant"]
        return [self._pool_key(line.pool, line.draw), numbers, facts]

    def _told(self, what: str, make: Any) -> None:
        began = time.process_time(), time.monotonic()
        make()
        spent, passed = time.process_time() - began[0], time.monotonic() - began[1]
        print(f"{time.strftime('%H:%M:%S')} {what}: {spent:.0f} of {passed:.0f} s", flush=True)


def _draw_seed(line: Line) -> int:
    return line.seed if line.arm in PER_SEED else 0


def _is_past(until: float | None) -> bool:
    return until is not None and time.monotonic() > until
