"""The ``periodic`` schedule of a selection: window by window, with the proxy model tuned on the way."""

from __future__ import annotations

from app.services.units.inputs import SelectInputs
from app.services.units.leases import Claim
from spice_select.pipeline.periodic import select_by_windows
from spice_select.pipeline.warmup import put_on_proxy
from spice_select.results.outcome import Choice
from spice_select.results.run_metadata import ProxyFacts
from workers.device import fitting_threads
from workers.heartbeat import Heartbeat
from workers.storage.checkpoints import StoredCheckpoints
from workers.storage.inputs import stored_warmup
from workers.units.resources import Resources, tunable
from workers.units.stored_selection import StoredSelection


def select_periodically(
    resources: Resources, claim: Claim, inputs: SelectInputs, storage: StoredSelection, heartbeat: Heartbeat
) -> tuple[Choice, ProxyFacts, str]:
    """Select window by window, continued from the last checkpoint.

    Args:
        resources: For the device, the proxy model and the stores.
        claim: The lease.
        inputs: What was asked for.
        storage: Where the rows are.
        heartbeat: Told the progress; says when to stop.

    Returns:
        The selection, the proxy model and the device it was tuned on.

    Raises:
        ArtifactsLostError: The warm-up has to be made again.
        ServiceError: ``proxy-changed`` or ``artifact-corrupt``.
        Stopped: The lease was lost while a checkpoint was written.
    """  # ruff: ignore[docstring-extraneous-exception] - raised by the steps below
    heartbeat.phase("loading_model")
    config = inputs.config
    revision = inputs.gradient_set.config["proxy_revision"]
    proxy = resources.load_alone(config.proxy, revision, tunable(config.gradients))
    if inputs.warmup is not None:
        put_on_proxy(proxy, stored_warmup(resources.store, claim.project_id, inputs.warmup), config.gradients)
    with fitting_threads(proxy.model):
        choice = select_by_windows(
            storage.rows_shards,
            proxy,
            config,
            checkpoints=StoredCheckpoints(resources.store, resources.units, claim, inputs),
            report=heartbeat,
            should_stop=heartbeat.stop_reason,
        )
    return choice, ProxyFacts.of(proxy), resources.device_name
