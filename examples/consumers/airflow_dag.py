"""An Airflow DAG that selects each night: copy it into the folder of DAGs.

Needs ``pip install spice-select apache-airflow``. ``SPICE_API_URL`` and ``SPICE_API_KEY`` say which service,
``SPICE_POOL`` and ``SPICE_TARGET`` the files, ``SPICE_SELECTED`` the folder that the result goes to.
"""

from __future__ import annotations

import os
from datetime import datetime, timedelta
from pathlib import Path

from airflow.sdk import dag, task

RETRIES = {"retries": 3, "retry_delay": timedelta(minutes=1)}


@dag(schedule="@daily", start_date=datetime(2026, 1, 1), catchup=False, default_args=RETRIES)
def spice_select_nightly() -> None:
    """From a pool to the checked files of a selection."""

    @task
    def select() -> str:
        from spice_select.client import Client

        with Client() as spice:
            targets = {"wanted": os.environ["SPICE_TARGET"]}
            found = spice.select(os.environ["SPICE_POOL"], "10%", os.environ["SPICE_SELECTED"], targets=targets)
            return found.job.id

    @task
    def check(job: str) -> None:
        from spice_select.results.verify import verify_folder

        verify_folder(Path(os.environ["SPICE_SELECTED"])).raise_if_failed()
        print(f"{job} holds")

    check(select())


spice_select_nightly()
