"""Asking on the page of a job whether its choice trains better: the way through, what is said beside which field."""

from __future__ import annotations

import httpx

from app.api.schemas.evaluations import EvaluationCreate
from app.ui.evaluation_fields import LABELS, blank, request_of
from spice_select.evaluation.settings import EvaluationConfig
from tests.fixtures.service import InProcessService
from tests.service.test_evaluations import finished
from tests.service.test_page_submit import errors, hidden


def send(service: InProcessService, path: str, origin: str | None = None, **fields: str) -> httpx.Response:
    sender = {"Origin": origin or f"http://127.0.0.1:{service.port}"}
    return service.http.post(path, data=fields, headers=sender)


def test_the_form_starts_an_evaluation_and_the_page_can_cancel_it(any_service: InProcessService) -> None:
    service = any_service
    job, holdout = finished(service)
    page = f"/ui/jobs/{job['id']}"
    assert f'href="{page}/evaluate"' in service.http.get(page).text
    text = service.http.get(f"{page}/evaluate").text
    assert f'value="{holdout["id"]}"' in text, "a data set that could judge is offered"
    assert f'<option value="{job["dataset_id"]}"' not in text, "the rows that were chosen from are not"
    fields = {**hidden(text), "holdout_dataset_id": holdout["id"], "group": "kind", "seeds": "2", "epochs": "1"}
    made = [send(service, f"{page}/evaluations", **fields) for _ in range(2)]
    assert [(one.status_code, one.headers["location"]) for one in made] == [(303, f"{page}#evaluations")] * 2
    (found,) = service.http.get("/v1/evaluations").json()["data"]
    assert (found["job_id"], found["holdout_dataset_id"], found["group"]) == (job["id"], holdout["id"], "kind")
    assert (found["config"]["seeds"], found["config"]["training"]["epochs"]) == (2, 1.0)
    assert found["config"]["controls"] == EvaluationConfig().controls
    waiting = service.http.get(f"{page}/evaluations").text
    assert 'id="evaluate"' not in waiting, "one at a time, and nothing is typed where the page renews itself"
    cancel = f"/ui/evaluations/{found['id']}/cancel"
    assert f'action="{cancel}"' in waiting
    assert send(service, cancel).headers["location"] == f"{page}#evaluations"
    assert service.http.get(f"/v1/evaluations/{found['id']}").json()["status"] == "cancelled"
    assert 'id="evaluate"' in service.http.get(page).text
    assert send(service, cancel).status_code == 409


def test_what_is_wrong_is_said_beside_its_field_and_what_was_typed_stays(service: InProcessService) -> None:
    job, holdout = finished(service)
    page = f"/ui/jobs/{job['id']}"
    path = f"{page}/evaluations"
    wrong = send(service, path, holdout_dataset_id=holdout["id"], seeds="two", epochs="0", learning_rate="11")
    assert wrong.status_code == 422
    said = errors(wrong.text)
    assert "not a whole number" in said["seeds"]
    assert set(said) == {"seeds", "epochs", "learning_rate"}
    assert f'value="{holdout["id"]}" selected' in wrong.text
    assert 'value="two"' in wrong.text
    assert "in the candidate pool" in errors(send(service, path).text)["holdout_dataset_id"]
    unknown = send(service, path, holdout_dataset_id=holdout["id"], group="<i>")
    assert "&lt;i&gt;" in unknown.text
    assert "group" in errors(unknown.text)
    assert "<i>" not in unknown.text
    strange = send(service, path, holdout_dataset_id=holdout["id"], tuning="none")
    assert "tuning" in errors(strange.text)
    assert service.http.get("/v1/evaluations").json()["data"] == []
    foreign = send(service, path, origin="https://elsewhere.example", holdout_dataset_id=holdout["id"])
    assert foreign.status_code == 403
    assert send(service, "/ui/evaluations/ev_unknown/cancel").status_code == 404


def test_an_empty_form_is_the_usual_evaluation() -> None:
    draft = blank("page_1")
    asked = request_of(draft, "job_1")
    assert asked is not None
    assert asked.settings() == EvaluationCreate(job_id="job_1").settings()
    assert set(draft.values) - {"once"} <= set(LABELS)
