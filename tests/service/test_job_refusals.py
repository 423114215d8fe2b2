"""Jobs that are refused, each with a pointer to what is wrong."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from app.errors import ServiceError
from app.services.jobs.proxies import Proxies
from app.settings import Settings
from spice_select.config import ProxyConfig
from tests.fixtures.service import InProcessService, jsonl, sums


@pytest.fixture(scope="module")
def shared_ready(shared_service: InProcessService) -> dict[str, Any]:
    return shared_service.push(jsonl(sums(12)))


@pytest.mark.parametrize(
    ("change", "status", "code", "pointer"),
    [
        ({"budget": {"count": 0}}, 422, "validation-error", "#/budget/count"),
        ({"budget": {"count": -1}}, 422, "validation-error", "#/budget/count"),
        ({"budget": {"count": True}}, 422, "validation-error", "#/budget/count"),
        ({"budget": {"count": "7"}}, 422, "validation-error", "#/budget/count"),
        ({"budget": {"count": 1.0}}, 422, "validation-error", "#/budget/count"),
        ({"budget": {"count": 2**31}}, 422, "validation-error", "#/budget/count"),
        ({"budget": {"count": None}}, 422, "validation-error", "#/budget"),
        ({"budget": {"count": 1, "fraction": 0.5}}, 422, "validation-error", "#/budget"),
        ({"budget": {"fraction": 0}}, 422, "validation-error", "#/budget/fraction"),
        ({"budget": {"fraction": 1.5}}, 422, "validation-error", "#/budget/fraction"),
        ({"budget": {"tokens": 0}}, 422, "validation-error", "#/budget/tokens"),
        ({"budget": {}}, 422, "validation-error", "#/budget"),
        ({"budget": None}, 422, "validation-error", "#/budget"),
        ({"budget": {"count": 13}}, 422, "budget-exceeds-pool", "#/budget/count"),
        ({"colour": "red"}, 422, "validation-error", "#/colour"),
        ({"project_id": "proj_other"}, 422, "validation-error", "#/project_id"),
        ({"selection": {"alpha": 0}}, 422, "validation-error", "#/selection/alpha"),
        ({"selection": {"conflict_penalty": 11}}, 422, "validation-error", "#/selection/conflict_penalty"),
        ({"selection": {"stop_ratio": 1.0}}, 422, "validation-error", "#/selection/stop_ratio"),
        ({"selection": {"lamda": 1.0}}, 422, "validation-error", "#/selection/lamda"),
        ({"method": "magic"}, 422, "validation-error", "#/method"),
        ({"method": "random", "selection": {"method": "spice"}}, 422, "validation-error", "#"),
        ({"gradients": {"sketch_dim": 0}}, 422, "validation-error", "#/gradients/sketch_dim"),
        ({"proxy": {"model": "builtin:huge"}}, 422, "unknown-proxy", "#/proxy/model"),
        ({"proxy": {"model": "no-such-org/no-such-model"}}, 422, "proxy-not-allowed", "#/proxy/model"),
        ({"proxy": {"model": "/etc"}}, 422, "proxy-not-allowed", "#/proxy/model"),
        ({"proxy": {"model": "a b c"}}, 422, "unknown-proxy", "#/proxy/model"),
        ({"proxy": {"model": "builtin:tiny", "revision": "x"}}, 422, "config-invalid", "#/proxy/revision"),
        ({"dataset_id": "ds_nobody"}, 404, "not-found", "#/dataset_id"),
        ({"dataset_id": 7}, 422, "validation-error", "#/dataset_id"),
        ({"name": "a\nb"}, 422, "validation-error", "#/name"),
        ({"name": "a\u0000b"}, 422, "validation-error", "#/name"),
        ({"metadata": {"a": 1}}, 422, "validation-error", "#/metadata/a"),
        ({"metadata": {"a": "b\u0000"}}, 422, "validation-error", "#/metadata/a"),
        ({"metadata": {str(i): "" for i in range(17)}}, 422, "validation-error", "#/metadata"),
        ({"deadline_seconds": 0}, 422, "validation-error", "#/deadline_seconds"),
    ],
)
def test_a_bad_job_is_refused_with_a_pointer(
    shared_service: InProcessService,
    shared_ready: dict[str, Any],
    change: dict[str, Any],
    status: int,
    code: str,
    pointer: str,
) -> None:
    body = {"dataset_id": shared_ready["id"], "budget": {"count": 3}, **change}
    response = shared_service.http.post("/v1/jobs", json=body)
    problem = response.json()
    assert (response.status_code, problem["code"], problem["status"]) == (status, code, status), problem
    assert pointer in [error.get("pointer") for error in problem["errors"]], problem
    assert response.headers["content-type"] == "application/problem+json"
    assert shared_service.http.get("/v1/jobs").json()["data"] == [], "nothing was stored"
    estimate = shared_service.http.post("/v1/estimates", json=body).json()
    assert (estimate["code"], estimate["errors"]) == (code, problem["errors"]), (
        "what a job is refused for, an estimate is"
    )


def test_a_job_on_a_data_set_that_is_not_ready_is_told_to_wait(service: InProcessService) -> None:
    response = service.http.post("/v1/datasets", files={"file": ("a.jsonl", jsonl(sums(2)))})
    refused = service.http.post("/v1/jobs", json={"dataset_id": response.json()["id"], "budget": {"count": 1}})
    assert (refused.status_code, refused.json()["code"]) == (409, "dataset-not-ready")
    assert refused.headers["Retry-After"]
    assert refused.json()["retryable"] is True


def test_a_refused_job_does_not_use_up_its_key(service: InProcessService) -> None:
    dataset = service.push(jsonl(sums(3)))
    headers = {"Idempotency-Key": "k"}
    too_many = {"dataset_id": dataset["id"], "budget": {"count": 4}}
    assert service.http.post("/v1/jobs", json=too_many, headers=headers).status_code == 422
    fine = {"dataset_id": dataset["id"], "budget": {"count": 3}}
    assert service.http.post("/v1/jobs", json=fine, headers=headers).status_code == 202


@pytest.mark.parametrize(
    ("body", "pointer"),
    [
        ({"method": "less"}, "#/targets"),
        ({"method": "stratified"}, "#/selection/quotas"),
        ({"selection": {"quotas": {"floors": {"a": 1}}}}, "#/selection/quotas/column"),
        ({"selection": {"quotas": {"column": "nobody"}}}, "#/selection/quotas/column"),
    ],
)
def test_what_a_job_cannot_be_given_is_refused(
    shared_service: InProcessService, shared_ready: dict[str, Any], body: dict[str, Any], pointer: str
) -> None:
    response = shared_service.http.post(
        "/v1/jobs", json={"dataset_id": shared_ready["id"], "budget": {"count": 2}, **body}
    )
    problem = response.json()
    assert (response.status_code, problem["code"]) == (422, "config-invalid"), problem
    assert problem["errors"][0]["pointer"] == pointer


@pytest.mark.parametrize("model", ["no-such-org/no-such-model", "/etc"])
def test_a_model_that_is_not_allowed_is_told_what_is(
    shared_service: InProcessService, shared_ready: dict[str, Any], model: str
) -> None:
    body = {"dataset_id": shared_ready["id"], "budget": {"count": 2}, "proxy": {"model": model}}
    detail = shared_service.http.post("/v1/jobs", json=body).json()["detail"]
    for part in ("builtin:tiny", "SPICE_ALLOWED_PROXIES", "SPICE_PROXY_ROOT"):
        assert part in detail


def test_a_model_is_allowed_at_one_commit_alone(tmp_path: Path) -> None:
    commit, other = "ab" * 20, "cd" * 20
    settings = Settings(_env_file=None, data_dir=tmp_path, allowed_proxies=[f"org/model@{commit}"])
    resolver = Proxies(settings)
    resolver._known_sizes["org/model", commit] = None  # as where the hub cannot be asked
    for revision in (None, commit):
        found = resolver.resolve(ProxyConfig(model="org/model", revision=revision))
        assert (found.revision, found.config.revision) == (commit, commit)
    for model, revision, pointer in (
        ("org/model", other, "#/proxy/revision"),
        ("org/model", "main", "#/proxy/revision"),
        ("org/mode", None, "#/proxy/model"),
    ):
        with pytest.raises(ServiceError) as refused:
            resolver.resolve(ProxyConfig(model=model, revision=revision))
        assert (refused.value.code, refused.value.errors[0]["pointer"]) == ("proxy-not-allowed", pointer)
    assert settings.named_proxies == ["builtin:tiny", "org/model"]
