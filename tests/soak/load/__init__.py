"""Many clients for minutes, and every process restarted under them: ``python -m tests.soak.load --seconds 600``."""
