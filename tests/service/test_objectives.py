"""Jobs on preference data: which objectives are refused with what to send, and what a job with each leads to."""

from __future__ import annotations

from typing import Any

import pytest

from tests.fixtures.service import InProcessService, jsonl, sums

PAIRS = [
    {"prompt": f"What is {n} and {n + 2}?", "chosen": f"It is {2 * n + 2}.", "rejected": f"{3 * n + 1}, I think"}
    for n in range(12)
]
JUDGED = [{"prompt": row["prompt"], "completion": row["chosen"], "label": n % 3 > 0} for n, row in enumerate(PAIRS)]
CONVERSATIONS = [
    {
        "prompt": [{"role": "user", "content": f"And {n}?"}],
        "chosen": [{"role": "assistant", "content": f"So {n}"}],
        "rejected": [{"role": "assistant", "content": "No"}],
    }
    for n in range(4)
]


def sketched(**gradients: Any) -> dict[str, Any]:
    return {"gradients": {"sketch_dim": 4, "max_length": 128, **gradients}}


@pytest.mark.parametrize(
    ("rows", "objective", "possible"),
    [
        (PAIRS, None, "preference pairs: gradients.objective can be sft_chosen or dpo, not sft"),
        (JUDGED, "sft", "single answers with a judgement, no pairs: gradients.objective can be sft_chosen, not sft"),
        (JUDGED, "dpo", "single answers with a judgement, no pairs: gradients.objective can be sft_chosen, not dpo"),
        (sums(12), "dpo", "no preference data: gradients.objective can be sft, not dpo"),
        (sums(12), "sft_chosen", "no preference data: gradients.objective can be sft, not sft_chosen"),
    ],
)
def test_an_objective_that_the_data_is_not_for_is_refused_at_submission(
    service: InProcessService, rows: list[dict[str, Any]], objective: str | None, possible: str
) -> None:
    dataset = service.push(jsonl(rows))
    gradients = {} if objective is None else {"objective": objective}
    body = {"dataset_id": dataset["id"], "budget": {"count": 3}, "gradients": gradients}
    for address in ("/v1/jobs", "/v1/estimates"):
        answer = service.http.post(address, json=body)
        assert answer.status_code == 422, answer.text
        (error,) = answer.json()["errors"]
        assert answer.json()["code"] == "config-invalid"
        assert error == {"detail": f"the data set holds {possible}", "pointer": "#/gradients/objective"}


@pytest.mark.parametrize("beta", [0, 10.5, -1, "much"])
def test_beta_is_above_zero_and_at_most_ten(service: InProcessService, beta: Any) -> None:
    body = {"dataset_id": "ds_x", "budget": {"count": 3}, "gradients": {"objective": "dpo", "dpo_beta": beta}}
    answer = service.http.post("/v1/jobs", json=body)
    assert (answer.status_code, answer.json()["errors"][0]["pointer"]) == (422, "#/gradients/dpo_beta")


def test_a_job_on_pairs_with_pairs_as_its_targets(service: InProcessService) -> None:
    assert "gradients.objective sft_chosen or dpo" in service.push(jsonl(PAIRS))["warnings"][0]
    dataset, other = service.push(jsonl(PAIRS)), service.push(jsonl(CONVERSATIONS))
    targets = [
        {"name": "conversations", "dataset_id": other["id"]},
        {"name": "inline", "rows": PAIRS[:2]},
        {"name": "plain", "rows": sums(2)},
    ]
    dpo = sketched(objective="dpo")
    body = {"dataset_id": dataset["id"], "budget": {"count": 3}, "targets": targets, **dpo}
    refused = service.http.post("/v1/jobs", json=body).json()["errors"][0]
    assert refused["pointer"] == "#/targets/2/rows"
    assert "'plain' holds no preference data" in refused["detail"]
    plain = service.push(jsonl(sums(3)))
    body["targets"] = [{"name": "plain", "dataset_id": plain["id"]}]
    refused = service.http.post("/v1/jobs", json=body).json()["errors"][0]
    assert refused["pointer"] == "#/targets/0/dataset_id"
    job = service.submit(dataset["id"], targets=targets[:2], **dpo)
    service.drain()
    done = service.job(job["id"])
    assert done["status"] == "succeeded", done
    # A target row is the same conversation as the row of the pool, its rejected answer included.
    assert done["result"]["excluded_by_code"] == {"in-target": 2}
    assert done["config"]["gradients"]["objective"] == "dpo"
    statement = service.http.get(f"/v1/jobs/{job['id']}/provenance").json()
    parameters = statement["predicate"]["buildDefinition"]["externalParameters"]
    assert parameters["config"]["gradients"]["objective"] == "dpo"
    rows = service.http.get(f"/v1/jobs/{job['id']}/files/selected.jsonl?form=messages").text.splitlines()
    assert all('"chosen":[' in row and '"rejected":[' in row for row in rows)


