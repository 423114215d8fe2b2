"""The client that awaits, the only one written by hand; ``make client`` generates ``_sync`` from it."""
