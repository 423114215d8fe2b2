"""The words of a text as a vector of fixed length, by hashing: what a row without a gradient is compared by.

Gains, conflicts and utility of a selection by ``bm25`` are of these vectors: how much the words of a row add to those
of the rows before it.
"""

from __future__ import annotations

import hashlib
import math
from collections import Counter
from collections.abc import Sequence
from functools import lru_cache

import numpy as np

from spice_select.method_names import WORD_FEATURES
from spice_select.records.near_duplicates import words


def word_vectors(texts: Sequence[str]) -> np.ndarray:
    """Vectors of the words of each text: 1 + log(count) of each word, added up where the hash of the word says.

    Nothing in it depends on the other texts, so it is the same in every pool.

    Args:
        texts: Any texts; one without a word counts as one word.

    Returns:
        float32 of shape (n, ``WORD_FEATURES``), no number negative, no row zero.
    """
    vectors = np.zeros((len(texts), WORD_FEATURES), dtype=np.float32)
    for row, text in enumerate(texts):
        for word, count in Counter(words(text) or [text]).items():
            vectors[row, _column(word)] += 1.0 + math.log(count)
    return vectors


@lru_cache(maxsize=2**16)
def _column(word: str) -> int:
    return int.from_bytes(hashlib.blake2b(word.encode(), digest_size=8).digest(), "big") % WORD_FEATURES
