"""Talk to a SPICE Select service: ``Client`` blocks, ``AsyncClient`` awaits; both offer the same calls.

    from spice_select.client import Client

    with Client() as spice:                                   # SPICE_API_URL, SPICE_API_KEY
        dataset = spice.datasets.push("pool.jsonl")
        spice.datasets.wait(dataset.id)
        job = spice.jobs.submit(dataset.id, "10%")
        spice.jobs.wait(job.id, on_progress=print)
        spice.jobs.download(job.id, "selected")

Requests that failed for a passing reason are repeated (with ``Retry-After`` and growing pauses), a job is never made
twice by that, and a file gets its name only after its sha256 was checked. Neither torch nor pyarrow is needed.

    _async, _sync             the two clients; _sync is generated from _async by ``make client``
    connection                address, headers and timeouts
    retry, answers            when a request is repeated; how an answer becomes a type or an error
    event_stream              events as they happen, and how a stream that broke off is continued
    partial_file              the part of a download that has come
    request_bodies, filters   what is sent
    models, evaluation_models, log_models, schedule_models, webhook_models   what comes back
    budget                    a budget as a person writes it
    webhooks                  the message in a webhook request, if the service signed it
    finished_job              what trackers are told of a job
    mlflow, trackers          a job in a run of MLflow, Weights & Biases, Trackio or TensorBoard
"""

from __future__ import annotations

from spice_select.client._async.client import AsyncClient
from spice_select.client._sync.client import Client
from spice_select.client.budget import BudgetLike, parse_budget
from spice_select.client.evaluation_models import Evaluation, EvaluationEstimate
from spice_select.client.log_models import LogLine
from spice_select.client.models import (
    Certificate,
    Dataset,
    DatasetRow,
    Estimate,
    Event,
    File,
    Job,
    JobResult,
    Link,
    Problem,
    Progress,
    QueuePosition,
    RankedSample,
    RejectedRow,
    Selected,
)
from spice_select.client.schedule_models import Schedule
from spice_select.client.webhook_models import WebhookDelivery, WebhookEndpoint

__all__ = [
    "AsyncClient",
    "BudgetLike",
    "Certificate",
    "Client",
    "Dataset",
    "DatasetRow",
    "Estimate",
    "Evaluation",
    "EvaluationEstimate",
    "Event",
    "File",
    "Job",
    "JobResult",
    "Link",
    "LogLine",
    "Problem",
    "Progress",
    "QueuePosition",
    "RankedSample",
    "RejectedRow",
    "Schedule",
    "Selected",
    "WebhookDelivery",
    "WebhookEndpoint",
    "parse_budget",
]
