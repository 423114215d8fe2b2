"""A job in the words of OpenLineage 2-0-2: a run that begins and ends, what went in, what came out.

Everything follows from the records, so an event can be made again at any time and is the same.
"""

from __future__ import annotations

import json
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Literal
from urllib.parse import quote

from app.errors import NotFoundError
from app.persistence.repositories import Datasets, Jobs
from app.persistence.session import Database
from app.persistence.tables import Dataset, File, Job
from app.status import TERMINAL, JobStatus
from spice_select.results.provenance import rfc3339
from spice_select.results.run_metadata import find_code_commit
from spice_select.version import __version__

EventType = Literal["START", "COMPLETE", "FAIL", "ABORT"]
HOME = "https://github.com/spice-select/spice-select"
PRODUCER = f"{HOME}/tree/v{__version__}"
RUN_EVENT = "https://openlineage.io/spec/2-0-2/OpenLineage.json#/$defs/RunEvent"
ENDS: dict[str, EventType] = {
    JobStatus.SUCCEEDED: "COMPLETE",
    JobStatus.FAILED: "FAIL",
    JobStatus.CANCELLED: "ABORT",
    JobStatus.EXPIRED: "ABORT",
}

_SPEC = "https://openlineage.io/spec/facets"
FACETS = {
    "dataSource": f"{_SPEC}/1-0-1/DatasourceDatasetFacet.json#/$defs/DatasourceDatasetFacet",
    "datasetType": f"{_SPEC}/1-0-1/DatasetTypeDatasetFacet.json#/$defs/DatasetTypeDatasetFacet",
    "errorMessage": f"{_SPEC}/1-0-1/ErrorMessageRunFacet.json#/$defs/ErrorMessageRunFacet",
    "executionParameters": f"{_SPEC}/1-0-0/ExecutionParametersRunFacet.json#/$defs/ExecutionParametersRunFacet",
    "inputStatistics": f"{_SPEC}/1-0-0/InputStatisticsInputDatasetFacet.json#/$defs/InputStatisticsInputDatasetFacet",
    "jobType": f"{_SPEC}/2-0-4/JobTypeJobFacet.json#/$defs/JobTypeJobFacet",
    "outputStatistics": (
        f"{_SPEC}/1-0-2/OutputStatisticsOutputDatasetFacet.json#/$defs/OutputStatisticsOutputDatasetFacet"
    ),
    "parent": f"{_SPEC}/1-2-0/ParentRunFacet.json#/$defs/ParentRunFacet",
    "processing_engine": f"{_SPEC}/1-1-1/ProcessingEngineRunFacet.json#/$defs/ProcessingEngineRunFacet",
    "schema": f"{_SPEC}/1-2-0/SchemaDatasetFacet.json#/$defs/SchemaDatasetFacet",
    "sourceCodeLocation": f"{_SPEC}/1-1-0/SourceCodeLocationJobFacet.json#/$defs/SourceCodeLocationJobFacet",
    "spice_selection": f"{HOME}/blob/v{__version__}/docs/schemas/SpiceSelectionDatasetFacet.json",
    "storage": f"{_SPEC}/1-0-1/StorageDatasetFacet.json#/$defs/StorageDatasetFacet",
    "tags": f"{_SPEC}/1-0-0/TagsRunFacet.json#/$defs/TagsRunFacet",
    "version": f"{_SPEC}/1-0-1/DatasetVersionDatasetFacet.json#/$defs/DatasetVersionDatasetFacet",
}
"""Each facet that is used, at the version of its schema."""


@dataclass(frozen=True)
class Run:
    """A job with what it read and wrote.

    Attributes:
        job: The job.
        dataset: What it chooses from.
        target: The data set that the choice is to be close to, if any.
        files: Files of the result; empty while there is none.
    """

    job: Job
    dataset: Dataset
    target: Dataset | None
    files: Sequence[File]


