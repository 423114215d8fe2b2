"""The commands of the documents are pasted into a shell as they stand, and print what the documents show."""

from __future__ import annotations

import doctest
import os
import re
import shlex
import shutil
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.contracts.packages import ROOT
from tests.fixtures.hooked import Hooked
from tests.fixtures.receiver import Receiver
from tests.fixtures.service import InProcessService

ADDRESS = "http://127.0.0.1:8000"
"""Where the documents say that the service is."""
BLOCK = re.compile(r"^```sh\n(.*?)^```\n(?:\n```text\n(.*?)^```\n)?", re.MULTILINE | re.DOTALL)
MARK = "==== end of block ===="
pytestmark = pytest.mark.skipif(shutil.which("curl") is None, reason="curl is not installed")


def blocks(document: str) -> list[tuple[str, str]]:
    """The blocks of a document that call curl or use what it answered, and what it says they print."""
    found = [(block[1], block[2] or "") for block in BLOCK.finditer((ROOT / document).read_text(encoding="utf-8"))]
    return [(commands, shown) for commands, shown in found if "curl " in commands or "$JOB" in commands]


def with_examples(folder: Path) -> None:
    """What the commands expect to find in the root of a clone."""
    (folder / "examples").mkdir()
    for file in (ROOT / "examples").glob("*.jsonl"):
        shutil.copy(file, folder / "examples")


@pytest.fixture(scope="module")
def shell(_migrated_sqlite: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Hooked]:
    """A service with a worker at work, and somebody who is told by webhooks."""
    folder = tmp_path_factory.mktemp("documented")
    (folder / "spice.db").write_bytes(_migrated_sqlite.read_bytes())
    over = threading.Event()
    with Receiver() as receiver:
        settings = {"outbound_allowed_networks": ["127.0.0.1"], "outbound_ports": [receiver.port], "poll_seconds": 0.05}
        with InProcessService(f"sqlite:///{folder / 'spice.db'}", folder / "data", **settings) as service:

            def work() -> None:
                while not over.wait(0.05):
                    service.drain()

            worker = threading.Thread(target=work)
            worker.start()
            hooked = Hooked(service, receiver)
            with hooked.sender():
                yield hooked
            over.set()
            worker.join(60)


@pytest.mark.parametrize(
    "documents", [("README.md", "docs/api.md"), ("docs/curl.md",), ("docs/recipes.md",)], ids="+".join
)
def test_they_print_what_is_shown(shell: Hooked, documents: tuple[str, ...], tmp_path: Path) -> None:
    with_examples(tmp_path)
    # A shell that finds the programs of a virtual environment where a checkout has them.
    (tmp_path / ".venv").symlink_to(ROOT / ".venv")
    found = [block for document in documents for block in blocks(document)]
    assert len(found) >= (1 if "docs/recipes.md" in documents else 4)
    address = f"http://127.0.0.1:{shell.service.port}"
    script = "".join(f"{commands}\nprintf '\\n{MARK}\\n'\n" for commands, _ in found)
    script = script.replace("make serve &\n", "").replace(ADDRESS, address)
    environment = {"PATH": os.environ["PATH"], "HOME": str(tmp_path), "LC_ALL": "C.UTF-8", "SPICE_API_URL": address}
    done = subprocess.run(
        ["bash", "-euo", "pipefail", "-c", script],
        cwd=tmp_path,
        env={**environment, "HOOK": shell.url},
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    printed = done.stdout.split(f"\n{MARK}\n")
    told = f"{done.stderr}\nafter:\n{found[min(len(printed), len(found)) - 1][0]}\n{printed[-1]}"
    assert done.returncode == 0, told
    checker, flags = doctest.OutputChecker(), doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE
    for (commands, shown), output in zip(found, printed, strict=False):
        assert not shown or checker.check_output(shown, output, flags), f"{commands}\nshown:\n{shown}\ngot:\n{output}"
        assert '"request_id":' not in output or "700" in commands, f"an error: {commands}\n{output}"


def test_the_library_does_what_readme_shows(tmp_path: Path) -> None:
    """The code of README and its command for a file, in a folder like a clone's root."""
    with_examples(tmp_path)
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    script = "".join(re.findall(r"^```python\n(.*?)^```$", text, re.MULTILINE | re.DOTALL))
    command = next(line for line in text.splitlines() if line.startswith("spice-select run "))
    environment = {**os.environ, "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"}
    for words in ((sys.executable, "-c", script), shlex.split(command.replace("-o selected", "-o again"))):
        done = subprocess.run(
            words, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=300, check=False
        )
        assert done.returncode == 0, done.stderr
    for folder in ("selected", "again"):
        assert len((tmp_path / folder / "selected.jsonl").read_text(encoding="utf-8").splitlines()) == 60


@pytest.mark.soak
def test_recipes_run_as_pasted(tmp_path: Path) -> None:
    with_examples(tmp_path)
    text = (ROOT / "docs" / "recipes.md").read_text(encoding="utf-8")
    local = [commands for commands, _ in BLOCK.findall(text) if "$" not in commands]
    assert len(local) >= 5
    environment = {**os.environ, "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"}
    done = subprocess.run(
        ["bash", "-euo", "pipefail", "-c", "\n".join(local)],
        cwd=tmp_path,
        env=environment,
        capture_output=True,
        text=True,
        timeout=600,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    rows = {name: len((tmp_path / name / "selected.jsonl").read_text(encoding="utf-8").splitlines()) for name in
            ("for-benchmark", "cleaned", "four-thousand", "pairs")}  # fmt: skip
    assert (rows["for-benchmark"], rows["cleaned"], rows["pairs"]) == (60, 179, 9)
    assert rows["four-thousand"] > 30
