"""Download a file: a broken connection costs only what was on the way, and wrong bytes never get the file's name."""

from __future__ import annotations

from pathlib import Path

from spice_select.client._async.transport import AsyncTransport
from spice_select.client.models import File
from spice_select.client.partial_file import OnFileBytes, PartialFile, sha256_of
from spice_select.errors import ClientError, ConnectionFailedError


async def download_file(
    transport: AsyncTransport, path: str, file: File, target: Path, on_bytes: OnFileBytes | None
) -> Path:
    """Download one file, continuing where a broken connection left off, and check its digest before it gets its name.

    What has come lies beside the target under a name that holds the digest, so that a later call continues with it
    and never with the bytes of another file.

    Args:
        transport: The way to the service.
        path: Path below the base URL.
        file: What the service says about it.
        target: Where it goes.
        on_bytes: Called with the bytes so far, after each piece.

    Raises:
        ClientError: The bytes do not have the digest that the service states.
    """
    if target.exists() and target.stat().st_size == file.bytes and sha256_of(target) == file.sha256:
        return target
    partial = target.with_name(f".{target.name}.{file.sha256[:16]}.partial")
    while True:
        with partial.open("ab") as sink:
            earlier = sink.tell()
            if earlier < file.bytes:
                await _append(transport, path, PartialFile(sink, file, on_bytes))
        digest = sha256_of(partial)
        if digest == file.sha256:
            partial.replace(target)
            return target
        partial.unlink()
        if not earlier:
            raise ClientError(
                f"{file.name}: the bytes received have sha256 {digest}, not {file.sha256}",
                code="digest-mismatch",
                retryable=True,
            )
        # Part of it came from an earlier call: once more, from the start.


async def _append(transport: AsyncTransport, path: str, into: PartialFile) -> None:
    """Get the rest; retries start anew whenever some bytes have come.

    Raises:
        ConnectionFailedError: Nothing came, however often it was tried.
    """
    while True:
        reached = into.size
        try:
            await transport.send("GET", path, into=into)
            return
        except ConnectionFailedError:
            if into.size <= reached:
                raise
