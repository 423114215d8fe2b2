"""Targets and settings in the form of a new job: every request has a form, and every form says what is wrong where."""

from __future__ import annotations

import json
from html import unescape
from pathlib import Path
from typing import Any

import pytest

from app.api.schemas.jobs import JobCreate
from app.ui.form_fields import FormFields
from app.ui.job_form import blank, request_of
from app.ui.setting_fields import read, settings, take
from app.ui.target_fields import compact, pasted, write
from tests.fixtures.service import InProcessService, jsonl, sums
from tests.service.test_page_submit import USUAL, errors, filled, hidden, send

POOL = [{**row, "domain": "ab"[i % 2]} for i, row in enumerate(sums(24))]
ROWS = [{"instruction": "Add 90 and 9.", "output": "The sum is 99."}, {"instruction": "1 + 1?", "output": "2"}]


def made(service: InProcessService, answer: Any) -> dict[str, Any]:
    assert answer.status_code == 303, errors(answer.text)
    return service.job(answer.headers["location"].rsplit("/", 1)[1])


def test_targets_come_from_four_places_and_a_clone_has_them_again(service: InProcessService) -> None:
    pool, dev = service.push(jsonl(POOL))["id"], service.push(jsonl(sums(5, 500)))["id"]
    fields = {
        "dataset_id": pool,
        "target_0_name": "sums",
        "target_0_weight": "2",
        "target_0_rows": "\n".join(map(json.dumps, ROWS)),
        "target_2_dataset_id": dev,  # the one between was left empty
        "target_3_kind": "column",
        "target_3_column": "domain",
        "target_3_value": "b",
        "target_3_count": "4",
        "protect_0_name": "old",
        "protect_0_weight": "0.5",
        "protect_0_rows": "instruction,output\nAdd 3 and 4.,The sum is 7.",
    }
    files = {"file": ("", b""), "target_4_file": ("own.jsonl", jsonl(sums(3, 900)))}
    origin = {"Origin": f"http://127.0.0.1:{service.port}"}
    waiting = service.http.post("/ui/new", data={**USUAL, **fields}, files=files, headers=origin)
    assert 'id="starting"' in waiting.text, errors(waiting.text)
    service.drain()
    job = made(
        service,
        send(
            service,
            **{
                **hidden(waiting.text),
                "target_0_rows": fields["target_0_rows"],
                "protect_0_rows": fields["protect_0_rows"],
            },
        ),
    )
    targets = job["config"]["conditions"]["targets"]
    assert [(target["name"], target["weight"]) for target in targets] == [
        ("sums", 2.0),
        ("target 2", 1.0),
        ("b", 1.0),
        ("target 4", 1.0),
    ]
    assert targets[0]["rows"] == ROWS
    assert targets[1]["dataset_id"] == dev
    assert (targets[2]["column"], targets[2]["value"], targets[2]["rows"]) == ("domain", "b", 4)
    assert service.http.get(f"/v1/datasets/{targets[3]['dataset_id']}").json()["name"] == "own.jsonl"
    (protected,) = job["config"]["conditions"]["protect"]
    assert (protected["name"], protected["weight"], len(protected["rows"])) == ("old", 0.5, 1)
    form = filled(service.http.get("/ui/new", params={"like": job["id"]}).text)
    assert made(service, send(service, **{**form, "once": "again"}))["config"] == job["config"]


@pytest.mark.parametrize(
    ("fields", "field", "said"),
    [
        ({"target_0_rows": '{"a": 1}\n{"b"'}, "target_0_rows", "line 2 is not JSON"),
        ({"target_0_rows": "[1]"}, "target_0_rows", "record 1 is not an object"),
        ({"target_0_rows": "please be nice"}, "target_0_rows", "one record of JSON a line"),
        (
            {"target_0_rows": '{"instruction": "a", "output": ""}'},
            "target_0_rows",
            "none of the first 1 rows can be used",
        ),
        ({"target_0_rows": "prompt,response\nWhy?,So.", "target_0_weight": "much"}, "target_0_weight", "not a number"),
        ({"target_0_column": "nothing", "target_0_value": "x"}, "target_0_column", "no column"),
        ({"target_0_column": "domain", "target_0_value": "b", "target_0_count": "13"}, "target_0_count", "12 rows"),
        ({"target_0_dataset_id": "ds_nothing"}, "target_0_dataset_id", "ds_nothing"),
        ({"protect_0_rows": "[1]"}, "protect_0_rows", "record 1 is not an object"),
        ({"protect_0_dataset_id": "ds_nothing"}, "protect_0_dataset_id", "ds_nothing"),
        ({"target_0_name": "lonely"}, "target_0_rows", "say which rows"),
        ({"extra": "{"}, "extra", "not JSON"),
        ({"extra": '{"budget": {"count": 9}}'}, "extra", "budget.count has a field"),
        ({"extra": '{"unheard": 1}'}, "extra", "there is no such setting"),
        ({"must_include": "3, x"}, "must_include", "\u201cx\u201d is not a whole number"),
        ({"selection-quotas-caps": "math"}, "selection-quotas-caps", "name = value"),
        ({"selection-scope-size": "5"}, "selection-scope-kind", "kind"),
    ],
    ids=lambda value: next(iter(value)) if isinstance(value, dict) else "",
)
def test_what_is_wrong_is_said_at_its_field_and_nothing_typed_is_lost(
    shared: tuple[InProcessService, str], fields: dict[str, str], field: str, said: str
) -> None:
    service, pool = shared
    answer = send(service, **{"dataset_id": pool, **fields})
    assert answer.status_code == 422
    assert said.lower() in unescape(errors(answer.text)[field]).lower()
    again = filled(answer.text)
    assert {name: again[name].replace("\r\n", "\n") for name in fields} == fields


