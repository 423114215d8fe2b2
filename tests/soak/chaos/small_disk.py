"""PostgreSQL on a file system of its own that can be filled: tmpfs, which only root may mount."""

from __future__ import annotations

import subprocess

import pytest

from tests.fixtures.servers import PostgresServer

DISK_MEBIBYTES = 192


class PostgresOnSmallDisk(PostgresServer):
    """A server whose disk ``fill`` fills and ``clear`` clears."""

    def __init__(self, *, durable: bool = False) -> None:
        super().__init__(durable=durable)
        done = subprocess.run(
            ["mount", "-t", "tmpfs", "-o", f"size={DISK_MEBIBYTES}m,mode=0700", "tmpfs", str(self.folder)],
            capture_output=True, text=True, check=False,
        )  # fmt: skip
        if done.returncode != 0:
            self.folder.rmdir()
            pytest.skip(f"no file system can be mounted here: {done.stderr.strip()}")
        self.account.owns(self.folder)

    def fill(self) -> None:
        """Leave no free byte."""
        with (self.folder / "filler").open("wb", buffering=0) as filler:
            for block in (2**20, 4096, 1):
                try:
                    while True:
                        filler.write(bytes(block))
                except OSError:
                    continue

    def clear(self) -> None:
        """Give the space back."""
        (self.folder / "filler").unlink()

    def close(self) -> None:
        """Stop it and take its file system away."""
        try:
            self.stop()
        finally:
            subprocess.run(["umount", "--lazy", str(self.folder)], check=False)
            super().close()
