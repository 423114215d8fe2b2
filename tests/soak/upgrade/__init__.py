"""From an older revision to this one while jobs run: ``python -m tests.soak.upgrade --older REVISION``."""
