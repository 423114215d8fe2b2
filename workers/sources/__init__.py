"""Fetching a data set from where it lies into a folder, under caps, before anything is parsed.

fetched      what came, and the meter that counts bytes, time and the wish to stop
folders      files below an allowed root, without following a link
https        one file behind a public address
s3           objects of a bucket
hub          a split of a hub data set; ``hub_child`` asks the hub in a process of its own
"""

from __future__ import annotations

from workers.sources.fetched import Fetched, Meter, fetch

__all__ = ["Fetched", "Meter", "fetch"]