def run_id(job_id: str) -> str:
    """The run of a job: a UUID that anybody can derive from its id."""
    return str(uuid.uuid5(uuid.NAMESPACE_URL, f"spice:job/{job_id}"))


def job_events(database: Database, namespace: str, project_id: str, job_id: str) -> list[dict[str, Any]]:
    """Every run event of a job so far.

    Args:
        database: Where the records are.
        namespace: Of jobs and data sets.
        project_id: Owner.
        job_id: The job.

    Raises:
        NotFoundError: There is no such job in the project.
    """
    with database.read() as session:
        job = Jobs(session).get(project_id, job_id)
        if job is None:
            raise NotFoundError(f"job {job_id}")
        datasets = Datasets(session)
        target = None if job.target_dataset_id is None else datasets.get_even_deleted(job.target_dataset_id)
        run = Run(job, datasets.get_even_deleted(job.dataset_id), target, Jobs(session).files(job.id))
        return run_events(run, namespace)


def run_events(run: Run, namespace: str) -> list[dict[str, Any]]:
    """Every event of a job so far: its start, and its end when it has ended."""
    types: list[EventType] = []
    if run.job.started_at is not None or run.job.status in TERMINAL:
        types.append("START")
    if run.job.status in TERMINAL:
        types.append(ENDS[run.job.status])
    return [run_event(run, namespace, type_) for type_ in types]


def run_event(run: Run, namespace: str, type_: EventType) -> dict[str, Any]:
    """One event of a job.

    Args:
        run: The job and what belongs to it.
        namespace: Of jobs and data sets.
        type_: Which event; anything but ``START`` is about a job that has ended.
    """
    job = run.job
    # A job that ended before a worker took it begins, for the lineage, when it was made.
    moment: datetime | None = job.started_at or job.created_at
    if type_ != "START":
        moment = job.finished_at
    assert moment is not None
    outputs = [_output(run, namespace)] if type_ != "START" and job.result is not None and run.files else []
    return {
        "eventType": type_,
        "eventTime": rfc3339(moment),
        "producer": PRODUCER,
        "schemaURL": RUN_EVENT,
        "run": {"runId": run_id(job.id), "facets": _run_facets(job, type_)},
        "job": {"namespace": namespace, "name": job.name or "selection", "facets": _job_facets()},
        "inputs": _inputs(run, namespace),
        "outputs": outputs,
    }


def _facet(kind: str, **fields: Any) -> dict[str, Any]:
    given = {name: value for name, value in fields.items() if value is not None}
    return {"_producer": PRODUCER, "_schemaURL": FACETS[kind], **given}


def _run_facets(job: Job, type_: EventType) -> dict[str, Any]:
    facets = {
        "executionParameters": _facet("executionParameters", parameters=_parameters(job.config)),
        "processing_engine": _facet("processing_engine", name="spice-select", version=__version__),
    }
    if job.parent is not None:
        facets["parent"] = _facet("parent", **_parent(job.parent))
    if job.metadata_:
        tags = [{"key": key, "value": value, "source": "USER"} for key, value in sorted(job.metadata_.items())]
        facets["tags"] = _facet("tags", tags=tags)
    if type_ == "FAIL" and job.error is not None:
        text = f"{job.error.get('code')}: {job.error.get('detail') or job.error.get('title')}"
        facets["errorMessage"] = _facet("errorMessage", message=text, programmingLanguage="PYTHON")
    return facets


def _parent(parent: Mapping[str, Any]) -> dict[str, Any]:
    facet: dict[str, Any] = {"run": {"runId": parent["run_id"]}, "job": dict(parent["job"])}
    root = parent.get("root")
    if root is not None:
        facet["root"] = {"run": {"runId": root["run_id"]}, "job": dict(root["job"])}
    return facet


