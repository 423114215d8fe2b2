"""Threads that run beside the units: registration, webhooks, retention, sweeps."""
