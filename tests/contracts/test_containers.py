"""The containers, as far as they can be checked without a docker engine.

The Dockerfile is linted, the Compose file is held against its published schema, and every command line in it is one
that the tests start for real (tests/fixtures/processes.py), or is started here.
"""

from __future__ import annotations

import json
import os
import re
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml

from app.settings import Settings
from tests.contracts.packages import ROOT, closure, direct_requirements
from tests.fixtures import processes
from tests.fixtures.binaries import find_redis, unprivileged_account
from tests.fixtures.servers import free_port

HADOLINT = Path(sys.executable).parent / "hadolint"
SECRETS = {"POSTGRES_PASSWORD": "postgres-secret", "REDIS_PASSWORD": "redis-secret"}
OURS = ("migrate", "api", "dispatcher", "worker", "worker-gpu")


def interpolate(value: Any) -> Any:
    """Replace ``${NAME}``, ``${NAME:-default}`` and ``${NAME:?message}`` as Compose does."""
    if isinstance(value, dict):
        return {key: interpolate(entry) for key, entry in value.items()}
    if isinstance(value, list):
        return [interpolate(entry) for entry in value]
    if not isinstance(value, str):
        return value

    def fill(found: re.Match[str]) -> str:
        if found[0] == "$$":
            return "$"
        name, operator, word = found[1], found[2], found[3]
        if name in SECRETS:
            return SECRETS[name]
        assert operator == ":-", f"{name} has neither a default nor a value"
        return word

    return re.sub(r"\$\$|\$\{([A-Z_]+)(?:(:-|:\?)([^}]*))?\}", fill, value)


@pytest.fixture(scope="module")
def compose() -> dict[str, Any]:
    content = interpolate(yaml.safe_load((ROOT / "docker-compose.yml").read_text(encoding="utf-8")))
    assert isinstance(content, dict)
    return content


@pytest.fixture(scope="module")
def schema() -> dict[str, Any]:
    content = json.loads((Path(__file__).parent / "schemas" / "compose-spec.json").read_text(encoding="utf-8"))
    assert isinstance(content, dict)
    return content


def test_compose_file_follows_the_published_schema(compose: dict[str, Any], schema: dict[str, Any]) -> None:
    jsonschema.Draft202012Validator.check_schema(schema)
    errors = jsonschema.Draft202012Validator(schema).iter_errors(compose)
    assert not [f"{'/'.join(map(str, error.path))}: {error.message}" for error in errors]


@pytest.mark.parametrize(
    ("service", "key", "value"),
    [("api", "comand", ["x"]), ("api", "ports", "8000"), ("redis", "mem_limit", []), ("worker", "healthcheck", "no")],
)
def test_the_schema_notices_mistakes(
    compose: dict[str, Any], schema: dict[str, Any], service: str, key: str, value: Any
) -> None:
    broken = {**compose, "services": {**compose["services"], service: {**compose["services"][service], key: value}}}
    assert list(jsonschema.Draft202012Validator(schema).iter_errors(broken))


@pytest.mark.parametrize(
    ("service", "command"),
    [
        ("api", tuple(word.format(host="0.0.0.0", port=8000) for word in processes.API_COMMAND)),
        ("worker", processes.WORKER_COMMAND),
        ("worker-gpu", processes.WORKER_COMMAND),
        ("dispatcher", processes.DISPATCHER_COMMAND),
        ("migrate", processes.MIGRATE_COMMAND),
    ],
)
def test_a_command_line_is_one_that_the_tests_start(
    compose: dict[str, Any], service: str, command: tuple[str, ...]
) -> None:
    assert tuple(compose["services"][service]["command"]) == command


def test_the_images_start_the_same_commands_by_themselves(compose: dict[str, Any]) -> None:
    for target in ("api", "worker"):
        stage = dockerfile_stage(target)
        found = re.search(r"^CMD (\[.+\])$", stage, re.MULTILINE)
        assert found
        assert json.loads(found[1]) == compose["services"][target]["command"]


def test_the_worker_image_sets_what_the_tests_set_for_a_worker() -> None:
    stage = dockerfile_stage("worker")
    for name, value in processes.WORKER_ENVIRONMENT.items():
        assert re.search(rf"\b{name}={value}$", stage, re.MULTILINE)


