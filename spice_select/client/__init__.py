"""Talk to a SPICE Select service: ``Client`` blocks, ``AsyncClient`` awaits; both offer the same calls.

    from spice_select.client import Client

    with Client() as spice:                                   # SPICE_API_URL, SPICE_API_KEY
        dataset = spice.datasets.push("pool.jsonl")
        spice.datasets.wait(dataset.id)
        job = spice.jobs.submit(dataset.id, "10%")
        spice.jobs.wait(job.id, on_progress=print)
        spice.jobs.download(job.id, "chosen")

Requests that failed for a passing reason are repeated (with ``Retry-After`` and growing pauses), a job is never made
twice by that, and a file only gets its name once its sha256 is right. Neither torch nor pyarrow is needed.

    blocking, asynchronous    the two clients
    operations, upload, download   what each call does, step by step, for both
    retry                     when a request is repeated, and how an answer becomes an error
    stream                    events as they happen, and how a stream that broke off is continued
    transport                 the steps over HTTP, blocking and awaited
    hooks, endpoints          calls about webhook endpoints
    evaluations, evaluated    calls about evaluations
    webhooks                  the message in a request, if the service signed it
    group                     what groups of calls share
    models, budget            what comes back; a budget as a person writes it
"""

from __future__ import annotations

from spice_select.client.asynchronous import AsyncClient
from spice_select.client.blocking import Client
from spice_select.client.budget import BudgetLike, parse_budget
from spice_select.client.endpoints import WebhookDelivery, WebhookEndpoint
from spice_select.client.evaluation_models import Evaluation, EvaluationEstimate
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
)
from spice_select.client.operations import Selected

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
    "Problem",
    "Progress",
    "QueuePosition",
    "RankedSample",
    "RejectedRow",
    "Selected",
    "WebhookDelivery",
    "WebhookEndpoint",
    "parse_budget",
]
