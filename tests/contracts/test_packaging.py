"""Pins: what is installed is what was tested."""

from __future__ import annotations

import re

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from tests.contracts.packages import PYPROJECT, ROOT, closure, direct_requirements, import_names

EXTRAS = [extra for extra in PYPROJECT["project"]["optional-dependencies"] if extra != "all"]


def pins() -> dict[str, Requirement]:
    lines = (ROOT / "constraints.txt").read_text(encoding="utf-8").splitlines()
    found = [Requirement(line) for line in lines if line.strip() and not line.startswith("#")]
    return {canonicalize_name(requirement.name): requirement for requirement in found}


def test_every_pin_is_exact() -> None:
    loose = [str(pin) for pin in pins().values() if not re.fullmatch(r"==[^*,]+", str(pin.specifier))]
    assert not loose
    assert str(pins()["torch"].specifier) == "==2.13.0"


@pytest.mark.parametrize("requirement", direct_requirements(*EXTRAS), ids=str)
def test_a_direct_dependency_is_pinned_within_its_range(requirement: Requirement) -> None:
    pin = pins().get(canonicalize_name(requirement.name))
    assert pin is not None, f"{requirement.name} is not in constraints.txt"
    version = str(pin.specifier).removeprefix("==")
    assert requirement.specifier.contains(version, prereleases=True)


def test_what_the_dependencies_bring_along_is_pinned() -> None:
    # torch names its CUDA libraries exactly itself, and only where there are any; pip and setuptools come with Python.
    needed = closure(direct_requirements(*EXTRAS), leaves=frozenset({"torch"}))
    assert not needed - set(pins()) - {"pip", "setuptools"}


def test_every_direct_dependency_has_a_reason_on_record() -> None:
    page = (ROOT / "docs" / "decisions" / "0008-dependencies.md").read_text(encoding="utf-8")
    rows = dict(re.findall(r"^\| `([\w-]+)` \| ([\w, ]+) \| .+ \|$", page, re.MULTILINE))
    extras: dict[str, list[str]] = {}
    for extra in ("base", *EXTRAS):
        lines = PYPROJECT["project"]["dependencies" if extra == "base" else "optional-dependencies"]
        for line in lines if extra == "base" else lines[extra]:
            extras.setdefault(canonicalize_name(Requirement(line).name), []).append(extra)
    assert {canonicalize_name(name): places for name, places in rows.items()} == {
        name: ", ".join(places) for name, places in extras.items()
    }


def test_the_light_installs_hold_no_torch() -> None:
    heavy = {"torch", "transformers", "peft", "numpy", "safetensors", "tokenizers"}
    assert not closure(direct_requirements()) & (heavy | {"fastapi", "sqlalchemy", "celery", "pyarrow"})
    assert not closure(direct_requirements("server", "postgres", "worker")) & heavy
    # It clashes with the pins of several trainers, and only sources on the hub need it.
    assert "datasets" not in closure(direct_requirements("compute"))
    assert heavy - {"peft"} <= closure(direct_requirements("compute"))


def test_import_names_are_found_for_packages_that_are_called_otherwise() -> None:
    assert {"yaml", "dotenv"} <= import_names({"pyyaml", "python-dotenv"})
