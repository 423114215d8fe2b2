"""The version of the distribution, and the number that says when stored gradients stop being comparable."""

__version__ = "0.1.0"

GRADIENT_FORMAT = 3
"""Raised whenever the same settings would give other gradient values or leave out other samples: part of every gradient
fingerprint."""

WARMUP_FORMAT = 2
"""Raised whenever the same settings would lead a warm-up to other weights: part of every fingerprint with one."""

PERIODIC_FORMAT = 3
"""Raised whenever the same settings would let the schedule ``periodic`` take another course, or write it otherwise."""

PREFILTER_FORMAT = 1
"""Raised whenever the same settings would let a prefilter keep other rows, or write them otherwise."""
