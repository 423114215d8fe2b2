"""Who is let in, what a key may do, and that no project sees another's things, over every route of the contract."""

from __future__ import annotations

import json
import re
import shlex
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any

import httpx
import pytest
from sqlalchemy import text, update

from app.api.deps import scope_of
from app.ids import DEFAULT_PROJECT
from app.outbound import Guard, Policy
from app.persistence.tables import ApiKey
from app.persistence.types import clock
from app.services.access.keys import KeyService, NoKeyError, digest, new_secret, well_formed
from app.services.health import ROOT
from app.status import SCOPES
from spice_select.results.signature import KEYS_PATH
from tests.fixtures.databases import fresh_database
from tests.fixtures.processes import environment
from tests.fixtures.service import InProcessService, jsonl, sums

OPEN = {"/livez", "/readyz", "/problems/{slug}", "/v1/version", "/metrics", "/v1/links/{token}/{name}", KEYS_PATH}
"""Addresses that tell nothing of a project, or that a signature opens (tests/service/test_files.py)."""
NO_IDS = {"number", "row"}
"""Parts of addresses that every project has."""


@dataclass
class TwoProjects:
    service: InProcessService
    secrets: dict[str, str]
    ids: dict[str, str]
    files: list[str]

    def call(self, owner: str | None, method: str, path: str, **kwargs: Any) -> httpx.Response:
        headers = {"Authorization": f"Bearer {self.secrets[owner]}"} if owner else {}
        return self.service.http.request(method, path, headers={**headers, **kwargs.pop("headers", {})}, **kwargs)


