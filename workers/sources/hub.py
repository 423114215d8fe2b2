"""A split of a hub data set, fetched at one commit by a child process that has nothing of ours."""

from __future__ import annotations

import json
import os
import selectors
import subprocess  # ruff: ignore[suspicious-subprocess-import] - our own interpreter, no shell
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

from app.errors import PROBLEMS, ServiceError
from app.services.health import ROOT
from app.settings import Settings
from spice_select.ingest.source_urls import HubSource
from workers.sources.fetched import Fetched, FetchedFile, Meter

_LOOK_SECONDS = 0.25
_SLACK_BYTES = 2**20


def fetch_hub(
    source: HubSource,
    folder: Path,
    settings: Settings,
    meter: Meter,
    *,
    pinned: str | None,
    pin: Callable[[dict[str, Any]], None],
) -> Fetched:
    """Fetch the files of a split.

    Args:
        source: Which.
        folder: Where to.
        settings: For the hub's address and the token.
        meter: The caps; bytes on the disk are counted from outside, whatever the libraries do.
        pinned: Commit that an earlier attempt found.
        pin: Told the commit before anything is fetched.

    Raises:
        ServiceError: ``source-not-found``, ``hub-unreachable``, ``download-limit`` or a ``dataset-*`` code.
    """
    task = {
        "repo": source.repo,
        "revision": pinned or source.revision,
        "config": source.config,
        "split": source.split,
        "folder": str(folder),
        "max_bytes": meter.max_bytes,
    }
    files: list[FetchedFile] = []
    commit = ""
    with tempfile.TemporaryDirectory(prefix="spice-hub-") as home:
        child = subprocess.Popen(
            [sys.executable, "-s", "-m", "workers.sources.hub_child"],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL,
            cwd=home, env=_environment(settings, home), start_new_session=True,
        )  # fmt: skip
        try:
            assert child.stdin is not None
            child.stdin.write(json.dumps(task).encode())
            child.stdin.close()
            done = False
            for word in _words(child, folder, meter):
                if "commit" in word:
                    commit = str(word["commit"])
                    if pinned is None:
                        pin({"revision": commit})
                elif "total" in word:
                    meter.expect(int(word["total"]))
                elif "file" in word:
                    files.append(FetchedFile(**word["file"]))
                elif "code" in word:
                    raise ServiceError(word["code"] if word["code"] in PROBLEMS else "internal", str(word["detail"]))
                done = done or bool(word.get("done"))
            if not done:
                raise ServiceError("internal", "the process that asks the hub ended without a word")
        finally:
            if child.poll() is None:
                child.kill()
            child.wait()
            if child.stdout is not None:
                child.stdout.close()
    return Fetched(f"https://huggingface.co/datasets/{source.repo}/tree/{commit}", files, commit)


def _environment(settings: Settings, home: str) -> dict[str, str]:
    kept = ("PATH", "LD_LIBRARY_PATH", "SSL_CERT_FILE", "SSL_CERT_DIR", "HTTPS_PROXY", "NO_PROXY", "HF_ENDPOINT")
    environment = {name: os.environ[name] for name in kept if name in os.environ}
    environment |= {
        "PYTHONPATH": str(ROOT),
        "HOME": home,
        "TMPDIR": home,
        "HF_HOME": f"{home}/hf",
        "HF_HUB_DISABLE_TELEMETRY": "1",
        "HF_HUB_DISABLE_PROGRESS_BARS": "1",
        "HF_HUB_DISABLE_IMPLICIT_TOKEN": "0",
        "DO_NOT_TRACK": "1",
        "OMP_NUM_THREADS": "1",
    }
    if settings.hub_endpoint:
        environment["HF_ENDPOINT"] = settings.hub_endpoint.rstrip("/")
    token = settings.hub_token.get_secret_value()
    if token:
        environment["HF_TOKEN"] = token
    return environment


def _words(child: subprocess.Popen[bytes], folder: Path, meter: Meter) -> Any:
    """What the child says, while the caps are watched."""
    assert child.stdout is not None
    held = b""
    with selectors.DefaultSelector() as selector:
        selector.register(child.stdout, selectors.EVENT_READ)
        while True:
            # What lies on the disk counts, not what a library says it has fetched.
            lying = _size(folder)
            meter.reached(min(lying, meter.max_bytes) if lying <= meter.max_bytes + _SLACK_BYTES else lying)
            if not selector.select(_LOOK_SECONDS):
                continue
            piece = os.read(child.stdout.fileno(), 2**16)
            if not piece:
                return
            *lines, held = (held + piece).split(b"\n")
            for line in lines:
                yield json.loads(line)


def _size(folder: Path) -> int:
    total = 0
    for place, _, names in os.walk(folder):
        for name in names:
            try:
                total += os.lstat(f"{place}/{name}").st_size
            except FileNotFoundError:
                continue  # renamed while we look
    return total