def test_what_beta_changes_and_what_it_does_not(service: InProcessService) -> None:
    dataset = service.push(jsonl(PAIRS))
    sets = [
        service.submit(dataset["id"], **sketched(**gradients))["gradient_set_id"]
        for gradients in (
            {"objective": "dpo"},
            {"objective": "dpo", "loss": "sum"},
            {"objective": "dpo", "dpo_beta": 0.5},
            {"objective": "sft_chosen"},
            {"objective": "sft_chosen", "dpo_beta": 0.5},
        )
    ]
    assert sets[0] == sets[1]
    assert sets[3] == sets[4]
    assert len(set(sets)) == 3
    less = {"dataset_id": dataset["id"], "budget": {"count": 2}, "method": "less", **sketched(objective="dpo")}
    less["target_dataset_id"] = service.push(jsonl(sums(3)))["id"]
    assert service.http.post("/v1/jobs", json=less).json()["errors"][0]["pointer"] == "#/target_dataset_id"


def test_answers_that_were_judged_bad_are_named(service: InProcessService) -> None:
    dataset = service.push(jsonl(JUDGED))
    job = service.submit(dataset["id"], **sketched(objective="sft_chosen"))
    service.drain()
    result = service.job(job["id"])["result"]
    assert result["excluded_by_code"] == {"not-desirable": 4}
    assert [(item["source_row"], item["code"]) for item in result["excluded_samples"]] == [
        (row, "not-desirable") for row in (0, 3, 6, 9)
    ]


def test_the_preview_has_both_answers(service: InProcessService) -> None:
    shown = service.http.post("/v1/datasets:preview?rows=1", files={"file": ("pairs.jsonl", jsonl(PAIRS))}).json()
    (row,) = shown["rows"]
    for side, said, weight in ((row, "It is 2.", 1.0), (row["rejected_answer"], "1, I think", -1.0)):
        (span,) = side["learned"]
        assert side["text"][span["start"] : span["end"]].startswith(said)
        assert span["weight"] == weight
    origin = {"Origin": str(service.http.base_url).rstrip("/")}
    file = {"file": ("pairs.jsonl", jsonl(PAIRS))}
    page = service.http.post("/ui/datasets/preview", files=file, headers=origin).text
    assert "Of the rejected answer" in page
    assert "1, I think" in page


def test_tokens_of_one_objective_say_nothing_about_another(service: InProcessService) -> None:
    dataset = service.push(jsonl(PAIRS))
    job = service.submit(dataset["id"], **sketched(objective="dpo"))
    service.drain()
    body = {"dataset_id": dataset["id"], "budget": {"count": 3}}
    dpo = service.http.post("/v1/estimates", json=body | sketched(objective="dpo", sketch_dim=5)).json()
    assert (dpo["tokens_basis"], dpo["tokens"]) == ("measured", service.job(job["id"])["result"]["tokens_pool"])
    chosen = service.http.post("/v1/estimates", json=body | sketched(objective="sft_chosen")).json()
    assert chosen["tokens_basis"] == "assumed"
