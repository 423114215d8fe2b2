"""What `make check` asks about security beside the linters: secrets among the tracked files, advisories on the pins.

Advisories need the network. Where they cannot be had the run says so and goes on; a finding fails it. Files that were
clean before are not read again, so that a second run takes a second.
"""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
from pathlib import Path

from detect_secrets.core.plugins.util import get_mapping_from_secret_type_to_class
from detect_secrets.core.scan import scan_file
from detect_secrets.settings import transient_settings

ROOT = Path(__file__).resolve().parents[1]
CLEAN = ROOT / ".venv" / ".secrets-clean"
BINARY = {".png", ".npz", ".parquet", ".ico", ".woff2"}
ENTROPY = {"HexHighEntropyString", "Base64HighEntropyString"}
"""Left out: half of this product is digests."""
EXAMPLES = {
    ("app/api/examples.json", "Secret Keyword"): "the made-up key that the contract shows",
    ("docs/openapi.json", "Secret Keyword"): "the same",
}
MADE_UP = {"Secret Keyword", "Basic Auth Credentials"}
"""Kinds that tests are full of: passwords of servers that live for a second."""
KNOWN_BAD = "jinja2==2.4.1"
"""A version with advisories: when even this one has none, there was nobody to ask."""
SECONDS = 60


def secrets_in(root: Path, names: list[str]) -> list[str]:
    """Lines that look like credentials.

    Args:
        root: The checkout.
        names: Files below it.

    Returns:
        ``file:line: kind`` of each, but for ``EXAMPLES`` and what tests make up.
    """
    plugins = [{"name": plugin.__name__} for plugin in get_mapping_from_secret_type_to_class().values()]
    found = []
    with transient_settings({"plugins_used": [plugin for plugin in plugins if plugin["name"] not in ENTROPY]}):
        for name in names:
            for secret in scan_file(str(root / name)):
                made_up = name.startswith("tests/") and secret.type in MADE_UP
                if not made_up and (name, secret.type) not in EXAMPLES:
                    found.append(f"{name}:{secret.line_number}: {secret.type}")
    return found


def check_secrets() -> bool:
    """Scan what git tracks and no earlier run has found clean; whether nothing was found."""
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, check=False)
    if listed.returncode != 0:
        print("secrets: not a git checkout, so nothing says which files to scan")
        return True
    names = [name for name in listed.stdout.decode().split("\0") if name and Path(name).suffix not in BINARY]
    rules = hashlib.sha256(Path(__file__).read_bytes()).hexdigest()
    digests = {
        name: hashlib.sha256((rules + name).encode() + (ROOT / name).read_bytes()).hexdigest()
        for name in names
        if (ROOT / name).is_file()
    }
    clean = set(CLEAN.read_text(encoding="ascii").split()) if CLEAN.exists() else set()
    new = [name for name, digest in digests.items() if digest not in clean]
    found = secrets_in(ROOT, new)
    for line in found:
        print(f"secrets: {line}")
    print(f"secrets: {len(digests)} files, {len(new)} of them new to this scan, {len(found)} findings")
    dirty = {line.split(":")[0] for line in found}
    CLEAN.write_text("\n".join(digest for name, digest in digests.items() if name not in dirty), encoding="ascii")
    return not found


def advisories(requirements: Path, seconds: float) -> dict[str, list[str]] | None:
    """Known weaknesses of pinned packages.

    Args:
        requirements: File of exact pins.
        seconds: Longest wait.

    Returns:
        Identifiers for each package that has some; None when not one package could be looked up.
    """
    command = [
        sys.executable, "-m", "pip_audit", "--requirement", str(requirements), "--no-deps", "--disable-pip",
        "--format", "json", "--progress-spinner", "off", "--timeout", "5",
    ]  # fmt: skip
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=seconds, check=False)
        packages = json.loads(done.stdout)["dependencies"]
    except (subprocess.TimeoutExpired, ValueError, KeyError):
        return None
    looked_up = [package for package in packages if "vulns" in package]
    if not looked_up:
        return None
    return {package["name"]: [v["id"] for v in package["vulns"]] for package in looked_up if package["vulns"]}


def check_advisories() -> bool:
    """Look the pins up, if anybody answers; whether none has a known weakness."""
    probe = ROOT / ".venv" / ".advisory-probe.txt"
    probe.write_text(KNOWN_BAD + "\n", encoding="ascii")
    if not advisories(probe, SECONDS):
        print("advisories: NOT CHECKED, nobody here answers what is known about packages")
        return True
    found = advisories(ROOT / "constraints.txt", 10 * SECONDS)
    if found is None:
        print("advisories: NOT CHECKED, the answer did not come in time")
        return True
    for name, identifiers in found.items():
        print(f"advisories: {name}: {', '.join(identifiers)}")
    print(f"advisories: {len(found)} pinned packages with known weaknesses")
    return not found


def main() -> int:
    """Run both; 1 on a finding."""
    os.chdir(ROOT)
    results = [check_secrets(), check_advisories()]
    return 0 if all(results) else 1


if __name__ == "__main__":
    sys.exit(main())
