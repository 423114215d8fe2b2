"""Write spice_select/client/_sync from spice_select/client/_async; with --check, only say whether it is up to date."""

from __future__ import annotations

import re
import subprocess
import sys
import tempfile
from pathlib import Path

import unasync

ROOT = Path(__file__).resolve().parent.parent
SOURCE, TARGET = (ROOT / "spice_select" / "client" / name for name in ("_async", "_sync"))
HEADER = "\n# Generated from ../_async/{name} by `make client`: change that file instead.\n"
NAMES = {
    "_async": "_sync",
    "asyncio": "time",
    "aclose": "close",
    "aiter_bytes": "iter_bytes",
    "aread": "read",
    "AsyncBaseTransport": "BaseTransport",
}
"""Beside what unasync knows. A class AsyncX becomes X."""


def generate(folder: Path) -> None:
    """Write the synchronous client.

    Args:
        folder: Where to.
    """
    sources = sorted(SOURCE.glob("*.py"))
    classes = {name for path in sources for name in re.findall(r"class (Async\w+)", path.read_text(encoding="utf-8"))}
    names = {**NAMES, **{name: name.removeprefix("Async") for name in classes}}
    rule = unasync.Rule(f"{SOURCE}/", f"{folder}/", additional_replacements=names)
    unasync.unasync_files([str(path) for path in sources], [rule])
    for path in sources:
        written = folder / path.name
        text = written.read_text(encoding="utf-8").replace("``AsyncClient``", "``Client``")
        if path.name == "__init__.py":
            text = '"""The client that blocks, generated from ``_async`` by ``make client``."""\n'
        title, rest = text.split("\n", 1)
        written.write_text(f"{title}\n{HEADER.format(name=path.name)}{rest}", encoding="utf-8")
    settings = ["--config", str(ROOT / "pyproject.toml"), "--quiet", "--no-cache"]
    subprocess.run([sys.executable, "-m", "ruff", "check", "--select", "I", "--fix", *settings, folder], check=True)
    subprocess.run([sys.executable, "-m", "ruff", "format", *settings, folder], check=True)


def main() -> int:
    """Generate or check.

    Returns:
        Exit status: 1 if the committed files are not what would be generated.
    """
    if "--check" not in sys.argv[1:]:
        TARGET.mkdir(exist_ok=True)
        for path in TARGET.glob("*.py"):
            path.unlink()
        generate(TARGET)
        return 0
    with tempfile.TemporaryDirectory() as folder:
        generate(Path(folder))
        wanted = {path.name: path.read_bytes() for path in Path(folder).glob("*.py")}
    committed = {path.name: path.read_bytes() for path in TARGET.glob("*.py")}
    stale = sorted(name for name in wanted.keys() | committed.keys() if wanted.get(name) != committed.get(name))
    for name in stale:
        print(f"spice_select/client/_sync/{name} is not what `make client` writes")
    return 1 if stale else 0


if __name__ == "__main__":
    sys.exit(main())
