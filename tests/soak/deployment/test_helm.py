"""The Helm chart, linted and rendered by the real helm."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import kubernetes_validate
import pytest
import yaml
from kubernetes_validate.utils import all_versions

from tests.contracts.packages import ROOT
from tests.fixtures import kubernetes_tools

pytestmark = pytest.mark.soak
CHART = ROOT / "deploy" / "helm" / "spice-select"
CUSTOM = {"ScaledObject", "ServiceMonitor"}
"""Kinds of other operators, whose schemas are not Kubernetes' own."""


@pytest.fixture(scope="module")
def programs(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    return kubernetes_tools.unpack(tmp_path_factory.mktemp("helm"))


def render(helm: Path, *settings: str) -> dict[tuple[str, str], dict[str, Any]]:
    options = [part for setting in settings for part in ("--set", setting)]
    text = kubernetes_tools.run(helm, "template", "spice-select", CHART, "--namespace", "spice-select", *options)
    objects = [found for found in yaml.safe_load_all(text) if found]
    return {(found["kind"], found["metadata"]["name"]): found for found in objects}


def test_the_chart_passes_the_linter(programs: tuple[Path, Path]) -> None:
    assert "0 chart(s) failed" in kubernetes_tools.run(programs[1], "lint", "--strict", CHART)


@pytest.mark.parametrize("gpu", ["false", "true"])
def test_the_defaults_are_the_kustomizations(programs: tuple[Path, Path], gpu: str) -> None:
    kubectl, helm = programs
    rendered = render(helm, f"workerGpu.enabled={gpu}")
    folder = ROOT / "deploy" / "kubernetes" / ("gpu" if gpu == "true" else "base")
    built = {
        (found["kind"], found["metadata"]["name"]): found
        for found in yaml.safe_load_all(kubernetes_tools.run(kubectl, "kustomize", folder))
        if found["kind"] != "Namespace"
    }
    rendered["Job", "migrate"]["metadata"].pop("annotations")
    assert rendered == built


def test_every_option_renders_what_the_schemas_allow(programs: tuple[Path, Path]) -> None:
    autoscaled = [
        f"{worker}.autoscaling.{option}"
        for worker in ("worker", "workerGpu")
        for option in ("enabled=true", "prometheus=http://prometheus:9090")
    ]
    objects = render(
        programs[1],
        "workerGpu.enabled=true",
        *autoscaled,
        "serviceMonitor.enabled=true",
        "serviceMonitor.keySecret.name=scrape",
        "serviceMonitor.keySecret.key=token",
        "storage.storageClass=shared",
        "broker.enabled=false",
        "network.outside=false",
    )
    for (kind, _), found in objects.items():
        if kind not in CUSTOM:
            kubernetes_validate.validate(found, all_versions()[-1], strict=True)
    assert {name for kind, name in objects if kind == "ScaledObject"} == {"worker", "worker-gpu"}
    assert "replicas" not in objects["Deployment", "worker"]["spec"]
    assert objects["PersistentVolumeClaim", "data"]["spec"]["storageClassName"] == "shared"
    assert ("Deployment", "broker") not in objects
    assert ("NetworkPolicy", "outside") not in objects
    assert ("ServiceMonitor", "api") in objects
