"""Files of the service: retention, the data folder, checkpoints, gradients in object storage."""
