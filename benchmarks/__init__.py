"""Runnable measurements; results in benchmarks/README.md."""
