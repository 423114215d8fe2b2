"""The whole way of a run: rows -> gradients -> selection -> files. Worker and library use these same functions."""

from __future__ import annotations

from spice_select.fingerprint import gradient_fingerprint
from spice_select.pool_shards import Pool, load_pool, measure_shard

__all__ = ["Pool", "gradient_fingerprint", "load_pool", "measure_shard"]
