"""The slow, obvious twins of the evaluation: every pair, every loop, float64.

Nothing here imports from the package under test.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Sequence


def every_pair_clusters(texts: Sequence[str], similarity: float) -> list[int]:
    """Connected components of the graph whose edges are pairs of Jaccard index ``similarity`` or more."""
    sets = []
    for text in texts:
        words = re.findall(r"\w+", unicodedata.normalize("NFKC", text).casefold())
        sets.append({tuple(words[start : start + 3]) for start in range(max(1, len(words) - 2))} if words else set())
    clusters = list(range(len(texts)))
    changed = True
    while changed:
        changed = False
        for one in range(len(texts)):
            for other in range(one):
                union = sets[one] | sets[other]
                alike = bool(union) and len(sets[one] & sets[other]) / len(union) >= similarity
                if alike and clusters[one] != clusters[other]:
                    clusters[one] = clusters[other] = min(clusters[one], clusters[other])
                    changed = True
    return clusters
