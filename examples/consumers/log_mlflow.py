"""A training that MLflow knows the data of: ``python examples/consumers/log_mlflow.py JOB``.

Needs ``pip install spice-select mlflow-skinny``. ``MLFLOW_TRACKING_URI`` says where runs go, ``SPICE_API_URL`` and
``SPICE_API_KEY`` which service.
"""

from __future__ import annotations

import sys

import mlflow

from spice_select.client import Client

with mlflow.start_run() as run, Client() as spice:
    mlflow.log_param("learning_rate", 1e-4)  # yours
    spice.log_to_mlflow(sys.argv[1])  # the selected rows as an input, its settings, numbers and files
    # ... train here ...
    print(run.info.run_id)
