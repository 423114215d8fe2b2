"""The page in a real Chromium, against the real embedded service, at the width of a desk and of a phone."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Page, expect

from app.services.health import ROOT
from spice_select.client import Client
from tests.e2e.conftest import FAST
from tests.e2e.page.conftest import ATTACK, SIZES, SMALL, fill, needs_browser, pool
from tests.fixtures.browser import Visit
from tests.fixtures.processes import Service, environment

pytestmark = needs_browser


def test_the_reference_shows_every_group_of_calls_and_asks_no_other_host(visit: Callable[..., Visit]) -> None:
    seen = visit()
    seen.page.goto("/docs")
    expect(seen.page.locator(".opblock-tag", has_text="webhooks")).to_be_visible()
    expect(seen.page.locator(".opblock-summary-path", has_text="/v1/jobs").first).to_be_visible()
    assert seen.complaints == []


@pytest.mark.parametrize("size", list(SIZES))
def test_from_the_form_to_the_plots(visit: Callable[..., Visit], tmp_path: Path, size: str) -> None:
    window = visit(size)
    page = window.page
    page.goto("/ui")
    page.get_by_role("link", name="New job").click()
    fill(
        page,
        pool(tmp_path / "pool.jsonl", 400),
        amount="40",
        **SMALL,
        name=f"{ATTACK} {size}",
    )
    page.locator("#unit").select_option("count")
    window.check()
    page.get_by_role("button", name="Make the job").click()
    # The rows are checked, the job is queued and its page follows it to the end, all without another click.
    page.wait_for_url(re.compile(r"/ui/jobs/job_\w+$"))
    expect(page.get_by_role("heading", name="Done: 40 of 400 rows selected")).to_be_visible(timeout=90_000)
    expect(page.locator("#announce")).to_have_text("Done: 40 of 400 rows selected")
    page.get_by_text("How the selection went").click()
    expect(page.locator("[data-plot] canvas")).to_have_count(3)
    assert page.locator("#live[hx-get]").count() == 0
    for plot in page.locator("[data-plot] canvas").all():
        shown = plot.evaluate("(c) => new Set(c.getContext('2d').getImageData(0, 0, c.width, c.height).data).size")
        assert shown > 8, "the plot is empty"
    expect(page.locator("#picks tbody tr")).to_have_count(20)
    page.get_by_role("link", name="Next 20").click()
    expect(page.locator("#picks tbody tr").first.get_by_role("cell").first).to_have_text("21")
    assert "after=20" in page.url
    page.locator("#words").fill("no row says this")
    page.locator("#words").press("Enter")
    expect(page.locator("#picks")).to_contain_text("No selected row is like this")
    page.get_by_role("link", name="Show all").click()
    expect(page.locator("#picks tbody tr")).to_have_count(20)
    assert page.locator("img[src='x']").count() == 0
    window.check()
    # A file is saved, a line is copied.
    with page.expect_download() as saved:
        page.get_by_role("link", name="selected.jsonl").first.click()
    assert len(Path(saved.value.path()).read_text().splitlines()) == 40
    page.get_by_role("button", name="Copy Hugging Face datasets").click()
    assert "load_dataset" in page.evaluate("navigator.clipboard.readText()")
    # A clone with another budget reuses the gradients.
    page.get_by_role("link", name="Clone with another budget").click()
    page.get_by_label("Budget", exact=True).fill("7")
    page.get_by_role("button", name="Make the clone").click()
    expect(page.get_by_role("heading", name="Done: 7 of 400 rows selected")).to_be_visible(timeout=90_000)
    expect(page.locator(".steps li").nth(1)).to_contain_text("reused")
    window.check()


@pytest.mark.parametrize("size", list(SIZES))
def test_a_running_job_is_watched_and_cancelled(visit: Callable[..., Visit], tmp_path: Path, size: str) -> None:
    window = visit(size)
    page = window.page
    fill(
        page,
        pool(tmp_path / "pool.jsonl", 20_000),
        **{"gradients-sketch_dim": "none" if size == "desk" else "256", "seed": "7"},
    )
    page.get_by_role("button", name="Make the job").click()
    expect(page.get_by_role("heading", name="Computing gradients")).to_be_visible(timeout=90_000)
    expect(page.locator("li[aria-current=step]")).to_contain_text("Gradients")
    said = page.locator(".progress p")
    expect(said).to_contain_text("of 20,000 samples", timeout=90_000)
    first = said.inner_text()
    expect(said).not_to_have_text(first, timeout=90_000)
    expect(said).to_contain_text("per second")
    expect(page.locator("#announce")).to_have_text("Computing gradients")
    window.check()
    page.on("dialog", lambda dialog: dialog.accept())
    page.get_by_role("button", name="Cancel").click()
    expect(page.get_by_role("heading", name=re.compile(r"^Cancelled"))).to_be_visible(timeout=90_000)
    assert page.get_by_role("button", name="Cancel").count() == 0
    window.check()
    page.goto("/ui?status=cancelled")
    page.get_by_role("link", name="pool.jsonl").first.click()
    page.get_by_role("group").filter(has_text="This cannot be undone").locator("summary").click()
    page.get_by_role("button", name="Delete this job").click()
    expect(page).to_have_url(re.compile(r"/ui$"))
    window.check()


def keep_picture(page: Page, name: str) -> None:
    """For eyes, where a folder is named."""
    keep = os.environ.get("SPICE_TEST_SCREENSHOTS")
    if keep:
        page.screenshot(path=Path(keep) / f"{re.sub(r'[^a-z]+', '-', name).strip('-')}.png", full_page=True)


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("size", list(SIZES))
def test_every_page_is_readable(
    service: Service, visit: Callable[..., Visit], finished: str, size: str, scheme: str
) -> None:
    with Client(service.url) as spice:
        dataset = f"/ui/datasets/{spice.jobs.get(finished).dataset_id}"
    window = visit(size, scheme)
    page = window.page
    done = f"/ui/jobs/{finished}"
    for path in (
        "/ui",
        "/ui/datasets",
        "/ui/new",
        f"/ui/new?like={done.rsplit('/', 1)[1]}",
        done,
        f"{done}/evaluate",
        f"{done}/compare",
        f"{done}/rows/not-selected",
        dataset,
        f"{dataset}/rows",
        "/ui/datasets/preview",
        "/ui/jobs/nothing",
        "/ui/login",
        "/ui/settings",
        "/ui/api-keys",
        "/ui/webhook-endpoints",
        "/ui?status=failed",
    ):
        page.goto(path)
        page.evaluate("document.querySelectorAll('details').forEach((folded) => { folded.open = true; })")
        page.wait_for_load_state("networkidle")
        window.check(expected=("404",))
        if path == done:
            expect(page.locator(".verdict")).to_be_visible()
            expect(page.locator(".forest tbody tr")).to_have_count(6 + 2)
            wide = [bar.bounding_box() for bar in page.locator(".forest rect").all()]
            assert all(box is not None and box["width"] > 0 for box in wide), "an interval is not drawn"
        keep_picture(page, f"{path.split('job_')[0]}-{size}-{scheme}")


def test_everything_is_reached_by_keyboard(visit: Callable[..., Visit]) -> None:
    page = visit().page
    page.goto("/ui")
    page.keyboard.press("Tab")
    expect(page.get_by_role("link", name="Skip to the content")).to_be_focused()
    page.keyboard.press("Enter")
    expect(page.locator("main")).to_be_focused()
    page.keyboard.press("Tab")
    focused = page.locator(":focus")
    expect(focused).to_have_text("All")
    assert focused.evaluate("(e) => getComputedStyle(e).outlineStyle") != "none"


def test_a_job_is_begun_from_the_list_of_data_sets_by_keyboard(visit: Callable[..., Visit], finished: str) -> None:
    window = visit("phone")
    page = window.page
    page.goto("/ui")
    page.get_by_role("link", name="Data sets").focus()
    page.keyboard.press("Enter")
    page.wait_for_url("**/ui/datasets")
    expect(page.get_by_role("link", name="Data sets")).to_have_attribute("aria-current", "page")
    row = page.get_by_role("row").filter(has_text="held.jsonl")
    expect(row).to_contain_text("Ready")
    row.get_by_role("link", name="Select from held.jsonl").focus()
    page.keyboard.press("Enter")
    page.wait_for_url("**/ui/new?dataset_id=*")
    expect(page.locator("#dataset_id option:checked")).to_contain_text("held.jsonl · 20 rows")
    window.check()


@pytest.mark.parametrize("size", list(SIZES))
def test_the_jobs_on_a_data_set_are_found_by_keyboard(
    service: Service, visit: Callable[..., Visit], finished: str, size: str
) -> None:
    with Client(service.url) as spice:
        dataset_id = spice.jobs.get(finished).dataset_id
    window = visit(size)
    page = window.page
    page.goto("/ui/datasets")
    row = page.get_by_role("row").filter(has_text=dataset_id[-8:])
    row.get_by_role("link", name="1 on pool.jsonl").focus()
    page.keyboard.press("Enter")
    page.wait_for_url(f"**/ui?dataset_id={dataset_id}")
    listed = page.locator("#jobs tbody tr")
    expect(listed).to_have_count(1)
    expect(listed.get_by_role("link")).to_have_attribute("href", f"/ui/jobs/{finished}")
    chosen = page.get_by_label("On data set")
    expect(chosen.locator("option:checked")).to_contain_text(dataset_id[-8:])
    window.check()
    keep_picture(page, f"jobs-on-a-data-set-{size}")
    # Another one is taken with the arrow keys and asked for with the button behind them.
    page.get_by_role("link", name="Succeeded").press("Enter")
    page.wait_for_url("**/ui?status=succeeded&dataset_id=ds_*")
    chosen.focus()
    chosen.press("h")
    for _ in ("By", "Order", "Show"):
        page.keyboard.press("Tab")
    expect(page.locator(":focus")).to_have_text("Show")
    page.keyboard.press("Enter")
    expect(page.locator("main")).to_contain_text("No job on this data set is succeeded.")
    expect(chosen.locator("option:checked")).to_contain_text("held.jsonl")
    window.check()
    page.get_by_role("link", name="Show all").press("Enter")
    page.wait_for_url("**/ui?status=succeeded")
    expect(page.locator(f'a[href="/ui/jobs/{finished}"]')).to_be_visible()


def test_the_page_says_when_the_service_is_away(
    visit: Callable[..., Visit], launch: Callable[[Service], Service], tmp_path: Path
) -> None:
    own = launch(Service(environment(data_dir=tmp_path / "data", extra=FAST), tmp_path / "logs"))
    window = visit("phone", base=own.url)
    page = window.page
    fill(page, pool(tmp_path / "pool.jsonl", 20_000), **{"gradients-sketch_dim": "none"})
    page.get_by_role("button", name="Make the job").click()
    page.wait_for_url(re.compile(r"/ui/jobs/job_\w+$"), timeout=90_000)
    own.kill()
    expect(page.locator("#offline")).to_be_visible()
    own.start().wait_ready()
    expect(page.locator("#offline")).to_be_hidden(timeout=90_000)


def test_a_key_opens_the_page_where_one_is_asked_for(
    visit: Callable[..., Visit], launch: Callable[[Service], Service], tmp_path: Path
) -> None:
    env = environment(data_dir=tmp_path / "data", extra={**FAST, "SPICE_AUTH": "keys"})
    secret = make_key(env)
    own = launch(Service(env, tmp_path / "logs"))
    window = visit("phone", base=own.url)
    page = window.page
    page.goto("/ui/new")
    expect(page.get_by_role("heading", name="Log in")).to_be_visible()
    page.get_by_label("API key").fill("spk_nothing")
    page.get_by_role("button", name="Log in").click()
    expect(page.get_by_role("alert").filter(has_text="not known")).to_be_visible()
    window.check(expected=("401",))
    page.get_by_label("API key").fill(secret)
    page.get_by_role("button", name="Log in").click()
    page.wait_for_url("**/ui/new")
    window.check(expected=("401",))
    header = page.locator("header.bar").bounding_box()
    assert header is not None
    assert header["height"] < 64, "with everything that it has, the header takes one row on a phone"
    assert "spice_session" not in page.evaluate("document.cookie")
    page.get_by_role("button", name="Log out").click()
    expect(page.get_by_role("heading", name="Log in")).to_be_visible()
    page.goto("/ui")
    expect(page.get_by_role("heading", name="Log in")).to_be_visible()


def make_key(env: dict[str, str]) -> str:
    import subprocess
    import sys

    made = subprocess.run(
        [sys.executable, "-m", "app", "keys", "create", "--name", "page"],
        env=env,
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    )
    found: Any = json.loads(made.stdout.splitlines()[-1])
    return str(found["secret"])
