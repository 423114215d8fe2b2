"""What the tests of the page in a browser share: a service with a finished job, and windows on it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Browser, Page

from spice_select.client import Client
from tests.e2e.conftest import FAST
from tests.fixtures.browser import PHONE, WIDE, Visit, browser, find_browser
from tests.fixtures.processes import Service, environment
from tests.fixtures.service import jsonl, sums

PROGRAM = find_browser()
needs_browser = pytest.mark.skipif(PROGRAM is None, reason="NO BROWSER: install chromium or set SPICE_TEST_BROWSER")
SMALL = {"gradients-sketch_dim": "16", "gradients-max_length": "128"}
SIZES = {"desk": WIDE, "phone": PHONE}
ATTACK = "<img src=x onerror=complain(1)><script>complain(2)</script>"


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    folder = tmp_path_factory.mktemp("page")
    with Service(environment(data_dir=folder / "data", extra=FAST), folder) as running:
        yield running


@pytest.fixture(scope="module")
def finished(service: Service, tmp_path_factory: pytest.TempPathFactory) -> str:
    """A job with everything to show."""
    with Client(service.url) as spice:
        dataset = spice.datasets.wait(spice.datasets.push(pool(tmp_path_factory.mktemp("pool") / "pool.jsonl", 200)).id)
        settings: dict[str, Any] = {"gradients": {"sketch_dim": 16, "max_length": 128, "normalize": "none"}}
        folder = tmp_path_factory.mktemp("held")
        held = spice.datasets.wait(spice.datasets.push(pool(folder / "held.jsonl", 20, start=1000)).id)
        job = spice.jobs.wait(spice.jobs.submit(dataset.id, "20%", name=ATTACK, **settings).id)
        training = {"epochs": 1.0, "learning_rate": 0.003}
        asked = {"holdout_dataset_id": held.id, "group": "domain", "seeds": 2, "training": training}
        assert spice.evaluations.wait(spice.evaluations.submit(job.id, **asked).id).status == "succeeded"
        return job.id


@pytest.fixture(scope="module")
def chromium() -> Iterator[Browser]:
    assert PROGRAM is not None
    with browser(PROGRAM) as running:
        yield running


@pytest.fixture
def visit(service: Service, chromium: Browser) -> Iterator[Callable[..., Visit]]:
    opened: list[Visit] = []

    def open_window(size: str = "desk", scheme: str = "light", base: str | None = None) -> Visit:
        opened.append(Visit(chromium, base or service.url, SIZES[size], scheme))
        return opened[-1]

    yield open_window
    for each in opened:
        each.close()


def pool(path: Path, count: int, start: int = 0) -> Path:
    rows = [{**row, "domain": ["math", ATTACK][i % 2]} for i, row in enumerate(sums(count, start))]
    rows[0]["instruction"] = ATTACK
    path.write_bytes(jsonl(rows))
    return path


def fill(page: Page, file: Path, **fields: str) -> None:
    page.goto("/ui/new")
    page.get_by_label("Upload a file").set_input_files(file)
    page.evaluate("document.querySelectorAll('details').forEach((folded) => { folded.open = true; })")
    for name, value in fields.items():
        page.locator(f"#{name}").fill(value)
