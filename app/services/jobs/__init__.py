"""Jobs: making, validating, estimating, showing, editing, deleting."""
