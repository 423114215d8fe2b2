"""Selection from a matrix of gradients: pure mathematics, no files, no clock, no global seed."""
