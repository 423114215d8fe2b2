"""One module for each kind of unit of work."""
