"""Per-sample gradients: one forward and backward pass, projected while it runs."""