def test_every_service_is_accounted_for(compose: dict[str, Any]) -> None:
    assert set(compose["services"]) == {*OURS, "postgres", "redis"}
    assert compose["services"]["worker-gpu"]["profiles"] == ["gpu"]
    assert not [name for name in (*OURS[:-1], "postgres", "redis") if "profiles" in compose["services"][name]]


def test_services_wait_for_what_they_need(compose: dict[str, Any]) -> None:
    services = compose["services"]
    needs = {name: {on: how["condition"] for on, how in services[name]["depends_on"].items()} for name in OURS}
    migrated = {"migrate": "service_completed_successfully", "postgres": "service_healthy"}
    assert needs["migrate"] == {"postgres": "service_healthy"}
    assert needs["api"] == migrated
    for name in ("dispatcher", "worker", "worker-gpu"):
        assert needs[name] == {**migrated, "redis": "service_healthy"}
    assert "test" in services["postgres"]["healthcheck"]
    assert "test" in services["redis"]["healthcheck"]


def test_every_service_is_hardened(compose: dict[str, Any]) -> None:
    for name, service in compose["services"].items():
        assert service["cap_drop"] == ["ALL"], name
        assert service["security_opt"] == ["no-new-privileges:true"], name
        assert service["read_only"] is True, name
        assert service["tmpfs"], name
        assert service["mem_limit"], name
        assert service["pids_limit"], name
        assert not str(service["user"]).startswith(("0", "root")), name
        assert not any("docker.sock" in str(volume) for volume in service.get("volumes", [])), name
        assert all(str(port).startswith("127.0.0.1:") for port in service.get("ports", [])), name
    assert compose["networks"]["inside"]["internal"] is True
    assert compose["services"]["postgres"]["networks"] == compose["services"]["redis"]["networks"] == ["inside"]


def test_no_service_starts_without_passwords_or_knows_one_it_does_not_need(compose: dict[str, Any]) -> None:
    text = (ROOT / "docker-compose.yml").read_text(encoding="utf-8")
    for name in SECRETS:
        assert re.search(rf"\$\{{{name}:\?", text)
        assert not re.search(rf"\$\{{{name}(:-[^}}]*)?\}}", text)
    assert SECRETS["REDIS_PASSWORD"] not in str(compose["services"]["postgres"])
    assert SECRETS["POSTGRES_PASSWORD"] not in str(compose["services"]["redis"])


@pytest.mark.parametrize("service", OURS)
def test_the_settings_of_a_service_are_accepted(
    compose: dict[str, Any], service: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.chdir(tmp_path)
    for key, value in compose["services"][service]["environment"].items():
        monkeypatch.setenv(key, str(value))
    settings = Settings()
    assert settings.resolved_database_url == "postgresql+psycopg://spice:postgres-secret@postgres:5432/spice"
    assert settings.broker_url.get_secret_value() == "redis://:redis-secret@redis:6379/0"
    assert str(settings.data_dir) == "/data"
    assert settings.allowed_proxies == ["builtin:tiny"]


def test_the_redis_command_line_starts_a_server_that_wants_the_password(
    compose: dict[str, Any], tmp_path: Path
) -> None:
    service = compose["services"]["redis"]
    shell, flag, script = service["command"]
    program = find_redis(unprivileged_account(), tmp_path)
    programs = tmp_path / "bin"
    programs.mkdir()
    (programs / "valkey-server").symlink_to(program.resolve())
    port = free_port()
    script = script.replace("/tmp/", f"{tmp_path}/") + f" --port {port} --dir {tmp_path}"
    script = script.replace("--bind 0.0.0.0", "--bind 127.0.0.1")
    with (tmp_path / "log").open("wb") as log:
        server = subprocess.Popen(
            [shell, flag, script],
            env={**service["environment"], "PATH": f"{programs}:{os.defpath}"},
            stdout=log,
            stderr=log,
        )
    try:
        assert exchange(port, "PING").startswith("-NOAUTH")
        assert exchange(port, "AUTH redis-secret", "CONFIG GET maxmemory-policy").split()[-1] == "noeviction"
        assert Path(f"/proc/{server.pid}/cmdline").read_bytes().count(b"redis-secret") == 0
    finally:
        server.terminate()
        server.wait(60)


def exchange(port: int, *lines: str) -> str:
    """Send commands, return the whole answer; waits for the server to listen."""
    deadline = time.monotonic() + 60
    while True:
        try:
            connection = socket.create_connection(("127.0.0.1", port), timeout=5)
            break
        except ConnectionRefusedError:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.02)
    with connection:
        connection.sendall("".join(f"{line}\r\n" for line in (*lines, "QUIT")).encode())
        return b"".join(iter(lambda: connection.recv(4096), b"")).decode().removesuffix("+OK\r\n")


