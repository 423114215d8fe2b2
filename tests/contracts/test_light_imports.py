"""What may be imported where no torch is: proved in a fresh process that has nothing but the packages it is allowed.

The import contracts read source text and do not see a package's ``__init__`` run, nor imports made by name; this does.
"""

from __future__ import annotations

import importlib.util
import json
import shutil
import subprocess
import sys
from pathlib import Path

import pyarrow.parquet
import pytest

from spice_select.ingest.manifest import IntakeLimits, IntakeOptions
from spice_select.ingest.process import ChildTask
from tests.contracts.packages import ROOT, closure, direct_requirements, import_names

OURS = ["spice_select", "app", "workers", "migrations"]
HEAVY = ["torch", "transformers", "peft", "numpy"]

# Every third-party package that is not allowed looks as if it were not installed.
CHILD = """
import importlib, json, sys
allowed, heavy, modules = json.loads(sys.argv[1])
for name in heavy:
    sys.modules[name] = None
class Refuse:
    def find_spec(self, name, path=None, target=None):
        top = name.partition(".")[0]
        if top in sys.stdlib_module_names or top in allowed or top.startswith("_"):
            return None
        raise ModuleNotFoundError(f"{top} is not part of this install", name=top)
sys.meta_path.insert(0, Refuse())
for module in modules:
    importlib.import_module(module)
"""

INSTALLS = {
    "client": ([], ["spice_select", "spice_select.client", "spice_select.cli", "spice_select.config"]),
    "api": (["server"], ["app.main", "app.__main__", "spice_select.client"]),
    "dispatcher": (["server", "worker"], ["workers.__main__", "workers.celery_app", "workers.celery_tasks"]),
}


def import_in_child(root: Path, extras: list[str], modules: list[str]) -> subprocess.CompletedProcess[str]:
    allowed = sorted(import_names(closure(direct_requirements(*extras)))) + OURS
    return subprocess.run(
        [sys.executable, "-c", CHILD, json.dumps([allowed, HEAVY, modules])],
        cwd=root,
        env={"PATH": "/usr/bin:/bin", "PYTHONPATH": str(root), "HOME": str(root)},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


@pytest.mark.parametrize("install", INSTALLS)
def test_an_install_without_the_compute_extra_is_enough(install: str) -> None:
    extras, modules = INSTALLS[install]
    done = import_in_child(ROOT, extras, modules)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize(
    ("install", "file", "line"),
    [
        ("client", "spice_select/__init__.py", "import torch"),
        ("api", "app/storage.py", "__import__('safetensors')"),
        ("dispatcher", "workers/celery_tasks.py", "from transformers import AutoConfig"),
    ],
)
def test_a_heavy_import_is_noticed(tmp_path: Path, install: str, file: str, line: str) -> None:
    for package in OURS:
        shutil.copytree(ROOT / package, tmp_path / package, ignore=shutil.ignore_patterns("__pycache__"))
    planted = tmp_path / file
    planted.write_text(planted.read_text(encoding="utf-8") + f"\n{line}\n", encoding="utf-8")
    extras, modules = INSTALLS[install]
    done = import_in_child(tmp_path, extras, modules)
    assert done.returncode != 0
    assert f"line {planted.read_text(encoding='utf-8').count(chr(10))}" in done.stderr  # the planted line, not another
    assert "ModuleNotFoundError" in done.stderr


def test_the_api_starts_without_what_it_needs_later() -> None:
    """Reading migrations and asking other hosts are no part of starting; each costs up to a tenth of a second."""
    code = "import app.main, sys; print(*sorted({name.partition('.')[0] for name in sys.modules}))"
    loaded = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    late = {"alembic", "mako", "httpcore", "torch", "numpy", "pyarrow", "datasets", "botocore", "fsspec", "jsonschema"}
    late |= {"httpx", "jinja2"}
    assert late & set(loaded.split()) == set()


@pytest.mark.parametrize("name", ["pool.jsonl", "pool.csv", "pool.parquet"])
def test_the_reader_of_files_does_without_pandas_and_numpy(name: str, tmp_path: Path) -> None:
    """Arrow would import them, for half a second of each upload, where they are installed; here they are."""
    records = [{"instruction": f"Say {number}.", "output": str(number)} for number in range(3)]
    source, out = tmp_path / name, tmp_path / "out"
    out.mkdir()
    if name.endswith("parquet"):
        pyarrow.parquet.write_table(pyarrow.Table.from_pylist(records), source)
    elif name.endswith("csv"):
        rows = [",".join(record.values()) for record in records]
        source.write_text("\n".join(["instruction,output", *rows]) + "\n")
    else:
        source.write_text("".join(json.dumps(record) + "\n" for record in records))
    task = ChildTask(options=IntakeOptions(), limits=IntakeLimits()).model_dump_json()
    done = subprocess.run(
        [sys.executable, "-X", "importtime", "-m", "spice_select.ingest", str(source), str(out), task],
        cwd=ROOT, capture_output=True, text=True, timeout=120, check=True,
    )  # fmt: skip
    assert importlib.util.find_spec("pandas") is not None
    assert importlib.util.find_spec("numpy") is not None
    assert json.loads(done.stdout.splitlines()[-1])["rows"] == 3
    imported = {line.rpartition("|")[2].strip() for line in done.stderr.splitlines()}
    assert "pyarrow.lib" in imported
    assert not [name for name in imported if name.startswith(("pandas.", "numpy."))], "looked for and found"


def test_a_worker_that_is_ready_to_select_has_loaded_no_model_library() -> None:
    """Transformers alone was half of a child's start; whoever computes gradients loads it then."""
    code = (
        "import sys, threading\n"
        "from app.settings import Settings\n"
        "from workers.run_unit import UnitRunner\n"
        "UnitRunner(Settings(device='cpu'), 'x', threading.Event()).resources.load_selection()\n"
        "print(*sorted({name.partition('.')[0] for name in sys.modules}))"
    )
    loaded = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    assert "torch" in loaded.split()
    assert {"transformers", "tokenizers", "datasets", "peft", "datasketch"} & set(loaded.split()) == set()
