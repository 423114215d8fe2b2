"""The name of a set of gradients: two jobs with one fingerprint can share the computed gradients."""

from __future__ import annotations

from spice_select.config import GradientConfig, digest_of
from spice_select.version import GRADIENT_FORMAT


def gradient_fingerprint(*, rows_sha256: str, proxy_revision: str, config: GradientConfig) -> str:
    """Sha256 (hex) of everything that decides the gradients of a pool.

    The number of workers, the device and the budget are left out on purpose: none of them changes a gradient.

    Args:
        rows_sha256: Digest over the digests of the usable rows, in order.
        proxy_revision: Hub commit or content hash of the proxy model's folder.
        config: What is measured about each sample.
    """
    return digest_of(
        {
            "rows_sha256": rows_sha256,
            "proxy_revision": proxy_revision,
            "gradients": config.digest(),
            "format": GRADIENT_FORMAT,
        }
    )
