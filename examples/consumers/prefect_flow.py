"""A Prefect flow that selects: ``python examples/consumers/prefect_flow.py POOL TARGET --budget 10%``.

Needs ``pip install spice-select prefect``. ``SPICE_API_URL`` and ``SPICE_API_KEY`` say which service.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from prefect import flow, task

from spice_select.client import Client
from spice_select.results.verify import verify_folder


@task(retries=3, retry_delay_seconds=10)
def select(pool: str, target: str, budget: str, folder: str) -> dict[str, Any]:
    """Send the pool, select for the target, fetch the files; a retry reuses the gradients that are there."""
    with Client() as spice:
        found = spice.select(pool, budget, folder, targets={"wanted": target})
        assert found.job.result is not None
        return {"job": found.job.id, "selected": found.job.result.selected, "pool": found.job.result.pool}


@task
def check(folder: str) -> int:
    """Check the files against their digests, the ranking and the provenance; how many checks there were."""
    report = verify_folder(Path(folder))
    report.raise_if_failed()
    return len(report.checks)


@flow(name="spice-select")
def nightly(pool: str, target: str, budget: str = "10%", folder: str = "selected") -> dict[str, Any]:
    """From a pool to the checked files of a selection."""
    found = select(pool, target, budget, folder)
    return {**found, "checks": check(folder, wait_for=[found])}


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("pool")
    parser.add_argument("target")
    parser.add_argument("--budget", default="10%")
    parser.add_argument("--out", default="selected")
    asked = parser.parse_args()
    print(nightly(asked.pool, asked.target, asked.budget, asked.out))
