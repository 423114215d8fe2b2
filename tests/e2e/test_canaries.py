"""No secret of the deployment is ever found again: not in answers, logs, the database or the artifacts."""

from __future__ import annotations

import json
import os
import re
import subprocess
from pathlib import Path

import httpx
import pytest
from cryptography.fernet import Fernet
from sqlalchemy import text
from sqlalchemy.engine import make_url

from app.persistence.session import Database
from app.persistence.tables import Base
from app.settings import Settings
from tests.e2e.conftest import ENDED
from tests.fixtures.databases import migrate
from tests.fixtures.processes import BIN, ROOT, Service, environment
from tests.fixtures.servers import PostgresServer
from tests.fixtures.service import jsonl, sums

HUB_TOKEN = "hf_" + "Canary" * 6
BROKER_PASSWORD = "broker-canary-5f2d"
LINK_SECRET = "link-canary-9b1c"
WEBHOOK_KEY = Fernet.generate_key().decode()
SEEN = "visible-canary-77"
"""Sent as metadata: has to be found, or the search finds nothing at all."""


def dump(url: str) -> str:
    """Every row of every table as text."""
    database = Database(url, pool_size=1)
    try:
        with database.read() as session:
            return "\n".join(
                str(tuple(row))
                for table in Base.metadata.tables
                for row in session.execute(text(f"SELECT * FROM {table}"))
            )
    finally:
        database.dispose()


def made_key(env: dict[str, str]) -> str:
    done = subprocess.run(
        [str(BIN / "python"), "-m", "app", "keys", "create", "--name", "canary"],
        env=env, cwd=ROOT, capture_output=True, text=True, timeout=120, check=True,
    )  # fmt: skip
    secret: str = json.loads(done.stdout)["secret"]
    return secret


