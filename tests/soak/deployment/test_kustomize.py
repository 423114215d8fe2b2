"""The Kubernetes manifests, built by the real kubectl."""

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
FOLDER = ROOT / "deploy" / "kubernetes"


@pytest.fixture(scope="module")
def kubectl(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return kubernetes_tools.unpack(tmp_path_factory.mktemp("kubectl"))[0]


def build(kubectl: Path, folder: Path) -> list[dict[str, Any]]:
    return list(yaml.safe_load_all(kubernetes_tools.run(kubectl, "kustomize", folder)))


@pytest.mark.parametrize("name", ["base", ".", "gpu"])
def test_a_kustomization_builds_and_every_object_follows_its_schema(kubectl: Path, name: str) -> None:
    objects = build(kubectl, FOLDER / name)
    for found in objects:
        kubernetes_validate.validate(found, all_versions()[-1], strict=True)
    deployments = {found["metadata"]["name"] for found in objects if found["kind"] == "Deployment"}
    assert deployments == {"api", "broker", "dispatcher", "worker"} | ({"worker-gpu"} if name == "gpu" else set())
    images = {
        container["image"]
        for found in objects
        if found["kind"] in {"Deployment", "Job"}
        for container in found["spec"]["template"]["spec"]["containers"]
    }
    assert all(image.startswith("registry.example.org/") or "valkey" in image for image in images), images
