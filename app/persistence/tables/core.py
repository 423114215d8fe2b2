"""Tables of projects, data sets, gradients, jobs and their units of work, and what all tables build on."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from sqlalchemy import BigInteger, Boolean, Float, ForeignKey, Index, Integer, MetaData, UniqueConstraint, false
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

from app.persistence.types import Instant, SafeJSON, SafeString, SafeText

Big = BigInteger().with_variant(Integer, "sqlite")  # SQLite numbers rows only in a column of this exact type
Id = SafeString(40)
Sha256 = SafeString(64)
Word = SafeString(40)


class Base(DeclarativeBase):
    """Base of the tables; constraints have names so that migrations can drop them."""

    metadata = MetaData(
        naming_convention={
            "ix": "ix_%(table_name)s_%(column_0_N_name)s",
            "uq": "uq_%(table_name)s_%(column_0_N_name)s",
            "fk": "fk_%(table_name)s_%(column_0_N_name)s",
            "pk": "pk_%(table_name)s",
        }
    )
    type_annotation_map = {  # ruff: ignore[mutable-class-default]  (SQLAlchemy reads it from the class)
        str: SafeText,
        dict[str, Any]: SafeJSON,
        list[Any]: SafeJSON,
        datetime: Instant,
        int: Integer,
        float: Float(53),
    }


class Project(Base):
    """Owner of everything else."""

    __tablename__ = "project"

    id: Mapped[str] = mapped_column(Id, primary_key=True)
    name: Mapped[str]
    max_running_units: Mapped[int | None]
    served_at: Mapped[datetime | None]
    """When a unit of it was last claimed: among equals the project that has waited longest is next."""
    created_at: Mapped[datetime]


class ApiKey(Base):
    """A credential of a project: only the first characters and a digest of it are kept."""

    __tablename__ = "api_key"
    __table_args__ = (Index("ix_api_key_prefix", "prefix"), Index("ix_api_key_project_id_id", "project_id", "id"))

    id: Mapped[str] = mapped_column(Id, primary_key=True)
    project_id: Mapped[str] = mapped_column(ForeignKey("project.id"))
    name: Mapped[str]
    prefix: Mapped[str] = mapped_column(Word)
    sha256: Mapped[str] = mapped_column(Sha256)
    scopes: Mapped[list[Any]]
    created_at: Mapped[datetime]
    expires_at: Mapped[datetime | None]
    revoked_at: Mapped[datetime | None]
    last_used_at: Mapped[datetime | None]


class EndedSession(Base):
    """A session of the page that was ended before its time. Of no project."""

    __tablename__ = "ended_session"

    id: Mapped[str] = mapped_column(Id, primary_key=True)
    until: Mapped[datetime]
    """When it would have ended by itself; afterwards the row means nothing."""


class IdempotencyKey(Base):
    """A key a client gave with a POST, and the resource the call made."""

    __tablename__ = "idempotency_key"

    project_id: Mapped[str] = mapped_column(ForeignKey("project.id"), primary_key=True)
    operation: Mapped[str] = mapped_column(SafeString(60), primary_key=True)
    key: Mapped[str] = mapped_column(SafeString(255), primary_key=True)
    request_sha256: Mapped[str] = mapped_column(Sha256)
    resource_id: Mapped[str] = mapped_column(Id)
    created_at: Mapped[datetime]


class DeletedId(Base):
    """The id of something deleted: deleting it again succeeds, while an unknown id is not found."""

    __tablename__ = "deleted_id"

    project_id: Mapped[str] = mapped_column(ForeignKey("project.id"), primary_key=True)
    id: Mapped[str] = mapped_column(Id, primary_key=True)
    deleted_at: Mapped[datetime]


class DataFolder(Base):
    """The name of the data folder that the API keeps its files in: one row. Of no project."""

    __tablename__ = "data_folder"

    number: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    name: Mapped[str] = mapped_column(Sha256)
    recorded_at: Mapped[datetime]


class Dataset(Base):
    """A registered data set; immutable once ready."""

    __tablename__ = "dataset"
    __table_args__ = (
        Index("ix_dataset_project_id_id", "project_id", "id"),
        Index("ix_dataset_project_id_name_id", "project_id", "name", "id"),
        Index("ix_dataset_project_id_rows_sha256", "project_id", "rows_sha256"),
    )

    id: Mapped[str] = mapped_column(Id, primary_key=True)
    project_id: Mapped[str] = mapped_column(ForeignKey("project.id"))
    name: Mapped[str | None]
    status: Mapped[str] = mapped_column(Word)
    bytes: Mapped[int] = mapped_column(BigInteger)
    sha256: Mapped[str] = mapped_column(Sha256)
    requested: Mapped[dict[str, Any]]
    # Made by the service for a job: lists leave it out, and it goes with the last job that needs it.
    internal: Mapped[bool] = mapped_column(Boolean, server_default=false(), default=False)
    # Where it is fetched from, and what that was when it was: until then ``sha256`` is empty and ``bytes`` is 0.
    source: Mapped[dict[str, Any] | None]
    resolved_source: Mapped[dict[str, Any] | None]
    # The data set whose rows, in their order, are the first of this one.
    appended_to: Mapped[str | None] = mapped_column(ForeignKey("dataset.id"))
    container: Mapped[str | None] = mapped_column(Word)
    compression: Mapped[str | None] = mapped_column(Word)
    format: Mapped[str | None] = mapped_column(Word)
    columns: Mapped[dict[str, Any] | None]
    column_names: Mapped[list[Any] | None]
    rows_sha256: Mapped[str | None] = mapped_column(Sha256)
    num_rows: Mapped[int | None]
    num_usable: Mapped[int | None]
    num_rejected: Mapped[int | None]
    rejected: Mapped[dict[str, Any] | None]
    warnings: Mapped[list[Any] | None]
    shards: Mapped[list[Any] | None]
    source_shards: Mapped[list[Any] | None]
    error: Mapped[dict[str, Any] | None]
    metadata_: Mapped[dict[str, Any]] = mapped_column("metadata")
    created_at: Mapped[datetime]
    ready_at: Mapped[datetime | None]
    deleted_at: Mapped[datetime | None]
    version: Mapped[int] = mapped_column(default=1)


class RejectedRow(Base):
    """A row of a data set that cannot be used, and why."""

    __tablename__ = "rejected_row"

    dataset_id: Mapped[str] = mapped_column(ForeignKey("dataset.id"), primary_key=True)
    row: Mapped[int] = mapped_column(BigInteger, primary_key=True, autoincrement=False)
    code: Mapped[str] = mapped_column(Word)
    detail: Mapped[str]


class GradientSet(Base):
    """The gradients of one pool under one proxy and one setting; shared by every job that asks for the same.

    That of the schedule ``periodic`` has no shards: its gradients exist only while its windows are chosen from.
    """

    __tablename__ = "gradient_set"
    __table_args__ = (
        UniqueConstraint("project_id", "fingerprint"),
        Index("ix_gradient_set_warmup_unit_id", "warmup_unit_id"),
        Index("ix_gradient_set_prefilter_unit_id", "prefilter_unit_id"),
    )

    id: Mapped[str] = mapped_column(Id, primary_key=True)
    project_id: Mapped[str] = mapped_column(ForeignKey("project.id"))
    fingerprint: Mapped[str] = mapped_column(Sha256)
    dataset_id: Mapped[str] = mapped_column(ForeignKey("dataset.id"))
    # The units that warm the proxy model up for it, and that say which rows get gradients; no foreign keys, as units
    # refer to gradient sets.
    warmup_unit_id: Mapped[str | None] = mapped_column(Id)
    prefilter_unit_id: Mapped[str | None] = mapped_column(Id)
    config: Mapped[dict[str, Any]]
    status: Mapped[str] = mapped_column(Word)
    num_shards: Mapped[int]
    num_samples: Mapped[int]
    error: Mapped[dict[str, Any] | None]
    created_at: Mapped[datetime]
    ready_at: Mapped[datetime | None]


class Job(Base):
    """A request to choose part of a data set, and what came of it."""

    __tablename__ = "job"
    __table_args__ = (
        Index("ix_job_project_id_id", "project_id", "id"),
        Index("ix_job_project_id_name_id", "project_id", "name", "id"),
        Index("ix_job_project_id_status_id", "project_id", "status", "id"),
        Index("ix_job_status_id", "status", "id"),
        Index("ix_job_gradient_set_id_status", "gradient_set_id", "status"),
        Index("ix_job_dataset_id_status", "dataset_id", "status"),
        Index("ix_job_target_gradient_set_id_status", "target_gradient_set_id", "status"),
    )

    id: Mapped[str] = mapped_column(Id, primary_key=True)
    project_id: Mapped[str] = mapped_column(ForeignKey("project.id"))
    name: Mapped[str | None]
    dataset_id: Mapped[str] = mapped_column(ForeignKey("dataset.id"))
    gradient_set_id: Mapped[str] = mapped_column(ForeignKey("gradient_set.id"))
    # No foreign key: writing the row then locks nothing in the other table.
    target_dataset_id: Mapped[str | None] = mapped_column(Id)
    target_gradient_set_id: Mapped[str | None] = mapped_column(Id)
    gradients_reused: Mapped[bool] = mapped_column(Boolean, server_default=false())
    status: Mapped[str] = mapped_column(Word)
    priority: Mapped[int] = mapped_column(server_default="0", default=0)
    stop_requested: Mapped[str | None] = mapped_column(Word)
    config: Mapped[dict[str, Any]]
    estimate: Mapped[dict[str, Any] | None]
    metadata_: Mapped[dict[str, Any]] = mapped_column("metadata")
    parent: Mapped[dict[str, Any] | None]
    retry_of: Mapped[str | None] = mapped_column(Id)
    traceparent: Mapped[str | None] = mapped_column(SafeString(60))
    partial: Mapped[bool] = mapped_column(Boolean, server_default=false())
    result: Mapped[dict[str, Any] | None]
    error: Mapped[dict[str, Any] | None]
    created_at: Mapped[datetime]
    started_at: Mapped[datetime | None]
    cancelling_at: Mapped[datetime | None]
    finished_at: Mapped[datetime | None]
    deadline_at: Mapped[datetime | None]
    deleted_at: Mapped[datetime | None]
    version: Mapped[int] = mapped_column(default=1)


class SelectedSample(Base):
    """One row that a job selected: the fields of ``spice_select.results.selected_sample``, and its job."""

    __tablename__ = "selected_sample"

    job_id: Mapped[str] = mapped_column(ForeignKey("job.id"), primary_key=True)
    rank: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    source_row: Mapped[int] = mapped_column(BigInteger)
    row_sha256: Mapped[str] = mapped_column(Sha256)
    gain: Mapped[float]
    base_gain: Mapped[float]
    epsilon: Mapped[float]
    conflict: Mapped[float]
    score: Mapped[float]
    tokens: Mapped[int]
    target: Mapped[str | None]
    relevance: Mapped[float | None]
    nearest_target: Mapped[str | None]
    nearest_target_row: Mapped[int | None] = mapped_column(BigInteger)
    nearest_target_cosine: Mapped[float | None]
    nearest_pick: Mapped[int | None] = mapped_column(BigInteger)
    nearest_pick_cosine: Mapped[float | None]


class Evaluation(Base):
    """A request to compare training on a selection with training on controls, and its result."""

    __tablename__ = "evaluation"
    __table_args__ = (
        Index("ix_evaluation_project_id_id", "project_id", "id"),
        Index("ix_evaluation_job_id_id", "job_id", "id"),
        Index("ix_evaluation_status_id", "status", "id"),
    )

    id: Mapped[str] = mapped_column(Id, primary_key=True)
    project_id: Mapped[str] = mapped_column(ForeignKey("project.id"))
    job_id: Mapped[str] = mapped_column(ForeignKey("job.id"))
    dataset_id: Mapped[str] = mapped_column(ForeignKey("dataset.id"))
    # None: the rows that the job excludes.
    holdout_dataset_id: Mapped[str | None] = mapped_column(ForeignKey("dataset.id"))
    name: Mapped[str | None]
    status: Mapped[str] = mapped_column(Word)
    model: Mapped[dict[str, Any]]
    model_revision: Mapped[str]
    config: Mapped[dict[str, Any]]
    group_column: Mapped[str | None]
    max_length: Mapped[int]
    metadata_: Mapped[dict[str, Any]] = mapped_column("metadata")
    result: Mapped[dict[str, Any] | None]
    error: Mapped[dict[str, Any] | None]
    created_at: Mapped[datetime]
    started_at: Mapped[datetime | None]
    finished_at: Mapped[datetime | None]
    version: Mapped[int] = mapped_column(default=1)


class Unit(Base):
    """A piece of work that one worker does under a lease: a data set, warm-up, shard, selection or training."""

    __tablename__ = "unit"
    __table_args__ = (
        UniqueConstraint("gradient_set_id", "job_id", "shard"),
        Index("ix_unit_state_not_before", "state", "not_before"),
        Index("ix_unit_job_id", "job_id"),
        Index("ix_unit_dataset_id", "dataset_id"),
        Index("ix_unit_project_id_fingerprint", "project_id", "fingerprint"),
        Index("ix_unit_evaluation_id_kind_shard", "evaluation_id", "kind", "shard", unique=True),
    )

    id: Mapped[str] = mapped_column(Id, primary_key=True)
    project_id: Mapped[str] = mapped_column(ForeignKey("project.id"))
    kind: Mapped[str] = mapped_column(Word)
    dataset_id: Mapped[str] = mapped_column(ForeignKey("dataset.id"))
    gradient_set_id: Mapped[str | None] = mapped_column(ForeignKey("gradient_set.id"))
    job_id: Mapped[str | None] = mapped_column(ForeignKey("job.id"))
    # No foreign key: writing the row then locks nothing in the other table.
    evaluation_id: Mapped[str | None] = mapped_column(Id)
    shard: Mapped[int | None]
    fingerprint: Mapped[str | None] = mapped_column(Sha256)
    state: Mapped[str] = mapped_column(Word)
    generation: Mapped[int] = mapped_column(default=1)
    epoch: Mapped[int] = mapped_column(default=0)
    attempts: Mapped[int] = mapped_column(default=0)
    lost_leases: Mapped[int] = mapped_column(default=0)
    owner: Mapped[str | None]
    lease_until: Mapped[datetime | None]
    not_before: Mapped[datetime]
    notified_at: Mapped[datetime | None]
    phase: Mapped[str | None] = mapped_column(Word)
    completed: Mapped[int] = mapped_column(default=0)
    total: Mapped[int] = mapped_column(default=0)
    measure: Mapped[str | None] = mapped_column(Word)
    rate: Mapped[float | None]
    # While gradients are taken: tokens per second, and bytes that the worker holds on its device.
    token_rate: Mapped[float | None]
    memory_bytes: Mapped[int | None] = mapped_column(BigInteger)
    # What a choice by windows can be continued from: digests of the files it left behind.
    checkpoint: Mapped[dict[str, Any] | None]
    error: Mapped[dict[str, Any] | None]
    schema_version: Mapped[int] = mapped_column(default=1)
    created_at: Mapped[datetime]
    started_at: Mapped[datetime | None]
    heartbeat_at: Mapped[datetime | None]
    finished_at: Mapped[datetime | None]


class UnitCommit(Base):
    """What a unit produced; written once per generation, never changed."""

    __tablename__ = "unit_commit"
    __table_args__ = (Index("ix_unit_commit_artifact_sha256", "artifact_sha256"),)

    unit_id: Mapped[str] = mapped_column(ForeignKey("unit.id"), primary_key=True)
    generation: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    epoch: Mapped[int]
    owner: Mapped[str]
    artifact_sha256: Mapped[str | None] = mapped_column(Sha256)
    result: Mapped[dict[str, Any]]
    committed_at: Mapped[datetime]


class UnitLogLine(Base):
    """One line of what a worker did with a unit; append-only, removed with its job or when it is old."""

    __tablename__ = "unit_log"
    __table_args__ = (
        Index("ix_unit_log_unit_id_created_at", "unit_id", "created_at"),
        Index("ix_unit_log_created_at", "created_at"),
    )

    id: Mapped[str] = mapped_column(Id, primary_key=True)
    unit_id: Mapped[str] = mapped_column(ForeignKey("unit.id"))
    project_id: Mapped[str] = mapped_column(ForeignKey("project.id"))
    attempt: Mapped[int]
    worker: Mapped[str | None]
    level: Mapped[str] = mapped_column(Word)
    code: Mapped[str] = mapped_column(Word)
    message: Mapped[str]
    data: Mapped[dict[str, Any]]
    created_at: Mapped[datetime]


class Worker(Base):
    """A worker process and its memory; it registers again and again while it lives. Of no project."""

    __tablename__ = "worker"

    name: Mapped[str] = mapped_column(primary_key=True)
    device_bytes: Mapped[int] = mapped_column(BigInteger)
    host_bytes: Mapped[int] = mapped_column(BigInteger)
    is_bfloat16_fast: Mapped[bool]
    seen_at: Mapped[datetime]
