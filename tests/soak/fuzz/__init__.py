"""Hostile files, for the readers of data sets: ``python -m tests.soak.fuzz --seconds 600 --seed 1``."""
