"""What the extras of pyproject.toml bring along, read from the installed packages."""

from __future__ import annotations

import importlib.metadata
import tomllib
from collections.abc import Iterable
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).resolve().parents[2]
PYPROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))


def direct_requirements(*extras: str) -> list[Requirement]:
    """Requirements of the base install and of these extras."""
    project = PYPROJECT["project"]
    lines = list(project["dependencies"])
    for extra in extras:
        lines += project["optional-dependencies"][extra]
    return [requirement for requirement in map(Requirement, lines) if requirement.name != "spice-select"]


def closure(requirements: Iterable[Requirement], leaves: frozenset[str] = frozenset()) -> set[str]:
    """Canonical names of these packages and of everything they need here; what ``leaves`` need is left out."""
    found: set[str] = set()
    waiting = [(requirement, "") for requirement in requirements]
    while waiting:
        requirement, extra = waiting.pop()
        if requirement.marker is not None and not requirement.marker.evaluate({"extra": extra}):
            continue
        name = canonicalize_name(requirement.name)
        wanted = {name} | {f"{name}[{part}]" for part in requirement.extras}
        if wanted <= found:
            continue
        found |= wanted
        if name in leaves:
            continue
        needs = [Requirement(line) for line in importlib.metadata.requires(name) or []]
        for part in ("", *requirement.extras):
            waiting += [(need, part) for need in needs]
    return {name for name in found if "[" not in name}


def import_names(distributions: set[str]) -> set[str]:
    """Top-level names that these packages install."""
    return {
        top
        for top, owners in importlib.metadata.packages_distributions().items()
        if any(canonicalize_name(owner) in distributions for owner in owners)
    }
