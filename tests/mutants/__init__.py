"""Faults that are planted one at a time, to see which command notices: `make mutants`."""
