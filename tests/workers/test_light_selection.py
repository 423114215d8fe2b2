"""A unit that only selects needs neither transformers nor the tokenizers: a worker that selects starts without them."""

from __future__ import annotations

import os
import subprocess
import sys

from tests.contracts.packages import ROOT
from tests.fixtures.service import InProcessService, jsonl, sums

SELECT = """
import sys, threading
for name in ("transformers", "tokenizers", "datasets"):
    sys.modules[name] = None
from app.settings import Settings
from workers.run_unit import UnitRunner
runner = UnitRunner(Settings(), "light", threading.Event())
claim = runner.claim_next()
assert claim is not None and claim.kind == "select", claim
runner.run_claim(claim)
"""


def test_a_selection_runs_where_transformers_cannot_be_imported(service: InProcessService) -> None:
    dataset = service.push(jsonl(sums(12)))
    job = service.submit(dataset["id"])
    claim = service.runner.claim_next()
    assert claim is not None
    assert claim.kind == "gradients"
    service.runner.run_claim(claim)
    settings = service.settings
    env = {
        **os.environ,
        "PYTHONPATH": str(ROOT),
        "SPICE_DATABASE_URL": settings.resolved_database_url,
        "SPICE_DATA_DIR": str(settings.data_dir),
        "SPICE_DEVICE": "cpu",
    }
    done = subprocess.run(
        [sys.executable, "-c", SELECT], env=env, capture_output=True, text=True, timeout=300, check=False
    )
    assert done.returncode == 0, done.stderr
    ended = service.job(job["id"])
    assert (ended["status"], ended["result"]["selected"]) == ("succeeded", 3), done.stderr