def dockerfile_stage(name: str) -> str:
    """Text of one stage, comments taken out."""
    text = re.sub(r"^#.*\n", "", (ROOT / "Dockerfile").read_text(encoding="utf-8"), flags=re.MULTILINE)
    stages = re.split(r"^(?=FROM )", text, flags=re.MULTILINE)
    found = [stage for stage in stages if re.match(rf"FROM \S+ AS {re.escape(name)}\n", stage)]
    assert len(found) == 1
    return found[0]


def test_dockerfile_passes_the_linter() -> None:
    done = subprocess.run(
        [str(HADOLINT), "--no-color", "Dockerfile"], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr


def test_the_linter_notices_mistakes(tmp_path: Path) -> None:
    (tmp_path / "Dockerfile").write_text("FROM python:latest\nRUN cd /x && pip install torch\n", encoding="utf-8")
    done = subprocess.run(
        [str(HADOLINT), "--no-color", str(tmp_path / "Dockerfile")], capture_output=True, text=True, check=False
    )
    assert done.returncode != 0
    assert "DL3007" in done.stdout


@pytest.mark.parametrize("target", ["api", "worker"])
def test_an_image_is_small_in_rights_and_says_how_it_is(target: str) -> None:
    stage = dockerfile_stage(target)
    assert "USER 10001:10001" in stage
    assert "HEALTHCHECK" in stage
    assert f"COPY --from=build-{target} /opt/venv" in stage
    assert not re.search(r"PASSWORD|SECRET|TOKEN", stage)


def test_base_images_are_pinned(compose: dict[str, Any]) -> None:
    text = (ROOT / "Dockerfile").read_text(encoding="utf-8")
    images = [re.search(r"^ARG PYTHON_IMAGE=(\S+)$", text, re.MULTILINE)]
    assert images[0]
    named = [images[0][1], *(compose["services"][name]["image"] for name in ("postgres", "redis"))]
    assert not [
        image for image in named if not re.search(r":\d+\.\d+(\.\d+)?(-[\w.-]+)?(@sha256:[0-9a-f]{64})?$", image)
    ]
    assert set(re.findall(r"^FROM (\S+) AS", text, re.MULTILINE)) <= {"${PYTHON_IMAGE}", "base", "build"}


def test_the_api_image_installs_no_torch_and_the_worker_image_the_pinned_one() -> None:
    def extras(target: str) -> list[str]:
        found = re.findall(
            r"pip install --constraint constraints\.txt '\.\[([\w,]+)\]'", dockerfile_stage(f"build-{target}")
        )
        assert len(found) == 1
        return str(found[0]).split(",")

    assert "torch" not in dockerfile_stage("build-api")
    # Tokenizers are for the child that makes previews (decision 21); they do without torch.
    assert not closure(direct_requirements(*extras("api"))) & {"torch", "peft", "datasets"}
    assert {"torch", "celery", "sqlalchemy"} <= closure(direct_requirements(*extras("worker")))
    assert {"alembic", "uvicorn", "celery"} <= closure(direct_requirements(*extras("api")))
    pin = re.search(r"^torch==(\S+)$", (ROOT / "constraints.txt").read_text(encoding="utf-8"), re.MULTILINE)
    assert pin
    assert f"torch=={pin[1]}" in dockerfile_stage("build-worker")


def test_the_build_sees_what_it_copies_and_nothing_private() -> None:
    rules = [
        line for line in (ROOT / ".dockerignore").read_text(encoding="utf-8").splitlines() if line[:1] not in {"", "#"}
    ]
    assert rules[0] == "*"
    allowed = {rule[1:] for rule in rules if rule.startswith("!")}
    copied = re.findall(r"^COPY (?!--from)(.+) \S+$", (ROOT / "Dockerfile").read_text(encoding="utf-8"), re.MULTILINE)
    assert {name for line in copied for name in line.split()} == allowed
    assert all((ROOT / name).exists() for name in allowed)
    assert not [name for name in allowed if name.startswith((".", "tests", "docs"))]