def _parameters(config: Mapping[str, Any], prefix: str = "") -> list[dict[str, str]]:
    """The settings of a job, one entry for each that is set; long lists of rows by their length."""
    parameters: list[dict[str, str]] = []
    for key, value in config.items():
        name = f"{prefix}{key}"
        if isinstance(value, dict):
            parameters += _parameters(value, f"{name}.")
        elif isinstance(value, list):
            if value:
                parameters.append({"key": f"{name}.length", "value": str(len(value))})
        elif value is not None:
            parameters.append({"key": name, "value": value if isinstance(value, str) else json.dumps(value)})
    return parameters


def _job_facets() -> dict[str, Any]:
    return {
        "jobType": _facet("jobType", processingType="BATCH", integration="SPICE", jobType="JOB"),
        "sourceCodeLocation": _facet(
            "sourceCodeLocation", type="git", url=PRODUCER, repoUrl=HOME, version=find_code_commit()
        ),
    }


def _inputs(run: Run, namespace: str) -> list[dict[str, Any]]:
    proxy = run.job.config.get("proxy") or {}
    revision = (run.job.result or {}).get("proxy", {}).get("revision") or proxy.get("revision")
    model = {
        "namespace": namespace,
        "name": f"model/{proxy.get('model')}",
        "facets": {
            "datasetType": _facet("datasetType", datasetType="MODEL"),
            **({} if revision is None else {"version": _facet("version", datasetVersion=revision)}),
        },
    }
    datasets = [run.dataset] if run.target is None else [run.dataset, run.target]
    return [*(_input(dataset, namespace) for dataset in datasets), model]


def _input(dataset: Dataset, namespace: str) -> dict[str, Any]:
    statistics = _facet("inputStatistics", rowCount=dataset.num_rows, size=dataset.bytes, fileCount=1)
    return {
        "namespace": namespace,
        "name": dataset.id,
        "facets": {
            "version": _facet("version", datasetVersion=dataset.sha256),
            "dataSource": _facet("dataSource", name=dataset.name or dataset.id, uri=f"spice:dataset/{dataset.id}"),
            "datasetType": _facet("datasetType", datasetType="FILE"),
            "schema": _facet("schema", fields=_columns(dataset)),
            "storage": _facet("storage", storageLayer="file", fileFormat=dataset.container),
        },
        "inputFacets": {"inputStatistics": statistics},
    }


def _columns(dataset: Dataset) -> list[dict[str, str]]:
    return [{"name": str(name)} for name in dataset.column_names or []]


def _output(run: Run, namespace: str) -> dict[str, Any]:
    job, result = run.job, run.job.result or {}
    rows = next(file for file in run.files if file.name == "selected.parquet")
    certificate = result.get("certificate") or {}
    selection = job.config.get("selection") or {}
    statistics = _facet("outputStatistics", rowCount=result["selected"], size=rows.bytes, fileCount=len(run.files))
    return {
        "namespace": namespace,
        "name": f"{job.id}/{quote(rows.name)}",
        "facets": {
            "version": _facet("version", datasetVersion=rows.sha256),
            "dataSource": _facet("dataSource", name=job.name or job.id, uri=f"spice:job/{job.id}"),
            "datasetType": _facet("datasetType", datasetType="FILE"),
            "schema": _facet("schema", fields=_columns(run.dataset)),
            "storage": _facet("storage", storageLayer="file", fileFormat="parquet"),
            "spice_selection": _facet(
                "spice_selection",
                method=selection.get("method"),
                budget={name: value for name, value in (selection.get("budget") or {}).items() if value is not None},
                selected=result["selected"],
                pool=result["pool"],
                tokensSelected=result["tokens_selected"],
                tokensPool=result["tokens_pool"],
                utility=result.get("utility"),
                upperBound=certificate.get("upper_bound"),
                stopReason=result["stop_reason"],
                partial=job.partial,
                rowsSha256=run.dataset.rows_sha256,
            ),
        },
        "outputFacets": {"outputStatistics": statistics},
    }
