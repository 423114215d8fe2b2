"""What trackers of experiments are told of a finished job, whichever they are."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from spice_select.client.models import Dataset, File, Job
from spice_select.errors import ClientError

MOST_CHARACTERS = 6000
PREFIX = "spice."


@dataclass(frozen=True)
class FinishedJob:
    """What is logged of a job.

    Attributes:
        job: A job with a result.
        files: Its files.
        dataset: The data set it selected from.
        url: Makes the address of a path of the service.
    """

    job: Job
    files: Sequence[File]
    dataset: Dataset
    url: Callable[[str], str]

    @property
    def selected_sha256(self) -> str:
        """Digest (hex) of ``selected.parquet``."""
        return next(file.sha256 for file in self.files if file.name == "selected.parquet")

    @property
    def selected_url(self) -> str:
        """Address of ``selected.parquet``."""
        return self.url(f"/v1/jobs/{self.job.id}/files/selected.parquet")


def require_result(job: Job, files: Sequence[File]) -> None:
    """Check that a job has something to log.

    Args:
        job: The job.
        files: Its files.

    Raises:
        ClientError: It has no result.
    """
    if job.result is None or not files:
        raise ClientError(f"{job.id} has no result: it is {job.status}", code="no-files")


def parameters(config: Mapping[str, Any], prefix: str = PREFIX) -> Iterator[tuple[str, str]]:
    """The settings of a job, each under its path with dots, as texts.

    Args:
        config: The settings.
        prefix: What the names begin with.
    """
    for key, value in config.items():
        if isinstance(value, Mapping):
            yield from parameters(value, f"{prefix}{key}.")
        elif value is not None and value != []:
            yield f"{prefix}{key}", str(value)[:MOST_CHARACTERS]


def metrics(job: Job) -> dict[str, float]:
    """The numbers of a result, under the names that every tracker gets.

    Args:
        job: A job with a result.
    """
    result = job.result
    assert result is not None
    certificate, control = result.certificate, result.random_control
    numbers: dict[str, float | None] = {
        "selected": result.selected,
        "pool": result.pool,
        "excluded": result.excluded,
        "truncated": result.truncated,
        "tokens_selected": result.tokens_selected,
        "tokens_pool": result.tokens_pool,
        "utility": result.utility,
        "utility_random": None if control is None else control.utility,
        "upper_bound": None if certificate is None else certificate.upper_bound,
        "proven_ratio": None if certificate is None else certificate.ratio,
        "first_gain": result.first_gain,
        "last_gain": result.last_gain,
        "mean_conflict": result.mean_conflict,
        **{f"seconds_{name}": value for name, value in result.seconds.items()},
    }
    return {f"{PREFIX}{name}": float(value) for name, value in numbers.items() if value is not None}
