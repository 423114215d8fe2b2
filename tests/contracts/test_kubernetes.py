"""The Kubernetes manifests, as far as they can be checked without a cluster: by schemas, and by what they name."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import kubernetes_validate
import pytest
import yaml
from kubernetes_validate.utils import all_versions

from app.settings import Settings
from tests.contracts.packages import ROOT
from workers.executors import NAME

FOLDER = ROOT / "deploy" / "kubernetes"
FILES = sorted(path for path in FOLDER.rglob("*.yaml") if path.name != "kustomization.yaml")
VERSIONS = [all_versions()[0], all_versions()[-1]]


def documents(path: Path) -> list[dict[str, Any]]:
    return [found for found in yaml.safe_load_all(path.read_text(encoding="utf-8")) if found is not None]


OBJECTS = [found for path in FILES for found in documents(path)]
POD_OWNERS = [found for found in OBJECTS if found["kind"] in {"Deployment", "Job"}] + [
    {**found["spec"]["jobTemplate"], "kind": "Job", "metadata": found["metadata"]}
    for found in OBJECTS
    if found["kind"] == "CronJob"
]


def named(kind: str) -> dict[str, dict[str, Any]]:
    return {found["metadata"]["name"]: found for found in OBJECTS if found["kind"] == kind}


def pod(owner: dict[str, Any]) -> dict[str, Any]:
    found: dict[str, Any] = owner["spec"]["template"]["spec"]
    return found


def labels(owner: dict[str, Any]) -> dict[str, str]:
    found: dict[str, str] = owner["spec"]["template"]["metadata"]["labels"]
    return found


def selects(selector: dict[str, Any], wanted: dict[str, str]) -> bool:
    for entry in selector.get("matchExpressions", []):
        inside = wanted.get(entry["key"]) in entry["values"]
        if inside != (entry["operator"] == "In"):
            return False
    return selector.get("matchLabels", {}).items() <= wanted.items()


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("path", FILES, ids=lambda path: path.name)
def test_every_object_follows_the_schema_of_the_api(path: Path, version: str) -> None:
    for found in documents(path):
        kubernetes_validate.validate(found, version, strict=True)
        assert found["metadata"].get("namespace", found["metadata"]["name"]) == "spice-select"


def test_the_schema_notices_mistakes() -> None:
    worker = named("Deployment")["worker"]
    for change in ({"replica": 1}, {"replicas": "one"}):
        with pytest.raises(kubernetes_validate.ValidationError):
            kubernetes_validate.validate({**worker, "spec": {**worker["spec"], **change}}, VERSIONS[-1], strict=True)


def kustomization(name: str) -> dict[str, Any]:
    found: dict[str, Any] = yaml.safe_load((FOLDER / name / "kustomization.yaml").read_text(encoding="utf-8"))
    return found


def test_the_kustomizations_name_every_file_and_every_image_of_ours() -> None:
    base, gpu = kustomization("base"), kustomization("gpu")
    inside = {name: {path.name for path in FILES if path.parent == FOLDER / name} for name in (".", "base", "gpu")}
    assert set(base["resources"]) | {"secret.example.yaml"} == inside["base"]
    assert set(gpu["resources"]) - {"../base"} == inside["gpu"]
    assert (kustomization(".")["resources"], inside["."]) == (["base"], set())
    ours = {container["image"] for owner in POD_OWNERS for container in pod(owner)["containers"]}
    assert {image["name"] for image in base["images"] + gpu["images"]} == {name for name in ours if "/" not in name}


@pytest.mark.parametrize("name", [".", "base", "gpu"])
def test_no_kustomization_contains_one_that_it_builds_on(name: str) -> None:
    """kubectl calls that a cycle; tests/soak/deployment builds them all with the real one."""
    folder = (FOLDER / name).resolve()
    built_on = [(folder / entry).resolve() for entry in kustomization(name)["resources"]]
    assert not [other for other in built_on if other.is_dir() and folder.is_relative_to(other)]


def test_pods_run_what_compose_runs() -> None:
    compose = yaml.safe_load((ROOT / "docker-compose.yml").read_text(encoding="utf-8"))["services"]
    for name in ("migrate", "api", "dispatcher", "worker", "worker-gpu"):
        (container,) = pod({**named("Deployment"), **named("Job")}[name])["containers"]
        command = compose[name].get("command") or compose["worker"]["command"]
        assert container["command"] == command, name
    broker, valkey = pod(named("Deployment")["broker"])["containers"][0], compose["redis"]
    assert broker["image"] == valkey["image"]
    assert broker["command"] == [word.replace("$$", "$") for word in valkey["command"]]


@pytest.mark.parametrize("owner", POD_OWNERS, ids=lambda owner: owner["metadata"]["name"])
def test_a_pod_has_few_rights_and_bounds(owner: dict[str, Any]) -> None:
    spec = pod(owner)
    assert spec["securityContext"]["runAsNonRoot"] is True
    assert spec["securityContext"]["runAsUser"] > 0
    assert spec["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
    assert spec["automountServiceAccountToken"] is False
    volumes = {volume["name"] for volume in spec["volumes"]}
    for container in spec["containers"]:
        rights = container["securityContext"]
        assert (rights["allowPrivilegeEscalation"], rights["readOnlyRootFilesystem"]) == (False, True)
        assert rights["capabilities"] == {"drop": ["ALL"]}
        assert {"memory"} <= set(container["resources"]["limits"])
        assert {"cpu", "memory"} <= set(container["resources"]["requests"])
        assert {mount["name"] for mount in container["volumeMounts"]} == volumes
        assert "/tmp" in {mount["mountPath"] for mount in container["volumeMounts"]}
    if owner["kind"] == "Deployment":
        assert selects(owner["spec"]["selector"], labels(owner))


def test_whatever_is_named_is_there() -> None:
    claims, maps, secrets = named("PersistentVolumeClaim"), named("ConfigMap"), named("Secret")
    ports: dict[str, set[str]] = {}
    for owner in POD_OWNERS:
        for volume in pod(owner)["volumes"]:
            if "persistentVolumeClaim" in volume:
                assert volume["persistentVolumeClaim"]["claimName"] in claims
        for container in pod(owner)["containers"]:
            ports[labels(owner)["part"]] = {port["name"] for port in container.get("ports", [])}
            for source in container.get("envFrom", []):
                assert source.get("configMapRef", {}).get("name", "spice-select") in maps
                assert source.get("secretRef", {}).get("name", "spice-select") in secrets
            for entry in container.get("env", []):
                reference = entry.get("valueFrom", {}).get("secretKeyRef")
                assert reference is None or reference["key"] in secrets[reference["name"]]["stringData"]
            for probe in ("startupProbe", "livenessProbe", "readinessProbe"):
                port = container.get(probe, {}).get("httpGet", {}).get("port")
                assert port is None or port in ports[labels(owner)["part"]]
    for service in named("Service").values():
        assert {port["targetPort"] for port in service["spec"]["ports"]} <= ports[service["spec"]["selector"]["part"]]
    for kind in ("PodDisruptionBudget", "NetworkPolicy"):
        for name, found in named(kind).items():
            selector = found["spec"].get("selector", found["spec"].get("podSelector"))
            assert any(selects(selector, labels(owner)) for owner in POD_OWNERS), name


def test_probes_ask_for_what_the_api_answers() -> None:
    contract = json.loads((ROOT / "docs" / "openapi.json").read_text(encoding="utf-8"))["paths"]
    (container,) = pod(named("Deployment")["api"])["containers"]
    asked = {name: container[name]["httpGet"]["path"] for name in container if name.endswith("Probe")}
    # Restarting a pod mends no database: only traffic may depend on that.
    assert asked == {"startupProbe": "/livez", "livenessProbe": "/livez", "readinessProbe": "/readyz"}
    assert set(asked.values()) <= set(contract)


def test_every_variable_is_a_setting(monkeypatch: pytest.MonkeyPatch) -> None:
    known = {f"SPICE_{name.upper()}" for name in Settings.model_fields} | {"REDIS_PASSWORD", "REDISCLI_AUTH"}
    given = {*named("ConfigMap")["spice-select"]["data"], *named("Secret")["spice-select"]["stringData"]}
    for owner in POD_OWNERS:
        given |= {entry["name"] for container in pod(owner)["containers"] for entry in container.get("env", [])}
    assert given <= known
    for name, value in named("ConfigMap")["spice-select"]["data"].items():
        monkeypatch.setenv(name, value)
    settings = Settings(_env_file=None)
    assert (str(settings.data_dir), settings.allowed_proxies) == ("/data", ["builtin:tiny"])


def test_nothing_comes_in_or_goes_out_unless_it_is_named() -> None:
    policies = named("NetworkPolicy")
    assert policies["default-deny"]["spec"] == {"podSelector": {}, "policyTypes": ["Ingress", "Egress"]}

    def reached_by(part: str) -> set[str]:
        """Ports that a policy lets somebody reach this part at."""
        wanted = {"app": "spice-select", "part": part}
        return {
            str(port["port"])
            for policy in policies.values()
            if selects(policy["spec"]["podSelector"], wanted)
            for rule in policy["spec"].get("ingress", [])
            for port in rule["ports"]
        }

    assert {part: reached_by(part) for part in ("api", "broker", "dispatcher", "worker", "worker-gpu", "migrate")} == {
        "api": {"8000"},
        "broker": {"6379"},
        "dispatcher": set(),
        "worker": set(),
        "worker-gpu": set(),
        "migrate": set(),
    }
    outside = policies["outside"]["spec"]["egress"][0]["to"][0]["ipBlock"]
    assert {"10.0.0.0/8", "169.254.0.0/16"} <= set(outside["except"]), "cloud metadata and private networks stay shut"


def test_the_executor_finds_its_template_and_may_do_what_it_does() -> None:
    template, role = named("CronJob")[NAME], named("Role")["dispatcher"]
    assert template["spec"]["suspend"] is True
    job = template["spec"]["jobTemplate"]
    assert job["metadata"]["labels"]["part"] == NAME, "by which the dispatcher counts"
    assert pod(job)["restartPolicy"] == "Never"
    rights = {(word, verb) for rule in role["rules"] for word in rule["resources"] for verb in rule["verbs"]}
    assert rights == {("jobs", "create"), ("jobs", "list"), ("cronjobs", "get")}
