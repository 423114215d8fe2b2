"""The hold-out split: nothing like a held-out row stays in the pool, groups keep their shares, and it is repeatable."""

from __future__ import annotations

import json
import random
from collections import Counter
from pathlib import Path

import pytest

from spice_select.errors import ConfigError
from spice_select.evaluation.hold_out import split
from spice_select.records.near_duplicates import (
    SIMILARITY,
    jaccard,
    near_duplicate_clusters,
    near_duplicates_of,
    word_triples,
)
from tests.reference.evaluation import every_pair_clusters

BUNDLED = Path(__file__).parents[3] / "examples" / "bundled.jsonl"
WORDS = ["river", "sum", "loop", "seven", "glass", "north", "copper", "quiet", "verb", "tile", "orbit", "salt"]


def planted(seed: int) -> list[str]:
    """Random sentences; every third has a copy with one word changed, every fifth an exact one."""
    draw = random.Random(seed)
    texts = []
    for number in range(60):
        words = [draw.choice(WORDS) for _ in range(40)] + [str(number)]
        texts.append(" ".join(words))
        if number % 3 == 0:
            words[draw.randrange(len(words))] = "changed"
            texts.append(" ".join(words))
        if number % 5 == 0:
            texts.append(texts[-1].upper() + "!")
    draw.shuffle(texts)
    return texts


def test_clusters_equal_those_of_comparing_every_pair(seed: int) -> None:
    texts = planted(seed)
    clusters = near_duplicate_clusters(texts)
    assert clusters == every_pair_clusters(texts, SIMILARITY)
    assert len(set(clusters)) < len(texts) - 20


def test_clusters_of_the_bundled_rows_equal_those_of_comparing_every_pair() -> None:
    rows = [json.loads(line) for line in BUNDLED.read_text(encoding="utf-8").splitlines()]
    texts = [f"{row['instruction']}\n{row['output']}" for row in rows]
    assert near_duplicate_clusters(texts) == every_pair_clusters(texts, SIMILARITY)


def test_no_near_duplicate_of_a_held_out_row_is_left_in_the_pool(seed: int) -> None:
    texts = planted(seed)
    cut = split(texts, count=15, seed=seed)
    assert sorted(cut.pool + cut.held_out) == list(range(len(texts)))
    assert 10 <= len(cut.held_out) <= 15
    triples = [word_triples(text) for text in texts]
    closest = max(jaccard(triples[kept], triples[left]) for kept in cut.held_out for left in cut.pool)
    assert closest < SIMILARITY
    assert near_duplicates_of([texts[row] for row in cut.pool], [texts[row] for row in cut.held_out]) == []


def test_near_duplicates_of_a_given_hold_out_are_found(seed: int) -> None:
    texts = planted(seed)
    triples = [word_triples(text) for text in texts]
    held_out = texts[:20]
    slow = [
        place
        for place, found in enumerate(triples)
        if any(jaccard(found, word_triples(other)) >= SIMILARITY for other in held_out)
    ]
    assert near_duplicates_of(texts, held_out) == slow
    assert len(slow) > 20


def test_groups_keep_their_shares(seed: int) -> None:
    texts = [f"{index} {index * 17} {index * 31}" for index in range(300)]
    groups = ["a" if index % 3 else "b" for index in range(300)]
    cut = split(texts, count=60, groups=groups, seed=seed)
    assert Counter(groups[row] for row in cut.held_out) == {"a": 40, "b": 20}


def test_the_split_depends_on_the_seed_alone(seed: int) -> None:
    texts = planted(seed)
    assert split(texts, count=15, seed=1) == split(texts, count=15, seed=1)
    assert split(texts, count=15, seed=1) != split(texts, count=15, seed=2)


@pytest.mark.parametrize("count", [0, 60])
def test_a_hold_out_of_nothing_or_everything_is_refused(count: int) -> None:
    with pytest.raises(ConfigError, match="cannot be held out"):
        split([str(number) for number in range(60)], count=count)


def test_a_pool_that_is_one_cluster_cannot_be_split() -> None:
    with pytest.raises(ConfigError, match="small enough"):
        split(["the same words in every row of it"] * 30, count=5)


def test_words_of_scripts_without_spaces_are_their_characters() -> None:
    assert word_triples("東京都は") == {"東 京 都", "京 都 は"}
    assert word_triples("\uff21 b, C") == {"a b c"}
    assert word_triples("one two") == {"one two"}
    assert word_triples(" ... ") == frozenset()
