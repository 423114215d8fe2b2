"""The form of a new job in a real Chromium: targets, the estimate, mistakes, and without scripts."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable
from pathlib import Path

import httpx
from playwright.sync_api import Browser, Route, expect

from spice_select.client import Client
from tests.e2e.page.conftest import SMALL, fill, needs_browser, pool
from tests.fixtures.browser import Visit
from tests.fixtures.processes import Service
from tests.fixtures.service import jsonl, sums

pytestmark = needs_browser


def test_mistakes_are_shown_beside_their_fields_and_the_file_is_kept(
    visit: Callable[..., Visit], tmp_path: Path
) -> None:
    window = visit("phone")
    page = window.page
    fill(page, pool(tmp_path / "pool.jsonl", 30), amount="lots", **{"selection-conflict_penalty": "11"})
    page.get_by_role("button", name="Make the job").click()
    expect(page.get_by_role("alert").filter(has_text="The job was not made")).to_be_visible()
    expect(page.locator("#amount")).to_have_attribute("aria-invalid", "true")
    expect(page.locator("#error-amount-1")).to_contain_text("is not a number")
    expect(page.locator("#error-selection-conflict_penalty-1")).to_contain_text(
        "This should be less than or equal to 10"
    )
    window.check(expected=("422",))
    page.locator("#amount").fill("500")
    page.locator("#unit").select_option("count")
    page.locator("#selection-conflict_penalty").fill("0.1")
    page.get_by_role("button", name="Make the job").click()
    # Known only once the rows are counted.
    expect(page.locator("#error-amount-1")).to_contain_text("500")
    page.locator("#amount").fill("5")
    page.get_by_role("button", name="Make the job").click()
    page.wait_for_url(re.compile(r"/ui/jobs/job_\w+$"))


def test_targets_are_added_and_the_estimate_follows_the_form(
    service: Service, visit: Callable[..., Visit], finished: str
) -> None:
    with Client(service.url) as spice:
        dataset_id = spice.jobs.get(finished).dataset_id
    window = visit("phone", "dark")
    page = window.page
    page.goto("/ui/new")
    expect(page.locator("#estimate")).to_contain_text("Say from what to select")
    page.locator("#dataset_id").select_option(dataset_id)
    expect(page.locator("#estimate")).to_contain_text("for 200 rows")
    page.locator("#amount").fill("much")
    expect(page.locator("#estimate")).to_contain_text("is not a number")
    page.locator("#amount").fill("5")
    page.locator("#target_0_rows").fill('{"prompt": "What is 1 + 1?", "response": "2"}')
    page.get_by_role("button", name="Add another target").press("Enter")
    expect(page.locator("#target_1_name")).to_be_visible()
    assert page.locator("#target_0_rows").input_value().startswith("{"), "what was typed stays"
    page.locator("#target_1_name").fill("alike")
    page.locator("[name=target_1_kind][value=rows]").focus()
    for _ in range(3):
        page.keyboard.press("ArrowRight")
    expect(page.locator("#target_1_column")).to_be_visible()
    expect(page.locator("#target_1_rows")).to_be_hidden()
    page.locator("#target_1_column").fill("domain")
    page.locator("#target_1_value").fill("math")
    page.locator("#target_1_count").fill("500")
    page.get_by_role("button", name="Add another target").click()
    expect(page.locator("#target_2_name")).to_be_visible()
    page.get_by_role("button", name="Remove target 3").click()
    expect(page.locator("#target_2_name")).to_have_count(0)
    window.check()
    page.get_by_role("button", name="Make the job").click()
    expect(page.locator("#error-target_1_count-1")).to_contain_text("500 are asked for")
    window.check(expected=("422",))
    page.locator("#target_1_count").fill("5")
    page.get_by_role("button", name="Make the job").click()
    page.wait_for_url(re.compile(r"/ui/jobs/job_\w+$"))
    with Client(service.url) as spice:
        targets = spice.jobs.get(page.url.rsplit("/", 1)[1]).config["conditions"]["targets"]
    assert [target["name"] for target in targets] == ["target 1", "alike"]


def test_it_works_without_scripts(service: Service, chromium: Browser, tmp_path: Path) -> None:
    context = chromium.new_context(java_script_enabled=False, base_url=service.url)
    page = context.new_page()
    page.goto("/ui/new")
    page.get_by_label("Upload a file").set_input_files(pool(tmp_path / "pool.jsonl", 30))
    page.get_by_label("Budget", exact=True).fill("50")
    page.get_by_role("button", name="Make the job").click()
    for _ in range(100):
        if "/ui/jobs/" in page.url:
            break
        page.get_by_role("button", name="Go on").click()
    expect(page.locator("main")).to_contain_text("pool.jsonl")
    context.close()


def test_a_file_whose_connection_breaks_goes_on_in_parts_and_shows_how_far_it_is(
    visit: Callable[..., Visit], service: Service, tmp_path: Path
) -> None:
    rows = [{**row, "output": row["output"] + " so" * 800} for row in sums(9000)]
    path = tmp_path / "long.jsonl"
    path.write_bytes(jsonl(rows))
    window = visit("phone")
    page, broken = window.page, [0]

    def breaks(route: Route) -> None:
        broken[0] += 1
        if broken[0] <= 2:
            route.abort()
        else:
            route.continue_()

    page.route("**/parts/2", breaks)
    fill(page, path, amount="1", **SMALL)
    page.get_by_role("button", name="Make the job").last.click()
    expect(page.locator("[data-uploading]")).to_contain_text("The connection broke", timeout=120_000)
    window.check(expected=("ERR_FAILED",))
    page.get_by_role("button", name="Stop").click()
    expect(page.locator("[data-uploading]")).to_contain_text("Stopped")
    listed = httpx.get(f"{service.url}/v1/datasets/uploads", trust_env=False, timeout=60).json()["data"]
    assert [each["num_received"] for each in listed if each["name"] == "long.jsonl"] == [1]
    # The page is left, the file is chosen again: what has arrived is not sent again.
    sent: list[str] = []
    page.on("request", lambda request: sent.append(request.url) if "/parts/" in request.url else None)
    broken[0] = 2
    fill(page, path, amount="1", **SMALL)
    page.get_by_role("button", name="Make the job").last.click()
    page.wait_for_url(re.compile(r"/ui/jobs/job_\w+$"), timeout=240_000)
    assert not [url for url in sent if url.endswith("/parts/1")]
    with Client(service.url) as spice:
        job = spice.jobs.get(page.url.rsplit("/", 1)[1])
        dataset = spice.datasets.get(job.dataset_id or "")
        assert dataset.digest is not None
        assert dataset.digest.sha256 == hashlib.sha256(path.read_bytes()).hexdigest()
        spice.jobs.cancel(job.id)
