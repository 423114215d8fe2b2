"""A client that ``openapi-python-client`` makes from the contract has every operation, and works."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest

from tests.contracts.packages import ROOT
from tests.fixtures.service import InProcessService, jsonl, sums
from tests.soak.install.test_wheel import run

pytestmark = pytest.mark.soak
GENERATOR = "openapi-python-client==0.29.1"
USE = """
import sys
from made.api.jobs import create_job, estimate_job, get_job
from made.client import Client
from made.models import Budget, JobCreate, JobRead, ProblemRead

client = Client(base_url=sys.argv[1])
body = JobCreate(dataset_id=sys.argv[2], budget=Budget(count=3))
assert estimate_job.sync(client=client, body=body) is not None
job = create_job.sync(client=client, body=body, idempotency_key="generated")
assert isinstance(job, JobRead), job
assert get_job.sync(job.id, client=client).dataset_id == sys.argv[2]
missing = get_job.sync("job_01K9RZ3V5X8N3Q2J6T4W7Y0ABC", client=client)
assert isinstance(missing, ProblemRead) and missing.code == "not-found", missing
print(job.id)
"""


def test_every_operation_is_generated_and_a_job_is_made(sqlite_url: str, tmp_path: Path) -> None:
    run(sys.executable, "-m", "venv", tmp_path / "venv", cwd=tmp_path)
    commands = tmp_path / "venv" / "bin"
    run(commands / "pip", "install", "--quiet", GENERATOR, cwd=tmp_path)
    contract = ROOT / "docs" / "openapi.json"
    generate = (commands / "openapi-python-client", "generate", "--path", contract, "--meta", "none")
    told = run(*generate, "--output-path", tmp_path / "made", cwd=tmp_path)
    assert "Endpoint will not be generated" not in told.stdout + told.stderr
    paths = json.loads(contract.read_text(encoding="utf-8"))["paths"]
    operations = {operation["operationId"] for methods in paths.values() for operation in methods.values()}
    made = {path.stem for path in (tmp_path / "made" / "api").rglob("*.py")} - {"__init__"}
    assert operations == made

    with InProcessService(sqlite_url, tmp_path / "data") as service:
        dataset = service.push(jsonl(sums(30)))["id"]
        (tmp_path / "use.py").write_text(USE, encoding="utf-8")
        job = run(commands / "python", "use.py", str(service.http.base_url), dataset, cwd=tmp_path).stdout.strip()
        service.drain()
        assert service.job(job)["status"] == "succeeded"