def test_no_secret_is_found_again(tmp_path: Path) -> None:
    answers: list[str] = []
    with PostgresServer() as postgres:
        migrate(postgres.url)
        env = environment(
            data_dir=tmp_path / "data",
            database_url=postgres.url,
            broker_url=f"redis://:{BROKER_PASSWORD}@127.0.0.1:1/0",
            extra={
                "SPICE_AUTH": "keys",
                "SPICE_LINK_SECRET": LINK_SECRET,
                "SPICE_WEBHOOK_KEY": WEBHOOK_KEY,
                "HF_TOKEN": HUB_TOKEN,
                "SPICE_ALLOWED_PROXIES": '["*"]',
                "SPICE_LOG_LEVEL": "debug",
                "SPICE_OUTBOUND_ALLOWED_NETWORKS": '["127.0.0.1/32"]',
                "SPICE_OUTBOUND_PORTS": "[1]",
            },
        )
        secret = made_key(env)
        canaries = {
            "API key": secret,
            "hub token": HUB_TOKEN,
            "broker password": BROKER_PASSWORD,
            "link secret": LINK_SECRET,
            "webhook key": WEBHOOK_KEY,
            "database password": make_url(postgres.url).password or "",
        }
        assert all(len(canary) > 10 for canary in canaries.values())
        service = Service(env, tmp_path / "logs")
        with service, httpx.Client(base_url=service.url, timeout=60, trust_env=False) as http:
            http.headers["Authorization"] = f"Bearer {secret}"

            def call(method: str, path: str, **kwargs: object) -> httpx.Response:
                response = http.request(method, path, **kwargs)  # type: ignore[arg-type]
                answers.append(str(response.headers) + response.text)
                return response

            sent = call("POST", "/v1/datasets", files={"file": ("pool.jsonl", jsonl(sums(12)))})
            dataset = call("GET", f"{sent.headers['Location']}?wait=5").json()
            while dataset["status"] == "validating":
                dataset = call("GET", f"{sent.headers['Location']}?wait=5").json()
            hook = {"url": "http://127.0.0.1:1/hook"}
            made = http.post("/v1/webhook-endpoints", json=hook)  # the one answer that shows it
            canaries["webhook secret"] = made.json()["secret"]
            call("GET", f"/v1/webhook-endpoints/{made.json()['id']}/deliveries")
            call("POST", f"/v1/webhook-endpoints/{made.json()['id']}/ping")
            call("PATCH", f"/v1/webhook-endpoints/{made.json()['id']}", json={"name": "canary"})
            body = {
                "dataset_id": dataset["id"],
                "budget": {"count": 3},
                "gradients": {"sketch_dim": 4},
                "metadata": {"seen": SEEN},
            }
            job = call("POST", "/v1/jobs", json=body, headers={"Idempotency-Key": "canary"}).json()
            while job["status"] not in ENDED:
                job = call("GET", f"/v1/jobs/{job['id']}?wait=5").json()
            assert job["status"] == "succeeded", job
            paths = httpx.get(f"{service.url}/v1/openapi.json", trust_env=False).json()["paths"]
            known = {"job_id": job["id"], "dataset_id": dataset["id"], "gradient_set_id": job["gradient_set_id"]}
            for path in paths:
                if "get" in paths[path] and set(re.findall(r"\{(\w+)\}", path)) <= set(known):
                    call("GET", path.format(**known))
            for file in call("GET", f"/v1/jobs/{job['id']}/files").json()["data"]:
                call("GET", f"/v1/jobs/{job['id']}/files/{file['name']}")
                call("POST", f"/v1/jobs/{job['id']}/files/{file['name']}/links", json={})
            # What goes wrong is where secrets like to come out.
            call("POST", "/v1/jobs", json={**body, "proxy": {"model": "no-such/model"}})
            call("GET", "/v1/jobs", headers={"Authorization": "Bearer x"})
            call("GET", "/v1/jobs/%0aINJECTED%1b%5b31m", headers={"User-Agent": "a\tb", "X-Request-Id": "c\x7f"})
            stored = dump(postgres.url)
            postgres.kill()
            assert call("GET", "/v1/jobs").status_code == 503
            assert call("GET", "/readyz").status_code == 503
            log = service.log_text()
    artifacts = b"\n".join(path.read_bytes() for path in (tmp_path / "data").rglob("*") if path.is_file())
    places = {
        "answers": "\n".join(answers),
        "log": log,
        "database": stored,
        "artifacts": artifacts.decode("latin-1"),
    }
    assert SEEN in places["answers"]
    assert SEEN in places["database"]
    found = [(name, place) for place, held in places.items() for name, canary in canaries.items() if canary in held]
    assert not found
    assert "database_unavailable" in log
    assert not re.search(r"[\x00-\x08\x0b-\x1f\x7f]", log), "a control character reached the log"
    assert not [line for line in log.splitlines() if line.startswith("INJECTED")]


def test_a_log_line_holds_no_control_characters_and_no_more_than_200_of_a_text() -> None:
    code = (
        "from app import logs; logs.configure(); "
        r"logs.get_logger().warning('x', name='a\nb\x1b[31m\u2028' + 'c' * 500, detail='d' * 200)"
    )
    done = subprocess.run(
        [str(BIN / "python"), "-c", code], capture_output=True, text=True, check=True, cwd=ROOT, env=dict(os.environ)
    )
    assert len(done.stderr.splitlines()) == 1
    line = json.loads(done.stderr)
    assert line["name"].startswith(r"a\x0ab\x1b[31m\x2028ccc")
    assert len(line["name"]) == 203
    assert line["detail"] == "d" * 200


@pytest.mark.parametrize("variable", ["SPICE_LINK_SECRET", "SPICE_BROKER_URL", "SPICE_DATABASE_URL"])
def test_printed_settings_show_no_secret(monkeypatch: pytest.MonkeyPatch, variable: str) -> None:
    monkeypatch.setenv(variable, "redis://:secret-canary@127.0.0.1/0")
    assert "secret-canary" not in repr(Settings()) + str(Settings())
