"""The files of a result: the chosen rows, the evidence for each, the card, the provenance and the digests.

write          writes them all; ``summarise`` states the numbers
selected_rows    rows of shards in pick order, streamed
json_columns   typed columns for JSON records
card           the data card, ``README.md``
croissant      ``croissant.json``: the record that dataset tools load rows by
composition    lengths and groups of the choice beside those of the pool
"""

from __future__ import annotations

from spice_select.results.composition import composition
from spice_select.results.run_metadata import ResultFile
from spice_select.results.write import DATED, MEDIA_TYPES, STATED, RankingRow, Written, summarise, write_results

__all__ = [
    "DATED",
    "MEDIA_TYPES",
    "STATED",
    "RankingRow",
    "ResultFile",
    "Written",
    "composition",
    "summarise",
    "write_results",
]
