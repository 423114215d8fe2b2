"""A finished job in Weights & Biases, Trackio or TensorBoard: ``python examples/consumers/log_trackers.py wandb JOB``.

Needs ``pip install spice-select`` and the tracker's own package. ``SPICE_API_URL`` and ``SPICE_API_KEY`` say which
service. Of a ``wandb`` run that is active, as inside a training, the job becomes a part.
"""

from __future__ import annotations

import sys

from spice_select.client import Client

if __name__ == "__main__":
    tracker, job = sys.argv[1:]
    with Client() as spice:
        print(spice.log_to(tracker, job, project="runs" if tracker == "tensorboard" else "spice-select"))
