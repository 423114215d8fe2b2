"""Names of the methods and of what they work on."""

from __future__ import annotations

from typing import Literal

Method = Literal[
    "spice",
    "fisher",
    "random",
    "stratified",
    "length_matched",
    "top_norm",
    "loss",
    "less",
    "dpp",
    "facility_location",
    "k_center",
    "herding",
    "bm25",
    "embedding",
]
Information = Literal["logdet", "diagonal", "scalar"]
Objective = Literal["sft", "sft_chosen", "dpo"]
Measure = Literal["gradient", "embedding", "words"]
MEASURES: dict[str, Measure] = {"bm25": "words", "embedding": "embedding"}
"""What is kept of a row for a method that selects by something else than gradients."""
WORD_FEATURES = 1024
"""Numbers that are kept of the words of a row."""
