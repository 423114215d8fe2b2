"""``--target`` and ``--protect`` of the commands that submit a job: files are sent to the service first."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from spice_select.cli import datasets, options
from spice_select.errors import ConfigError

if TYPE_CHECKING:
    from spice_select.client import Client


def job_targets(
    client: Client,
    targets: Sequence[str] | None,
    weights: Sequence[str] | None,
    max_wait: float | None,
    *,
    quiet: bool,
    option: str = "--target",
) -> list[dict[str, Any]]:
    """``--target`` and ``--target-weight`` as a job's targets; files are sent first.

    Args:
        client: The service.
        targets: ``NAME=FILE``, a file alone, or ``NAME=ds_...`` for a data set that is there.
        weights: ``NAME=NUMBER``.
        max_wait: Seconds to wait for a file to be read.
        quiet: Whether no progress is shown.
        option: ``--target``, or ``--protect``, which has no weights.

    Raises:
        ConfigError: As ``options.target_files``.
    """
    from spice_select.client.answers import raise_failure

    there = {text: text.partition("=") for text in targets or () if text.partition("=")[2].startswith("ds_")}
    files = [text for text in targets or () if text not in there]
    names = {name for name, _, _ in there.values()}
    shares = options.pairs(weights, "--target-weight") or {}
    of_files = [f"{name}={number}" for name, number in shares.items() if name not in names]
    found = []
    for name, file, weight in options.target_files(files, of_files, option):
        dataset = datasets.wait_for(client, client.datasets.push(file), max_wait, quiet=quiet)
        if dataset.status != "ready":
            raise_failure(dataset, f"{option} {name}: data set {dataset.id} is {dataset.status}")
        found.append({"name": name, "dataset_id": dataset.id, "weight": weight})
    for name, _, dataset_id in there.values():
        try:
            weight = float(shares.get(name, 1.0))
        except ValueError:
            raise ConfigError(f"--target-weight {name}={shares[name]}: write NAME=NUMBER") from None
        found.append({"name": name, "dataset_id": dataset_id, "weight": weight})
    return found
