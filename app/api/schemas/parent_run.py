"""The run that a job is part of, in the words of OpenLineage."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from app.api.schemas.fields import Name
from spice_select.config import Model

RunId = Annotated[str, Field(pattern=r"^[0-9a-fA-F]{8}(-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}$")]
"""A UUID."""


class ParentJob(Model):
    """A job of an orchestrator: ``namespace`` is such as its address, ``name`` that of the task."""

    namespace: Name
    name: Name


class ParentRoot(Model):
    """The outermost run, where runs are nested deeper."""

    run_id: RunId
    job: ParentJob


class ParentRun(Model):
    """The run that started this job, such as the task of an orchestrator; in the OpenLineage events."""

    run_id: RunId
    job: ParentJob
    root: ParentRoot | None = None
