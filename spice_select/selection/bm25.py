"""Okapi BM25 of texts for texts: the words of each row of a pool weighed against those of the target rows."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from spice_select.records.near_duplicates import words

K1 = 1.5
"""How soon more of the same word stop counting."""
B = 0.75
"""How much the length of a text counts against it."""


def bm25_scores(texts: Sequence[str], queries: Sequence[str]) -> torch.Tensor:
    """BM25 of every text for each query.

    The sum over the words of the query, as often as they stand there, of

        log(1 + (n - df + 0.5) / (df + 0.5)) * tf / (tf + K1 * (1 - B + B * length / mean length))

    with the number n of texts, the number df of those that have the word, and how often the text has it, tf.

    Args:
        texts: Texts of the pool, at least one.
        queries: Texts of the target rows.

    Returns:
        float64 of shape (n, m), no number negative.
    """
    from bm25s import BM25

    scores = torch.zeros((len(texts), len(queries)), dtype=torch.float64)
    said = [words(text) for text in texts]
    if not any(said):
        return scores
    index = BM25(k1=K1, b=B, method="lucene", dtype="float64", backend="numpy")
    index.index(said, show_progress=False)
    for number, query in enumerate(queries):
        known = [word for word in words(query) if word in index.vocab_dict]
        if known:
            scores[:, number] = torch.from_numpy(index.get_scores(known))
    return scores
