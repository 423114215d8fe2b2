"""A job in a run of Weights & Biases, Trackio or TensorBoard, through their own packages."""

from __future__ import annotations

import importlib.util
import time
from collections.abc import Callable
from pathlib import Path
from typing import Literal

from spice_select.client.finished_job import FinishedJob, metrics, parameters
from spice_select.errors import ConfigError

TrackerName = Literal["wandb", "trackio", "tensorboard"]
PROJECT = "spice-select"
Log = Callable[[FinishedJob, str | None, str], str]


def tracker(name: TrackerName) -> Log:
    """What logs a finished job, with its downloaded files, to a project or a folder.

    Args:
        name: Which tracker.

    Returns:
        A function of the job, the folder of its files (None stores none) and the project, which gives the run.

    Raises:
        ConfigError: There is none of this name, or its package is not installed.
    """
    if name not in TRACKERS:
        raise ConfigError(f"no tracker {name}: there are {', '.join(TRACKERS)}, and log_to_mlflow()")
    if importlib.util.find_spec(name) is None:
        raise ConfigError(f"{name} is not installed here: pip install {name}")
    return TRACKERS[name]


def _wandb(finished: FinishedJob, folder: str | None, project: str) -> str:
    """Into the active run, else one that is opened and closed here; the rows are an artifact of type ``dataset``."""
    import wandb

    job = finished.job
    run, opened = wandb.run, None
    if run is None:
        run = opened = wandb.init(project=project, name=job.name or job.id, job_type="selection")
    try:
        run.config.update(dict(parameters(job.config)), allow_val_change=True)
        run.summary.update(metrics(job))
        about = {"job_id": job.id, "dataset_id": finished.dataset.id, "sha256": finished.selected_sha256}
        rows = wandb.Artifact(f"spice-{job.id}", type="dataset", metadata={**about, "url": finished.selected_url})
        if folder is None:
            rows.add_reference(finished.selected_url, name="selected.parquet", checksum=False)
        else:
            rows.add_dir(folder)
        run.log_artifact(rows)
        return str(run.id)
    finally:
        if opened is not None:
            opened.finish()


def _trackio(finished: FinishedJob, _folder: str | None, project: str) -> str:
    """A run of its own: Trackio takes settings only when a run begins. Its files stay where they are."""
    import trackio

    job = finished.job
    about = {"spice.job_id": job.id, "spice.selected_sha256": finished.selected_sha256}
    run = trackio.init(project=project, name=job.name or job.id, config={**dict(parameters(job.config)), **about})
    try:
        trackio.log(metrics(job))
    finally:
        trackio.finish()
    return str(run.name)


def _tensorboard(finished: FinishedJob, _folder: str | None, project: str) -> str:
    """An event file below the folder: numbers as scalars of step 0, settings and digests as a text."""
    from tensorboard.compat.proto.event_pb2 import Event
    from tensorboard.compat.proto.summary_pb2 import Summary, SummaryMetadata
    from tensorboard.compat.proto.tensor_pb2 import TensorProto
    from tensorboard.compat.proto.tensor_shape_pb2 import TensorShapeProto
    from tensorboard.compat.proto.types_pb2 import DT_STRING
    from tensorboard.summary.writer.event_file_writer import EventFileWriter

    job, place = finished.job, Path(project) / finished.job.id
    facts = {**dict(parameters(job.config)), "spice.selected_sha256": finished.selected_sha256}
    lines = ["| setting | value |", "|---|---|", *(f"| {name} | {value} |" for name, value in facts.items())]
    text = TensorProto(dtype=DT_STRING, string_val=["\n".join(lines).encode()])
    text.tensor_shape.CopyFrom(TensorShapeProto(dim=[TensorShapeProto.Dim(size=1)]))
    shown = SummaryMetadata(plugin_data=SummaryMetadata.PluginData(plugin_name="text"))
    values = [Summary.Value(tag=name, simple_value=value) for name, value in metrics(job).items()]
    values.append(Summary.Value(tag="spice.settings", metadata=shown, tensor=text))
    writer = EventFileWriter(str(place))
    writer.add_event(Event(wall_time=time.time(), step=0, summary=Summary(value=values)))
    writer.close()
    return str(place)


TRACKERS: dict[str, Log] = {"wandb": _wandb, "trackio": _trackio, "tensorboard": _tensorboard}
