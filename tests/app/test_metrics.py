"""What operators watch: right after each step of a job, and the dashboards know no other names."""

from __future__ import annotations

import json
import re
from typing import Any

import pytest
import yaml
from prometheus_client.parser import text_string_to_metric_families
from sqlalchemy import update

from app.persistence.tables import Unit
from app.persistence.types import clock
from app.services.health import ROOT
from tests.fixtures.service import InProcessService, jsonl, sums


def scrape(service: InProcessService) -> dict[tuple[str, str], float]:
    """Every sample by its name and the values of its labels."""
    answer = service.http.get("/metrics")
    assert answer.status_code == 200
    return {
        (sample.name, ",".join(sample.labels.values())): sample.value
        for family in text_string_to_metric_families(answer.text)
        for sample in family.samples
    }


def test_the_measures_follow_a_job(any_service: InProcessService) -> None:
    service = any_service
    dataset = service.push(jsonl(sums(8)))
    job = service.submit(dataset["id"])
    waiting = scrape(service)
    assert waiting["spice_jobs", "queued"] == 1
    assert waiting["spice_datasets", "ready"] == 1
    assert waiting["spice_queue_depth", "gradients"] == 1
    assert waiting["spice_units_running", "gradients"] == 0
    with service.runner.database.write() as session:
        session.execute(update(Unit).where(Unit.kind == "gradients").values(not_before=clock(-100)))
    assert 99 < scrape(service)["spice_queue_oldest_age_seconds", "gradients"] < 160
    claim = service.runner.units.claim_next("gpu-1")
    assert claim is not None
    held = scrape(service)
    assert held["spice_queue_depth", "gradients"] == 0
    assert held["spice_units_running", "gradients"] == 1
    assert held["spice_worker_heartbeat_age_seconds", "gpu-1"] < 60
    with service.runner.database.write() as session:
        session.execute(update(Unit).where(Unit.id == claim.unit_id).values(lease_until=clock(-1)))
    lost = scrape(service)
    assert (lost["spice_leases_expired", ""], lost["spice_units_running", "gradients"]) == (1, 0)
    service.drain()
    done = scrape(service)
    assert service.job(job["id"])["status"] == "succeeded"
    assert (done["spice_jobs", "succeeded"], done["spice_jobs", "queued"], done["spice_leases_expired", ""]) == (
        1,
        0,
        0,
    )


def test_answers_are_counted_by_route_and_never_by_path(service: InProcessService) -> None:
    for path in ("/v1/jobs", "/v1/jobs/job_01J8Z3K4M5N6P7Q8R9S0T1V2W3", "/made/up", "/made/up/too"):
        service.http.get(path)
    found = scrape(service)
    name = "spice_http_request_duration_seconds_count"
    assert found[name, "GET,/v1/jobs,2xx"] == 1
    assert found[name, "GET,/v1/jobs/{job_id},4xx"] == 1
    assert not [labels for _, labels in found if "made" in labels or "job_0" in labels]


def named(expression: str) -> set[str]:
    """Metrics that an expression reads."""
    return set(re.findall(r"\bspice_\w+", expression))


def expressions() -> list[tuple[str, str]]:
    rules: Any = yaml.safe_load((ROOT / "deploy" / "alerts.yml").read_text())
    board: Any = json.loads((ROOT / "deploy" / "grafana.json").read_text())
    found = [(rule["alert"], rule["expr"]) for group in rules["groups"] for rule in group["rules"]]
    return found + [(panel["title"], target["expr"]) for panel in board["panels"] for target in panel["targets"]]


def test_alerts_and_dashboard_read_what_exists(service: InProcessService) -> None:
    text = service.http.get("/metrics").text
    exist = set(re.findall(r"^# TYPE (spice_\w+) ", text, re.MULTILINE))
    assert len(exist) > 10
    for where, expression in expressions():
        names = {re.sub(r"_(count|bucket|sum)$", "", name) for name in named(expression)}
        assert names, where
        assert names <= exist, where


@pytest.mark.parametrize("alert", [where for where, _ in expressions() if where.startswith("Spice")])
def test_operators_are_told_what_an_alert_means(alert: str) -> None:
    assert f"`{alert}`" in (ROOT / "docs" / "operations.md").read_text()
