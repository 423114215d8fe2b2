"""Data sets: registering, uploading in parts, sources."""
