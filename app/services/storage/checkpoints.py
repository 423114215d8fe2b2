"""Checkpoints of periodic jobs that have ended."""

from __future__ import annotations

import shutil

from app.persistence.repositories import Jobs
from app.persistence.session import Database
from app.storage import ArtifactStore


def sweep_checkpoints(database: Database, store: ArtifactStore) -> int:
    """Remove the checkpoints of jobs that have ended; how many folders went.

    Args:
        database: Where the records are.
        store: Where the folders are.
    """
    folders = store.checkpoint_folders()
    if not folders:
        return 0
    with database.read() as session:
        ended = set(folders) - Jobs(session).active_among(folders)
    for job_id in ended:
        shutil.rmtree(store.checkpoints(job_id), ignore_errors=True)
    return len(ended)
