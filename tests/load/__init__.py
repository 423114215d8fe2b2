"""Many clients for minutes, and every process restarted under them: ``python -m tests.load --seconds 600``."""
