"""The files of a result: the selected rows, the evidence for each, the card, the provenance and the digests.

write          writes them all; ``summarise`` states the numbers
selected_rows  rows of shards in selection order, streamed
json_columns   typed columns for JSON records
card           the data card, ``README.md``
croissant      ``croissant.json``: the record that dataset tools load rows by
reported       protected sets and the mix of groups, for card and command line
composition    lengths and groups of the selection beside those of the pool
"""
