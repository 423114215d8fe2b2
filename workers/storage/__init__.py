"""Where a worker reads and writes artifacts and gradients."""
