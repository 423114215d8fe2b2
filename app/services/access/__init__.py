"""API keys, page sessions, signed links and stored secrets."""