@pytest.fixture(scope="module")
def shared(_migrated_sqlite: Path, tmp_path_factory: pytest.TempPathFactory) -> Any:
    folder = tmp_path_factory.mktemp("targets")
    (folder / "spice.db").write_bytes(_migrated_sqlite.read_bytes())
    with InProcessService(f"sqlite:///{folder / 'spice.db'}", folder / "data") as service:
        yield service, service.push(jsonl(POOL))["id"]


def test_without_scripts_targets_are_added_and_the_time_is_estimated(shared: tuple[InProcessService, str]) -> None:
    service, pool = shared
    form = send(service, dataset_id=pool, target_0_rows="{}", do="add-target")
    assert form.status_code == 200
    assert {"target_0_rows", "target_1_rows"} <= filled(form.text).keys()
    assert filled(form.text)["target_0_rows"] == "{}", "what was typed stays"
    answer = send(service, dataset_id=pool, do="estimate")
    assert "for 24 rows" in answer.text
    assert "Budget: " in send(service, dataset_id=pool, amount="x", do="estimate").text
    assert service.http.get("/v1/jobs").json()["data"] == []
    one = service.http.get("/ui/new/target", params={"number": 3}).text
    assert 'name="target_3_rows"' in one
    assert "number=4" in one
    assert "number=32" not in service.http.get("/ui/new/target", params={"number": 31}).text
    assert service.http.get("/ui/new/target", params={"number": 8, "prefix": "protect"}).status_code == 404


def test_a_script_learns_what_the_form_would_take(shared: tuple[InProcessService, str]) -> None:
    service, pool = shared
    origin = {"Origin": f"http://127.0.0.1:{service.port}"}

    def ask(**fields: str) -> str:
        answer = service.http.post("/ui/new/estimate", data={**USUAL, **fields}, headers=origin)
        assert answer.status_code == 200
        return answer.text

    assert "for 24 rows" in ask(dataset_id=pool)
    assert "Say from what" in ask()
    assert "Budget: " in ask(dataset_id=pool, amount="lots")
    assert service.http.post("/ui/new/estimate", data=USUAL).status_code == 403, "no page of ours sent it"


EVERYTHING: dict[str, Any] = {
    "selection": {
        "method": "fisher",
        "alpha": 0.25,
        "stop_ratio": None,
        "span": True,
        "quotas": {"column": "domain", "floors": {"a=b": 1}, "caps": {"b": 9}},
        "scope": {"kind": "partitioned", "parts": 4},
    },
    "gradients": {"sketch_dim": None, "normalize": "none", "tuning": {"learning_rate": 2.5e-05}, "dtype": "bfloat16"},
    "screens": {"near_duplicates": None, "contamination": ["ds_1", "ds_2"], "refuse_contamination": False},
    "must_include": [1, 2, 3, 9],
    "exclude": [4],
    "schedule": {"kind": "periodic", "steps_every": None},
    "proxy": {"revision": "main"},
    "metadata": {"team": "search", "note": "a = b"},
    "seed": 4,
    "deadline_seconds": 60.5,
    "priority": -3,
}


def test_every_setting_has_a_field_that_says_it() -> None:
    body = json.loads(json.dumps(EVERYTHING))
    texts = take(body)
    assert body == {}, "every setting has a field"
    draft, again = FormFields(texts), {}
    read(draft, again)
    assert (draft.errors, again) == ({}, EVERYTHING)
    # What no field can say stays where it was, to be shown as JSON.
    odd = {"metadata": {"a": "two\nlines"}, "selection": {"unheard": 1, "alpha": 2.0}}
    assert take(odd) == {"selection-alpha": "2.0"}
    assert odd == {"metadata": {"a": "two\nlines"}, "selection": {"unheard": 1}}


def test_every_plain_part_of_a_request_has_a_field() -> None:
    own = {"dataset_id", "budget", "preset", "targets", "protect", "name", "parent", "method"}
    assert {setting.path[0] for setting in settings().values()} == JobCreate.model_fields.keys() - own


def test_an_empty_form_says_nothing_but_pool_budget_and_model() -> None:
    draft = blank("builtin:tiny", "page_1")
    draft.values["dataset_id"] = "ds_1"
    asked = request_of(draft)
    assert asked is not None
    assert asked.model_fields_set == {"dataset_id", "budget", "proxy"}


def test_tables_and_arrays_are_read_as_rows() -> None:
    rows = [{"q": "Why, then?", "a": "So."}, {"q": "Who?", "a": "I"}]
    assert pasted('q,a\n"Why, then?",So.\nWho?,I\n') == rows
    assert pasted("q\ta\nWhy, then?\tSo.\nWho?\tI") == rows
    assert pasted(json.dumps(rows)) == pasted("\n\n".join(map(json.dumps, rows))) == rows
    for broken in ("q,a\nx\n", "q,a\nx,y,z\n", "q,a\n", "plain words\nof two lines"):
        with pytest.raises(ValueError, match=r"row 1 of the table|one record of JSON"):
            pasted(broken)
    draft = FormFields({**write([{"name": "a", "rows": rows}, {"name": "b", "dataset_id": "ds_1", "weight": 0.5}])})
    before = dict(draft.values)
    compact(draft)
    assert draft.values == before
