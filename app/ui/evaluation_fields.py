"""What was typed into the form of a new evaluation: read, checked, shown again with what is wrong beside each field."""

from __future__ import annotations

from typing import Any

from app.api.schemas.evaluations import EvaluationCreate
from app.ui.form_fields import FormFields, accepted, number
from spice_select.evaluation.settings import EvaluationConfig

LABELS = {
    "holdout_dataset_id": "Held-out rows",
    "group": "Group column",
    "seeds": "Seeds",
    "tuning": "What is tuned",
    "epochs": "Passes",
    "learning_rate": "Learning rate",
}
TRAINING = ("tuning", "epochs", "learning_rate")


def blank(once: str) -> FormFields:
    """An empty form with the usual settings.

    Args:
        once: Makes a form that is sent twice one evaluation.
    """
    usual = EvaluationConfig()
    numbers = {"seeds": usual.seeds, "epochs": usual.training.epochs, "learning_rate": usual.training.learning_rate}
    shown = {name: f"{value:.10g}" for name, value in numbers.items()}
    return FormFields({**shown, "tuning": usual.training.tuning, "once": once})


def request_of(draft: FormFields, job_id: str) -> EvaluationCreate | None:
    """The request that the form stands for; None when something is wrong, which is then said in the draft.

    Args:
        draft: The form.
        job_id: The job it is on the page of.
    """
    numbers = {name: number(draft, name, whole=name == "seeds") for name in ("seeds", "epochs", "learning_rate")}
    body: dict[str, Any] = {"job_id": job_id, "training": {}}
    given: dict[str, Any] = {name: value for name, value in numbers.items() if value is not None}
    given |= {name: text for name in LABELS if name not in numbers and (text := draft.values.get(name, "").strip())}
    for name, value in given.items():
        (body["training"] if name in TRAINING else body)[name] = value
    return accepted(draft, EvaluationCreate, body, field_of)


def field_of(pointer: str | None) -> str:
    """The field that a JSON pointer of the request body stands for; empty where the form has none."""
    name = (pointer or "").rsplit("/", 1)[-1]
    return name if name in LABELS else ""
