"""Measure one shard of the pool: from usable rows on the disk to their gradients.

A sample's *position* is its 0-based index among the usable rows of the data set: the one number by which shards,
pool and result refer to it.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow.parquet as pq
import torch

from spice_select.arrays import rounded
from spice_select.config import GradientConfig
from spice_select.gradients.per_sample import SampleGradients, measure
from spice_select.records.conversation import load_conversation, said
from spice_select.records.tokenize import Example, encode
from spice_select.records.word_vectors import word_vectors
from spice_select.storage.shards import GradientShard

if TYPE_CHECKING:
    from spice_select.models.proxy import Proxy
    from spice_select.pipeline.prefilter import Prefiltered
    from spice_select.records.conversation import Conversation

UNUSABLE = {
    "gradient-not-finite": "the loss or its gradient is NaN or infinite",
    "gradient-zero": "the gradient is zero: the proxy model has nothing to learn from it",
}
"""Why a measured sample is no candidate."""

MeasureProgress = Callable[[int, int, int], None]
"""Called with completed samples, total samples and tokens so far."""


def read_conversations(rows_path: Path) -> list[Conversation]:
    """The conversations of one shard of usable rows, in order."""
    column = pq.read_table(rows_path, columns=["messages"]).column("messages")
    return [load_conversation(text) for text in column.to_pylist()]


def measure_shard(
    rows_path: Path,
    first_position: int,
    proxy: Proxy,
    config: GradientConfig,
    *,
    header: dict[str, Any],
    prefiltered: Prefiltered | None = None,
    on_progress: MeasureProgress | None = None,
    should_stop: Callable[[], bool] | None = None,
) -> GradientShard:
    """Gradients of the samples of one shard of usable rows, or what else the settings measure.

    A sample whose gradient is zero or not finite is no candidate: it teaches nothing, or nobody can tell what. It is
    listed in ``excluded`` like one that is too long.

    Args:
        rows_path: A ``rows-*.parquet`` of the intake.
        first_position: Position of the shard's first sample.
        proxy: The loaded proxy model and its tokenizer.
        config: What is measured.
        header: What the shard is to say about itself; must hold ``fingerprint``. ``halvings``, and
            ``batch_tokens`` where it is not the default and ``notes`` where there are any, are added.
        prefiltered: Which rows are measured; the others are listed in ``excluded``. None for all of them.
        on_progress: Called after each batch.
        should_stop: Asked once a batch.

    Returns:
        The shard, its rows in increasing position.

    Raises:
        Stopped: ``should_stop`` said so.
    """  # ruff: ignore[docstring-extraneous-exception] - raised by measure()
    if config.batch_tokens != GradientConfig.model_fields["batch_tokens"].default:
        header = {**header, "batch_tokens": config.batch_tokens}
    conversations = read_conversations(rows_path)
    places = np.arange(len(conversations))
    excluded: list[dict[str, Any]] = []
    if prefiltered is not None:
        excluded = prefiltered.left_out(first_position, first_position + len(conversations))
        places = places[np.isin(places + first_position, prefiltered.kept)]
        conversations = [conversations[place] for place in places.tolist()]
    positions_of = places + first_position
    encoding = encode(
        conversations,
        proxy.tokenizer,
        max_length=config.max_length,
        overflow=config.overflow,
        today=config.chat_date,
        objective=config.objective,
    )
    if encoding.notes:
        header = {**header, "notes": dict(sorted(encoding.notes.items()))}
    excluded += [
        {"row": int(positions_of[item.index]), "code": item.code, "detail": item.detail} for item in encoding.excluded
    ]
    excluded.sort(key=lambda item: item["row"])
    truncated = positions_of[encoding.truncated].tolist() if encoding.truncated else []
    positions = positions_of[np.asarray(encoding.kept, dtype=np.int64)]
    if not encoding.examples:
        nothing = np.zeros(0, dtype=np.int64)
        return GradientShard(
            features=np.zeros((0, 0), dtype=np.float32),
            rows=positions,
            losses=np.zeros(0, dtype=np.float64),
            tokens=nothing,
            label_tokens=nothing,
            excluded=excluded,
            truncated=truncated,
            header={**header, "halvings": 0},
            dtype=config.store_dtype,
        )
    if config.measure == "words":
        measured = _words([said(conversations[index]) for index in encoding.kept], encoding.examples, config)
    else:
        measured = measure(proxy.model, encoding.examples, config, on_progress=on_progress, should_stop=should_stop)
    features = rounded(np.asarray(measured.features, dtype=np.float32), config.store_dtype)
    finite = np.asarray(measured.finite, dtype=bool) & np.isfinite(features).all(axis=1)
    usable = finite & features.any(axis=1)
    lost = positions[~usable].tolist()
    for reason, rows in (("gradient-not-finite", positions[~finite]), ("gradient-zero", positions[finite & ~usable])):
        excluded += [{"row": row, "code": reason, "detail": UNUSABLE[reason]} for row in rows.tolist()]
    excluded.sort(key=lambda item: item["row"])
    return GradientShard(
        features=features[usable],
        rows=positions[usable],
        losses=np.asarray(measured.losses, dtype=np.float64)[usable],
        tokens=np.asarray(measured.tokens, dtype=np.int64)[usable],
        label_tokens=np.asarray(measured.label_tokens, dtype=np.int64)[usable],
        excluded=excluded,
        truncated=[row for row in truncated if row not in set(lost)],
        header={**header, "halvings": measured.halvings, "block_sizes": list(measured.block_sizes)},
        dtype=config.store_dtype,
    )


def _words(texts: Sequence[str], examples: Sequence[Example], config: GradientConfig) -> SampleGradients:
    """The words of each sample in the place of its gradient. Nobody has a loss: no model is asked."""
    vectors = torch.from_numpy(word_vectors(texts))
    norms = vectors.double().norm(dim=1)
    count = len(examples)
    return SampleGradients(
        features=(vectors / norms[:, None]).float() if config.normalize == "unit" else vectors,
        losses=torch.full((count,), math.nan, dtype=torch.float64),
        label_tokens=torch.tensor([example.num_learned for example in examples], dtype=torch.int64),
        tokens=torch.tensor([len(example.input_ids) for example in examples], dtype=torch.int64),
        norms=norms,
        finite=torch.ones(count, dtype=torch.bool),
        halvings=0,
        block_sizes=(vectors.shape[1],),
    )
