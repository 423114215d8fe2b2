"""New jobs from the form: the way through, what is said beside which field, and who may send it."""

from __future__ import annotations

import re
from html import unescape
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import httpx
import pytest

from app.ui.form_fields import FormFields
from app.ui.job_form import blank, field_of, label, request_of
from app.ui.setting_fields import settings
from spice_select.config import ProxyConfig
from tests.fixtures.service import InProcessService, jsonl, sums

USUAL = {"amount": "3", "unit": "count", "gradients-sketch_dim": "4", "gradients-max_length": "128", "once": "page_1"}


def send(
    service: InProcessService, data: bytes | None = None, headers: dict[str, str] | None = None, **fields: str
) -> httpx.Response:
    files = {"file": ("pool.jsonl", data)} if data is not None else {"file": ("", b"")}
    origin = {"Origin": f"http://127.0.0.1:{service.port}"}
    return service.http.post("/ui/new", data={**USUAL, **fields}, files=files, headers={**origin, **(headers or {})})


class Filled(HTMLParser):
    """What a browser sends of the form of a job that nobody has changed."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.values: dict[str, str] = {}
        self._within: tuple[str, str] | None = None
        self.feed(text[text.index('action="/ui/new"') :])

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = {name: value or "" for name, value in attrs}
        if tag == "input" and given.get("type") != "file" and (given.get("type") != "radio" or "checked" in given):
            self.values[given["name"]] = given.get("value", "")
        elif tag in {"select", "textarea"}:
            self._within = (tag, given["name"])
            self.values[given["name"]] = ""
        elif tag == "option" and "selected" in given and self._within is not None:
            self.values[self._within[1]] = given["value"]

    def handle_data(self, data: str) -> None:
        if self._within is not None and self._within[0] == "textarea":
            self.values[self._within[1]] += data.removeprefix("\n")

    def handle_endtag(self, tag: str) -> None:
        if self._within is not None and tag == self._within[0]:
            self._within = None


def filled(form: str) -> dict[str, str]:
    return Filled(form).values


def hidden(text: str) -> dict[str, str]:
    found = re.findall(r'<input type="hidden" name="([\w-]+)" value="([^"]*)"', text)
    return {name: unescape(value) for name, value in found}


def errors(text: str) -> dict[str, str]:
    return dict(re.findall(r'id="error-([\w-]+)-1">([^<]*)<', text))


def test_a_file_becomes_a_data_set_and_a_job_in_one_go(service: InProcessService) -> None:
    waiting = send(service, jsonl(sums(20)), name="mine", **{"selection-conflict_penalty": "0.3"})
    assert waiting.status_code == 200
    fields = hidden(waiting.text)
    assert fields["dataset_id"].startswith("ds_")
    # The page asks again by itself and waits as long as the rows are being checked.
    asked = {"HX-Request": "true"}
    assert 'id="starting"' in send(service, headers=asked, **fields).text
    service.drain()
    made = send(service, headers=asked, **fields)
    assert made.status_code == 204
    job = service.job(made.headers["hx-redirect"].rsplit("/", 1)[1])
    assert (job["name"], job["config"]["selection"]["conflict_penalty"]) == ("mine", 0.3)
    assert job["config"]["selection"]["budget"]["count"] == 3
    # Without the script the same form leads there; sent again it is the same job, changed it is another.
    again = send(service, **fields)
    assert (again.status_code, again.headers["location"]) == (303, made.headers["hx-redirect"])
    assert send(service, **{**fields, "amount": "4"}).headers["location"] != made.headers["hx-redirect"]


def test_an_address_becomes_a_data_set_where_the_service_takes_any(
    service: InProcessService, any_database_url: str, tmp_path: Path
) -> None:
    assert 'name="source"' not in service.http.get("/ui/new").text, "nothing is offered that would be refused"
    root = tmp_path / "pools"
    root.mkdir()
    (root / "one.jsonl").write_bytes(jsonl(sums(20)))
    with InProcessService(any_database_url, tmp_path / "data", source_roots=[root]) as open_service:
        assert "may reach: file:" in open_service.http.get("/ui/new").text
        assert "no address" in errors(send(open_service, source="one.jsonl").text)["source"]
        assert "hub" in errors(send(open_service, source="hf://datasets/org/name").text)["source"]
        fields = hidden(send(open_service, source="file:one.jsonl").text)
        assert fields["dataset_id"].startswith("ds_")
        assert not fields.get("source")
        assert hidden(send(open_service, source="file:one.jsonl").text)["dataset_id"] == fields["dataset_id"]
        open_service.drain()
        made = send(open_service, **fields)
        assert made.status_code == 303
        assert open_service.job(made.headers["location"].rsplit("/", 1)[1])["dataset_id"] == fields["dataset_id"]


@pytest.mark.parametrize(
    ("fields", "field", "said"),
    [
        ({"amount": ""}, "amount", "say how much"),
        ({"amount": "many"}, "amount", "\u201cmany\u201d is not a whole number"),
        ({"amount": "1.5"}, "amount", "not a whole number"),
        ({"amount": "0"}, "amount", "greater than or equal to 1"),
        ({"amount": "120", "unit": "percent"}, "amount", "at most 100 %"),
        ({"amount": "21"}, "amount", "the data set has 20 usable rows"),
        ({"unit": "acres"}, "amount", "what the budget counts"),
        ({"selection-method": "magic"}, "selection-method", "should be"),
        ({"selection-method": "stratified"}, "selection-quotas-column", "needs"),
        ({"selection-conflict_penalty": "11"}, "selection-conflict_penalty", "less than or equal to 10"),
        ({"selection-stop_ratio": "nan"}, "selection-stop_ratio", "\u201cnan\u201d is not a number"),
        ({"selection-alpha": "-1"}, "selection-alpha", "greater than 0"),
        ({"gradients-loss": "none"}, "gradients-loss", "mean"),
        ({"gradients-objective": "dpo"}, "gradients-objective", "no preference data"),
        ({"gradients-objective": "rlhf"}, "gradients-objective", "sft_chosen"),
        ({"gradients-max_length": "3"}, "gradients-max_length", "greater than or equal to 8"),
        ({"seed": "-1"}, "seed", "greater than or equal to 0"),
        ({"priority": "101"}, "priority", "less than or equal to 100"),
        ({"deadline_seconds": "0"}, "deadline_seconds", "greater than 0"),
        ({"proxy": "nobody/nothing"}, "proxy", "not among the models"),
        ({"name": "x" * 201}, "name", "200"),
        ({"dataset_id": ""}, "dataset_id", "Choose a data set or a file."),
    ],
    ids=lambda value: (
        "-".join(f"{name}={text[:12]}" for name, text in value.items()) if isinstance(value, dict) else ""
    ),
)
def test_what_is_wrong_is_said_beside_its_field(
    shared_form: tuple[InProcessService, str], fields: dict[str, str], field: str, said: str
) -> None:
    service, dataset_id = shared_form
    before = len(service.http.get("/v1/jobs").json()["data"])
    answer = send(service, **{"dataset_id": dataset_id, **fields})
    assert answer.status_code == 422
    if field:
        assert said.lower() in errors(answer.text)[field].lower()
        assert f'<a href="#{field}">' in answer.text
    else:
        assert said in answer.text[answer.text.index('role="alert" id="errors"') :]
    assert len(service.http.get("/v1/jobs").json()["data"]) == before


@pytest.fixture(scope="module")
def shared_form(_migrated_sqlite: Path, tmp_path_factory: pytest.TempPathFactory) -> Any:
    folder = tmp_path_factory.mktemp("form")
    (folder / "spice.db").write_bytes(_migrated_sqlite.read_bytes())
    with InProcessService(f"sqlite:///{folder / 'spice.db'}", folder / "data") as service:
        yield service, service.push(jsonl(sums(20)))["id"]


def test_a_mistake_elsewhere_does_not_lose_the_file(service: InProcessService) -> None:
    answer = send(service, jsonl(sums(20)), amount="none")
    assert answer.status_code == 422
    (dataset,) = service.http.get("/v1/datasets").json()["data"]
    assert f'<option value="{dataset["id"]}" selected>' in answer.text
    assert dataset["name"] == "pool.jsonl"


def test_a_file_that_cannot_be_used_brings_the_form_back(service: InProcessService) -> None:
    fields = hidden(send(service, b"{broken").text)
    service.drain()
    answer = send(service, headers={"HX-Request": "true"}, **fields)
    assert answer.status_code == 200
    assert answer.headers["hx-retarget"] == "#content"
    assert "cannot be used" in errors(answer.text)["dataset_id"]
    assert "no bytes" in errors(send(service, b"").text)["file"]


def test_a_form_of_another_site_is_refused(service: InProcessService) -> None:
    dataset = service.push(jsonl(sums(20)))
    job = service.submit(dataset["id"])
    for path in ("/ui/new", f"/ui/jobs/{job['id']}/cancel", f"/ui/jobs/{job['id']}/delete"):
        for origin in ({"Origin": "https://evil.example"}, {"Origin": "null"}, {}):
            answer = service.http.post(path, files={"file": ("", b"")}, headers=origin)
            assert answer.status_code == 403, (path, origin)
    assert service.job(job["id"])["status"] == "queued"


def test_a_job_is_cancelled_and_deleted_from_its_page(service: InProcessService) -> None:
    dataset = service.push(jsonl(sums(20)))
    job = service.submit(dataset["id"])
    origin = {"Origin": f"http://127.0.0.1:{service.port}"}
    address = f"/ui/jobs/{job['id']}/cancel"
    assert f'action="{address}"' in service.http.get(f"/ui/jobs/{job['id']}").text
    answer = service.http.post(address, headers=origin)
    assert (answer.status_code, answer.headers["location"]) == (303, f"/ui/jobs/{job['id']}")
    assert service.job(job["id"])["status"] == "cancelled"
    ended = service.http.get(f"/ui/jobs/{job['id']}").text
    assert f'action="{address}"' not in ended
    assert "nothing was selected yet" in ended
    assert 'aria-current="step"' not in ended
    assert service.http.post(address, headers=origin).status_code == 409
    address = f"/ui/jobs/{job['id']}/delete"
    assert f'action="{address}"' in ended
    answer = service.http.post(address, headers=origin)
    assert (answer.status_code, answer.headers["location"]) == (303, "/ui")
    assert service.http.get(f"/ui/jobs/{job['id']}").status_code == 404


def test_a_clone_keeps_every_setting_but_the_budget(service: InProcessService) -> None:
    dataset = service.push(jsonl([{**row, "part": "ab"[i % 2]} for i, row in enumerate(sums(20))]))
    first = service.submit(
        dataset["id"],
        budget={"fraction": 0.25},
        selection={"quotas": {"column": "part", "caps": {"a": 2}}, "seed": 5, "stop_ratio": 0.01},
        metadata={"team": "x"},
        exclude=[3, 4],
        priority=3,
    )
    service.drain()
    form = service.http.get("/ui/new", params={"like": first["id"]}).text
    assert 'id="amount" name="amount" value="25"' in form
    made = send(service, **{**filled(form), "amount": "50"})
    assert made.status_code == 303, errors(made.text)
    second = service.job(made.headers["location"].rsplit("/", 1)[1])
    budget = second["config"]["selection"].pop("budget")
    assert budget["fraction"] == pytest.approx(0.5)
    first["config"]["selection"].pop("budget")
    assert second["config"] == first["config"]
    assert (second["metadata"], second["priority"]) == ({"team": "x"}, 3)
    assert second["gradients_reused"]


@pytest.mark.parametrize("preset", [None, "paper"])
def test_a_clone_keeps_its_preset(service: InProcessService, preset: str | None) -> None:
    first = service.submit(service.push(jsonl(sums(20)))["id"], preset=preset)
    form = service.http.get("/ui/new", params={"like": first["id"]}).text
    made = send(service, **filled(form))
    assert made.status_code == 303, errors(made.text)
    assert service.job(made.headers["location"].rsplit("/", 1)[1])["config"] == first["config"]


def test_the_form_says_what_the_request_says(service: InProcessService) -> None:
    dataset = service.push(jsonl(sums(20)))
    usual = blank("builtin:tiny", "page_1")
    usual.values["dataset_id"] = dataset["id"]
    asked = request_of(usual)
    assert asked is not None, usual.errors
    bare = service.submit(dataset["id"], budget={"fraction": 0.1}, gradients={})
    assert asked.run_config(ProxyConfig()).model_dump(mode="json") == bare["config"]


def test_every_pointer_finds_its_field() -> None:
    draft = FormFields({"target_0_kind": "column", "target_0_column": "domain", "target_1_rows": "{}"})
    places = {
        "#/budget/count": "amount",
        "#/selection/alpha": "selection-alpha",
        "#/proxy/model": "proxy",
        "#/proxy/revision": "proxy-revision",
        "#/selection/quotas": "selection-quotas-column",
        "#/selection/quotas/caps/math": "selection-quotas-caps",
        "#/selection/scope": "selection-scope-kind",
        "#/exclude/3": "exclude",
        "#/targets": "target_0_rows",
        "#/targets/0/rows": "target_0_count",
        "#/targets/0": "target_0_column",
        "#/targets/1/rows/3": "target_1_rows",
        "#/targets/1/weight": "target_1_weight",
        "#/selection/unheard": "",
    }
    assert {pointer: field_of(draft, pointer) for pointer in places} == places
    assert field_of(draft, None) == ""
    draft.values["extra"] = '{"parent": {}}'
    assert field_of(draft, "#/parent/run") == "extra"
    assert label("target_1_weight") == "Target 2, weight"
    assert len({setting.label for setting in settings().values()}) == len(settings()), "two fields of one name"


def test_what_a_key_may_not_do_is_not_offered(sqlite_url: str, tmp_path: Path) -> None:
    locked = InProcessService(sqlite_url, tmp_path / "data", auth="keys")
    keys = locked.app.state.services.keys
    reader = ("me", keys.create("proj_default", "reader", ["jobs:read"])[1])
    maker = ("me", keys.create("proj_default", "maker", ["jobs:write"])[1])
    with locked:
        origin = {"Origin": f"http://127.0.0.1:{locked.port}"}
        assert "/ui/new" not in locked.http.get("/ui", auth=reader).text
        assert locked.http.post("/ui/new", auth=reader, headers=origin, files={"file": ("", b"")}).status_code == 403
        answer = locked.http.post("/ui/new", auth=maker, headers=origin, data=USUAL, files={"file": ("a.jsonl", b"{}")})
        assert answer.status_code == 403
        assert "datasets:write" in answer.text


def test_what_a_field_means_is_said_without_python_or_names_of_fields() -> None:
    hints = {name: setting.hint for name, setting in settings().items()}
    names = {setting.path[-1] for setting in settings().values() if "_" in setting.path[-1]}
    for name, hint in hints.items():
        assert not re.search(r"\bNone\b", hint), name
        assert not names & set(re.findall(r"\w+", hint)), name
    assert "\u201cnone\u201d never stops early" in hints["selection-stop_ratio"]
    assert "\u201cStop ratio" in hints["selection-min_count"]
