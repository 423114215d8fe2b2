"""Gradients, partitions and checkpoints on disk or in object storage, whole or not there, checked when read."""
