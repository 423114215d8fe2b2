"""Rows of a pool that repeat a row of a benchmark: word for word, in another order, or with some words changed.

Three signs, any of which is enough: runs of n words that the two have in common; the words of the two as bags; and,
where some words were changed, most of both bags together with much of what is the benchmark row's own, namely shorter
runs that next to no other row of the pool has. Two rows that set the same common task share words and long phrases, but
not those. Runs that many rows of the pool or several of the benchmark have are phrases of the format, and count for
nothing.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from spice_select.errors import ConfigError
from spice_select.records.near_duplicates import words

COMMON_SHARE = 0.005
"""A run of words in more than this share of the pool is a phrase of its format."""
COMMON_LEAST = 20
"""Rows that may share a run in a pool of any size."""
RUNS_ALONE = 0.7
"""Share of a benchmark row's runs that a row must have, whatever its other words."""
BAG_ALONE = 0.9
"""Weighted Jaccard index of two bags of words from which the rows are the same in another order."""
OWN_TOGETHER, BAG_TOGETHER = 0.4, 0.65
"""Share of a benchmark row's own runs, and Jaccard index of the bags, that are enough where both are there."""
OWN_WORDS = 5 / 8
"""Words of such a run, as a share of the words of the others."""
OWN_MOST = 3
"""Rows of the pool that may have a run which is a benchmark row's own, its changed copies among them."""
FEWEST_WORDS = 4
"""A benchmark row of fewer words cannot be told from what anyone may write."""


@dataclass(frozen=True)
class Benchmark:
    """A set that nothing of may be trained on.

    Attributes:
        name: For people.
        texts: What its rows say.
    """

    name: str
    texts: Sequence[str]


@dataclass(frozen=True)
class Hit:
    """A row of the pool that repeats a row of a benchmark.

    Attributes:
        place: Place of the row among the texts of the pool.
        benchmark: Name of the benchmark.
        row: Place of its row, from 0.
        runs: Share of the benchmark row's runs of words that the row has.
        bag: Weighted Jaccard index of the two bags of words.
        example: A run that both have; empty where there is none.
    """

    place: int
    benchmark: str
    row: int
    runs: float
    bag: float
    example: str

    def evidence(self, n: int) -> str:
        """The hit as a sentence.

        Args:
            n: Words of a run.
        """
        shown = f", such as {self.example!r}" if self.example else ""
        return (
            f"repeats row {self.row} of {self.benchmark!r}: {100 * self.runs:.0f} % of its runs of {n} words{shown}; "
            f"{100 * self.bag:.0f} % of the words in common"
        )


def contaminated(texts: Sequence[str], benchmarks: Sequence[Benchmark], n: int) -> list[Hit]:
    """Rows of the pool that repeat a row of a benchmark, ascending, each with the nearest row.

    Args:
        texts: What the rows of the pool say.
        benchmarks: What they are compared with.
        n: Words of a run.

    Raises:
        ConfigError: A benchmark in which nothing could be found: of too few words, or without one word of the pool.
    """
    pool = [words(text) for text in texts]
    known = {word for row in pool for word in row}
    rows: list[tuple[str, int, list[str]]] = []
    for number, benchmark in enumerate(benchmarks):
        read = [(benchmark.name, row, words(text)) for row, text in enumerate(benchmark.texts)]
        usable = [item for item in read if len(item[2]) >= FEWEST_WORDS]
        if not usable:
            raise ConfigError(
                f"no row of {benchmark.name!r} has {FEWEST_WORDS} words or more: nothing could be found",
                pointer=f"#/screens/contamination/{number}",
            )
        if not any(word in known for item in usable for word in item[2]):
            raise ConfigError(
                f"{benchmark.name!r} has no word in common with the pool: is it of another language?",
                pointer=f"#/screens/contamination/{number}",
            )
        rows += usable
    index = _Index(pool, [row for _, _, row in rows], n)
    found = []
    for place, row in enumerate(pool):
        best = index.nearest(row)
        if best is not None:
            other, runs, bag, example = best
            found.append(Hit(place, rows[other][0], rows[other][1], runs, bag, example))
    return found


class _Index:
    """Benchmark rows by their runs, and by the rarest of their words.

    Two bags of Jaccard index t or more share one of the rarest (1 - t) |bag| + 1 words of each, so that only rows with
    such a word in common are compared.
    """

    def __init__(self, pool: Sequence[list[str]], rows: Sequence[list[str]], n: int) -> None:
        self._n = n
        self._frequency = Counter(word for row in pool for word in set(row))
        self._bags = [Counter(row) for row in rows]
        in_benchmark = Counter(run for row in rows for run in set(_runs(row, n)))
        limit = max(COMMON_LEAST, int(COMMON_SHARE * len(pool)))
        in_pool = Counter(run for row in pool for run in set(_runs(row, n)) if run in in_benchmark)
        self._row_runs = [
            {run for run in _runs(row, n) if in_pool[run] <= limit and in_benchmark[run] <= max(1, limit // 10)}
            for row in rows
        ]
        self._own_words = max(2, round(OWN_WORDS * n))
        every = [set(_runs(row, self._own_words)) for row in rows]
        wanted = set().union(*every)
        known = Counter(run for row in pool for run in set(_runs(row, self._own_words)) if run in wanted)
        self._own = [{run for run in runs if known[run] <= OWN_MOST} for runs in every]
        self._by_run: dict[str, list[int]] = defaultdict(list)
        self._by_word: dict[str, list[int]] = defaultdict(list)
        for number, runs in enumerate(self._row_runs):
            for run in runs:
                self._by_run[run].append(number)
            for word in self._rarest(self._bags[number]):
                self._by_word[word].append(number)

    def nearest(self, row: list[str]) -> tuple[int, float, float, str] | None:
        """The benchmark row that a row repeats, or None."""
        shared: Counter[int] = Counter()
        examples: dict[int, str] = {}
        for run in dict.fromkeys(_runs(row, self._n)):
            for number in self._by_run.get(run, ()):
                shared[number] += 1
                examples.setdefault(number, run)
        bag = Counter(row)
        near = {number for word in self._rarest(bag) for number in self._by_word.get(word, ())}
        short = set(_runs(row, self._own_words)) if near or shared else set()
        best: tuple[int, float, float, str] | None = None
        for number in sorted(near | set(shared)):
            runs = shared[number] / len(self._row_runs[number]) if self._row_runs[number] else 0.0
            alike = _overlap(bag, self._bags[number])
            own = len(self._own[number] & short) / len(self._own[number]) if self._own[number] else 0.0
            if _repeats(runs, alike, own) and (best is None or max(runs, alike) > max(best[1], best[2])):
                best = number, runs, alike, examples.get(number, "")
        return best

    def _rarest(self, bag: Counter[str]) -> list[str]:
        """Words of a bag, the rarest first, until the rest alone could not make two bags the same."""
        most = int((1.0 - BAG_TOGETHER) * bag.total()) + 1
        taken, chosen = 0, []
        for word in sorted(bag, key=lambda word: (self._frequency[word], word)):
            chosen.append(word)
            taken += bag[word]
            if taken >= most:
                break
        return chosen


def _repeats(runs: float, alike: float, own: float) -> bool:
    return runs >= RUNS_ALONE or alike >= BAG_ALONE or (own >= OWN_TOGETHER and alike >= BAG_TOGETHER)


def _runs(row: Sequence[str], n: int) -> Iterator[str]:
    return (" ".join(row[start : start + n]) for start in range(len(row) - n + 1))


def _overlap(one: Counter[str], other: Counter[str]) -> float:
    union = (one | other).total()
    return (one & other).total() / union if union else 0.0