@pytest.fixture(scope="module", params=["sqlite", "postgresql"])
def empty_url(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    if request.param == "sqlite":
        path = tmp_path_factory.mktemp("two") / "spice.db"
        path.write_bytes(request.getfixturevalue("_migrated_sqlite").read_bytes())
        yield f"sqlite:///{path}"
        return
    template = request.getfixturevalue("_migrated_postgres")
    with fresh_database(request.getfixturevalue("postgres_url"), template=template) as url:
        yield url


@pytest.fixture(scope="module")
def two(empty_url: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[TwoProjects]:
    service = InProcessService(empty_url, tmp_path_factory.mktemp("two"), auth="keys")
    keys = KeyService(service.runner.database)
    other = keys.create_project("other")
    secrets = {
        "first": keys.create(DEFAULT_PROJECT, "first", SCOPES)[1],
        "other": keys.create(other.id, "other", SCOPES)[1],
    }
    with service:
        found = TwoProjects(service, secrets, {}, [])
        sent = found.call("first", "POST", "/v1/datasets", files={"file": ("pool.jsonl", jsonl(sums(12)))})
        found.ids["dataset_id"] = sent.json()["id"]
        service.drain()
        body = {"dataset_id": sent.json()["id"], "budget": {"count": 3}, "gradients": {"sketch_dim": 4}}
        job = found.call("first", "POST", "/v1/jobs", json=body).json()
        service.drain()
        found.ids |= {"job_id": job["id"], "gradient_set_id": job["gradient_set_id"]}
        held = found.call("first", "POST", "/v1/datasets", files={"file": ("held.jsonl", jsonl(sums(4, 90)))})
        service.drain()
        body = {"job_id": job["id"], "holdout_dataset_id": held.json()["id"]}
        body |= {"seeds": 2, "controls": ["random"], "plantings": []}
        found.ids["evaluation_id"] = found.call("first", "POST", "/v1/evaluations", json=body).json()["id"]
        made = found.call("first", "POST", "/v1/api-keys", json={"name": "spare"}).json()
        found.ids["key_id"] = made["id"]
        body = {"bytes": 5, "sha256": "0" * 64}
        upload = found.call("first", "POST", "/v1/datasets/uploads", json=body).json()
        found.ids |= {"upload_id": upload["id"], "number": "1", "row": "0"}
        service.app.state.services.webhooks.guard = Guard(Policy(), lambda _: ["93.184.215.14"])
        hook = {"url": "https://hooks.example.org/"}
        nightly = {
            "name": "n",
            "cron": "0 2 * * *",
            "job": {"dataset_id": found.ids["dataset_id"], "budget": {"count": 1}},
        }
        found.ids["schedule_id"] = found.call("first", "POST", "/v1/schedules", json=nightly).json()["id"]
        found.ids["endpoint_id"] = found.call("first", "POST", "/v1/webhook-endpoints", json=hook).json()["id"]
        ping = found.call("first", "POST", f"/v1/webhook-endpoints/{found.ids['endpoint_id']}/ping").json()
        found.ids["delivery_id"] = ping["id"]
        files = found.call("first", "GET", f"/v1/jobs/{job['id']}/files").json()["data"]
        found.files = [file["name"] for file in files]
        yield found


def test_a_job_cannot_name_another_projects_things(two: TwoProjects) -> None:
    sent = two.call("other", "POST", "/v1/datasets", files={"file": ("pool.jsonl", jsonl(sums(6)))})
    two.service.drain()
    mine = {"dataset_id": sent.json()["id"], "budget": {"count": 2}, "gradients": {"sketch_dim": 4}}
    for theirs, pointer in (
        ({"dataset_id": two.ids["dataset_id"]}, "#/dataset_id"),
        ({"given_job": two.ids["job_id"]}, "#/given_job"),
        ({"extends_job_id": two.ids["job_id"]}, "#/extends_job_id"),
        ({"method": "less", "target_dataset_id": two.ids["dataset_id"]}, "#/target_dataset_id"),
        ({"targets": [{"name": "t", "dataset_id": two.ids["dataset_id"]}]}, "#/targets/0/dataset_id"),
        ({"protect": [{"name": "t", "dataset_id": two.ids["dataset_id"]}]}, "#/protect/0/dataset_id"),
        ({"screens": {"contamination": [two.ids["dataset_id"]]}}, "#/screens/contamination/0"),
    ):
        problem = two.call("other", "POST", "/v1/jobs", json={**mine, **theirs}).json()
        assert (problem["status"], problem["code"]) == (404, "not-found")
        assert problem["errors"][0]["pointer"] == pointer
        estimate = two.call("other", "POST", "/v1/estimates", json={**mine, **theirs}).json()
        assert (estimate.get("status"), estimate["errors"][0]["pointer"]) == (404, pointer), estimate
    job = two.call("other", "POST", "/v1/jobs", json=mine).json()
    two.service.drain()
    for body, pointer in (
        ({"job_id": two.ids["job_id"]}, "#/job_id"),
        ({"job_id": job["id"], "holdout_dataset_id": two.ids["dataset_id"]}, "#/holdout_dataset_id"),
    ):
        problem = two.call("other", "POST", "/v1/evaluations", json=body).json()
        assert (problem["status"], problem["code"]) == (404, "not-found")
        assert problem["errors"][0]["pointer"] == pointer


def operations(two: TwoProjects) -> list[tuple[str, str]]:
    paths = two.service.app.openapi()["paths"]
    return [(method.upper(), path) for path, found in sorted(paths.items()) for method in sorted(found)]


def test_every_route_asks_for_a_key(two: TwoProjects) -> None:
    asked = 0
    for method, template in operations(two):
        if template in OPEN:
            continue
        path = re.sub(r"\{\w+\}", "x", template)
        for headers in ({}, {"Authorization": f"Bearer {new_secret()}"}, {"Authorization": "Digest x"}):
            kwargs = {"json": {}} if method in {"POST", "PUT", "PATCH"} else {}
            response = two.call(None, method, path, headers=headers, **kwargs)
            assert response.status_code == 401, (method, template, response.text)
            assert response.json()["code"] == "unauthenticated"
            assert {"Bearer", "Basic"} <= set(re.findall(r"\w+(?= realm)", response.headers["www-authenticate"]))
            asked += 1
    assert asked > 40


def test_no_route_shows_another_projects_things(two: TwoProjects) -> None:
    """Every route that names something: 404 for the other project, exactly as for an id that does not exist."""
    tried = 0
    for method, template in operations(two):
        names = re.findall(r"\{(\w+)\}", template)
        if not names or template in OPEN:
            continue
        unknown = set(names) - {*two.ids, "name"}
        assert not unknown, f"{template}: let the fixture make a {unknown}, so that this route is tried as well"
        for name in two.files if "name" in names else ["-"]:
            path = template.format(**two.ids, name=name)
            named = template.startswith(("/v1/jobs/", "/v1/schedules/"))
            changes: dict[str, Any] = {"name": "x"} if named else {"enabled": True}
            body = changes if method == "PATCH" else {"overlap_hours": 1} if "rotate" in template else {}
            kwargs = {"json": body} if method in {"POST", "PUT", "PATCH"} else {}
            answers = [two.call("other", method, path, **kwargs)]
            if method == "GET":
                answers.append(two.call("other", "HEAD", path))
            for response in answers:
                assert response.status_code == 404, (method, path, response.text)
                tried += 1
    named = [template for _, template in operations(two) if "{" in template and template not in OPEN]
    print(f"{tried} requests of another project to {len(named)} operations, {len(two.files)} files among them")
    assert tried >= len(named) + len(two.files)
    for method, template in operations(two):
        names = re.findall(r"\{(\w+)\}", template)
        if method == "GET" and set(names) <= {*two.ids, "name"} and "key_id" not in names and names:
            assert two.call("first", "GET", template.format(**two.ids, name=two.files[0])).status_code == 200


NO_PROJECT = {"/", "/docs", "/metrics", "/v1/openapi.json", "/ui/login", "/ui/logout", "/ui/static/{name}"}
"""Beside the contract, and nothing of a project: who it is open to is for tests of the page."""


def beside_the_contract(two: TwoProjects) -> list[tuple[str, str]]:
    """The routes that are not in the contract: the page."""

    def each(routes: list[Any]) -> Iterator[Any]:
        for route in routes:
            inner = getattr(route, "original_router", None)
            yield from [route] if inner is None else each(inner.routes)

    shown = set(operations(two))
    found = {(method, route.path) for route in each(two.service.app.routes) for method in route.methods}
    return sorted(
        (method, path)
        for method, path in found
        if path not in NO_PROJECT and (method, path) not in shown and ("GET", path) not in shown
    )


def test_no_route_of_the_page_shows_another_projects_things(two: TwoProjects) -> None:
    ids = {**two.ids, "name": two.ids["job_id"], "path:path": "README.md"}
    host = f"{two.service.http.base_url}".rstrip("/")
    tried, opened = set(), set()
    for method, template in beside_the_contract(two):
        names = re.findall(r"\{([\w:]+)\}", template)
        unknown = set(names) - {*ids}
        assert not unknown, f"{template}: name a {unknown}, so that this route is tried as well"
        about = {**ids, "name": two.files[0]} if template.startswith("/ui/") else ids
        path = template.replace("{path:path}", ids["path:path"]).format(**about)
        kwargs: dict[str, Any] = {"headers": {"Origin": host}} if method in {"POST", "PUT"} else {}
        if kwargs and template.startswith("/ui/datasets/uploads"):  # what the page's script sends
            kwargs["headers"]["Content-Type"] = "application/" + ("json" if method == "POST" else "octet-stream")
        nobody = two.call(None, method, path, follow_redirects=False, **kwargs)
        assert nobody.status_code in {303, 401}, (method, template)
        other = two.call("other", method, path, follow_redirects=False, **kwargs)
        for name, held in two.ids.items():
            assert held in path or held not in other.text or name in NO_IDS, (method, template)
        if names:
            assert other.status_code == 404, (method, path, other.text)
            if method in {"GET", "HEAD"}:
                opened.add(template)
                assert two.call("first", method, path, follow_redirects=True).status_code == 200, (method, path)
        tried.add(template)
    assert {"/ui/datasets", "/ui/jobs/{job_id}/evaluations", "/ui/evaluations/{evaluation_id}/cancel"} <= tried
    assert len(opened) >= 5
    for wanted in (f"/ui?dataset_id={two.ids['dataset_id']}", f"/ui/new?dataset_id={two.ids['dataset_id']}"):
        text_shown = two.call("other", "GET", wanted).text
        assert "pool.jsonl" not in re.sub(r"<option[^>]*>.*?</option>", "", text_shown)
        assert two.ids["job_id"] not in text_shown
    assert two.call("other", "GET", f"/ui/new?like={two.ids['job_id']}").status_code == 404


def test_lists_hold_only_the_own_projects_things(two: TwoProjects) -> None:
    for method, template in operations(two):
        if method == "GET" and "{" not in template and template not in OPEN:
            answer = two.call("other", "GET", template).json()
            for name, held in two.ids.items():
                if name in NO_IDS:
                    continue
                assert held not in json.dumps(answer), template
    # A job on another project's data set is refused as if there were none.
    body = {"dataset_id": two.ids["dataset_id"], "budget": {"count": 1}}
    assert two.call("other", "POST", "/v1/jobs", json=body).status_code == 404


def test_basic_takes_the_key_as_password(two: TwoProjects) -> None:
    answer = two.service.http.get("/v1/jobs", auth=("anyone", two.secrets["first"]))
    assert answer.status_code == 200
    assert two.service.http.get("/v1/jobs", auth=(two.secrets["first"], "")).status_code == 401
    assert two.service.http.get("/v1/jobs", headers={"Authorization": "Basic %%%"}).status_code == 401


def test_two_keys_in_one_request_are_none(two: TwoProjects) -> None:
    twice = [("Authorization", f"Bearer {two.secrets[name]}") for name in ("first", "first")]
    assert two.service.http.get("/v1/jobs", headers=twice[:1]).status_code == 200
    assert two.service.http.get("/v1/jobs", headers=twice).status_code == 401


@pytest.mark.parametrize("scope", SCOPES)
def test_a_scope_allows_what_it_says_and_nothing_else(two: TwoProjects, scope: str) -> None:
    keys = KeyService(two.service.runner.database)
    two.secrets[scope] = keys.create(DEFAULT_PROJECT, scope, [scope])[1]
    for method, template in operations(two):
        if template in OPEN or method == "DELETE" or template.endswith(("cancel", "rotate")):
            continue
        path = re.sub(r"\{\w+\}", "x", template)
        kwargs = {"json": {}} if method in {"POST", "PUT", "PATCH"} else {}
        response = two.call(scope, method, path, **kwargs)
        needed = scope_of(method, path)
        allowed = scope in {needed, "admin", needed.replace(":read", ":write")}
        assert (response.status_code == 403) is not allowed, (method, path, scope, response.text)
        if not allowed:
            assert response.json()["code"] == "forbidden"
            assert needed in response.json()["detail"]


def test_keys_are_stored_as_digests_and_shown_once(two: TwoProjects) -> None:
    made = two.call("first", "POST", "/v1/api-keys", json={"name": "shown"})
    assert made.status_code == 201
    assert made.headers["cache-control"] == "no-store"
    secret = made.json()["secret"]
    assert well_formed(secret)
    assert not well_formed(secret[:-1] + ("a" if secret[-1] != "a" else "b"))
    with two.service.runner.database.read() as session:
        stored = [str(row) for row in session.execute(text("SELECT * FROM api_key"))]
    assert not [row for row in stored if secret in row]
    assert [row for row in stored if digest(secret) in row]
    listed = two.call("first", "GET", "/v1/api-keys").text
    assert secret not in listed
    assert made.json()["id"] in listed


def test_a_revoked_key_ends_at_once_and_a_rotated_one_after_the_overlap(two: TwoProjects) -> None:
    made = two.call("first", "POST", "/v1/api-keys", json={"name": "old", "scopes": ["jobs:read"]}).json()
    two.secrets["old"] = made["secret"]
    assert two.call("old", "GET", "/v1/jobs").status_code == 200
    path = f"/v1/api-keys/{made['id']}"
    new = two.call("first", "POST", f"{path}/rotate", json={"overlap_hours": 1}).json()
    two.secrets["new"] = new["secret"]
    assert new["scopes"] == ["jobs:read"]
    assert [two.call(name, "GET", "/v1/jobs").status_code for name in ("old", "new")] == [200, 200]
    with two.service.runner.database.write() as session:
        session.execute(update(ApiKey).where(ApiKey.id == made["id"]).values(revoked_at=clock(-1)))
    two.service.app.state.services.keys._forget()
    assert [two.call(name, "GET", "/v1/jobs").status_code for name in ("old", "new")] == [401, 200]
    with two.service.runner.database.write() as session:
        session.execute(update(ApiKey).where(ApiKey.id == new["id"]).values(expires_at=clock(-1)))
    revived = two.call("first", "POST", f"/v1/api-keys/{new['id']}/rotate", json={"overlap_hours": 1})
    assert revived.status_code == 404, "what has expired is not brought back"
    with two.service.runner.database.write() as session:
        session.execute(update(ApiKey).where(ApiKey.id == new["id"]).values(expires_at=None))
    assert two.call("new", "GET", "/v1/jobs").status_code == 200
    assert two.call("first", "DELETE", f"/v1/api-keys/{new['id']}").status_code == 204
    assert two.call("new", "GET", "/v1/jobs").status_code == 401


def test_an_expired_key_is_refused_and_use_is_noted(two: TwoProjects) -> None:
    keys = KeyService(two.service.runner.database)
    key, secret = keys.create(DEFAULT_PROJECT, "short", days=1)
    assert keys.verify(secret) is not None
    with two.service.runner.database.write() as session:
        found = session.get(ApiKey, key.id)
        assert found is not None
        assert found.last_used_at is not None
        found.expires_at = found.created_at - timedelta(days=1)
    assert keys.verify(secret) is not None, "remembered for a few seconds"
    keys._forget()
    assert keys.verify(secret) is None


def test_nothing_starts_without_a_key(sqlite_url: str, tmp_path: Path) -> None:
    service = InProcessService(sqlite_url, tmp_path / "data", auth="keys")
    keys = KeyService(service.runner.database)
    with pytest.raises(NoKeyError, match="keys create"):
        keys.refuse_unlocked("keys")
    keys.refuse_unlocked("loopback")
    keys.create(DEFAULT_PROJECT, "first")
    keys.refuse_unlocked("keys")


def test_the_command_makes_a_key_and_the_service_refuses_to_be_reached_without(tmp_path: Path) -> None:
    env = environment(data_dir=tmp_path / "data")
    del env["SPICE_AUTH"]

    def run(*arguments: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", "app", *arguments]
        return subprocess.run(command, env=env, cwd=ROOT, capture_output=True, text=True, timeout=120, check=False)

    started = time.monotonic()
    refused = run("--host", "0.0.0.0", "--port", "0", "--data-dir", str(tmp_path / "data"))
    assert refused.returncode == 1
    told = re.search(r"`python -m app (keys create .*)`", refused.stderr)
    assert told is not None
    assert time.monotonic() - started < 60
    env["SPICE_DATA_DIR"] = str(tmp_path / "elsewhere")
    made = json.loads(run(*shlex.split(told[1]), "--scope", "jobs:read").stdout)
    assert well_formed(made["secret"])
    there = ("--data-dir", str(tmp_path / "data"))
    listed = [json.loads(line) for line in run("keys", "list", *there).stdout.splitlines()]
    assert [(key["id"], key["scopes"]) for key in listed] == [(made["id"], ["jobs:read"])]
    assert run("keys", "revoke", "key_none").returncode == 1
