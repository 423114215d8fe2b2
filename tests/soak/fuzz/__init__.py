"""Files that nobody would write, for the readers of the intake: ``python -m tests.soak.fuzz --seconds 600 --seed 1``."""
