"""A whole run: file, rows, gradients, selection, result files."""
