"""The control plane: HTTP, records and the queue. Never imports torch, transformers or numpy."""
