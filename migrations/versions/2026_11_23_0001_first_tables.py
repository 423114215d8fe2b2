"""first tables

Revision: 0001
Revises:
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

JSON = sa.JSON(none_as_null=True).with_variant(postgresql.JSONB(none_as_null=True), "postgresql")

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "project",
        sa.Column("id", sa.String(length=40), nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_project")),
    )
    op.execute("INSERT INTO project (id, name, created_at) VALUES ('proj_default', 'default', CURRENT_TIMESTAMP)")
    op.create_table(
        "dataset",
        sa.Column("id", sa.String(length=40), nullable=False),
        sa.Column("project_id", sa.String(length=40), nullable=False),
        sa.Column("name", sa.Text(), nullable=True),
        sa.Column("status", sa.String(length=40), nullable=False),
        sa.Column("bytes", sa.BigInteger(), nullable=False),
        sa.Column("sha256", sa.String(length=64), nullable=False),
        sa.Column("requested", JSON, nullable=False),
        sa.Column("container", sa.String(length=40), nullable=True),
        sa.Column("compression", sa.String(length=40), nullable=True),
        sa.Column("format", sa.String(length=40), nullable=True),
        sa.Column("columns", JSON, nullable=True),
        sa.Column("column_names", JSON, nullable=True),
        sa.Column("rows_sha256", sa.String(length=64), nullable=True),
        sa.Column("num_rows", sa.Integer(), nullable=True),
        sa.Column("num_usable", sa.Integer(), nullable=True),
        sa.Column("num_rejected", sa.Integer(), nullable=True),
        sa.Column("rejected", JSON, nullable=True),
        sa.Column("warnings", JSON, nullable=True),
        sa.Column("shards", JSON, nullable=True),
        sa.Column("source_shards", JSON, nullable=True),
        sa.Column("error", JSON, nullable=True),
        sa.Column("metadata", JSON, nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("ready_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("deleted_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("version", sa.Integer(), nullable=False),
        sa.ForeignKeyConstraint(["project_id"], ["project.id"], name=op.f("fk_dataset_project_id")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_dataset")),
    )
    op.create_index("ix_dataset_project_id_id", "dataset", ["project_id", "id"], unique=False)
    op.create_index("ix_dataset_project_id_rows_sha256", "dataset", ["project_id", "rows_sha256"], unique=False)

    op.create_table(
        "idempotency_key",
        sa.Column("project_id", sa.String(length=40), nullable=False),
        sa.Column("operation", sa.String(length=60), nullable=False),
        sa.Column("key", sa.String(length=255), nullable=False),
        sa.Column("request_sha256", sa.String(length=64), nullable=False),
        sa.Column("resource_id", sa.String(length=40), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.ForeignKeyConstraint(["project_id"], ["project.id"], name=op.f("fk_idempotency_key_project_id")),
        sa.PrimaryKeyConstraint("project_id", "operation", "key", name=op.f("pk_idempotency_key")),
    )
    op.create_table(
        "gradient_set",
        sa.Column("id", sa.String(length=40), nullable=False),
        sa.Column("project_id", sa.String(length=40), nullable=False),
        sa.Column("fingerprint", sa.String(length=64), nullable=False),
        sa.Column("dataset_id", sa.String(length=40), nullable=False),
        sa.Column("config", JSON, nullable=False),
        sa.Column("status", sa.String(length=40), nullable=False),
        sa.Column("num_shards", sa.Integer(), nullable=False),
        sa.Column("num_samples", sa.Integer(), nullable=False),
        sa.Column("error", JSON, nullable=True),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("ready_at", sa.DateTime(timezone=True), nullable=True),
        sa.ForeignKeyConstraint(["dataset_id"], ["dataset.id"], name=op.f("fk_gradient_set_dataset_id")),
        sa.ForeignKeyConstraint(["project_id"], ["project.id"], name=op.f("fk_gradient_set_project_id")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_gradient_set")),
        sa.UniqueConstraint("project_id", "fingerprint", name=op.f("uq_gradient_set_project_id_fingerprint")),
    )
    op.create_table(
        "rejected_row",
        sa.Column("dataset_id", sa.String(length=40), nullable=False),
        sa.Column("row", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("code", sa.String(length=40), nullable=False),
        sa.Column("detail", sa.Text(), nullable=False),
        sa.ForeignKeyConstraint(["dataset_id"], ["dataset.id"], name=op.f("fk_rejected_row_dataset_id")),
        sa.PrimaryKeyConstraint("dataset_id", "row", name=op.f("pk_rejected_row")),
    )
    op.create_table(
        "job",
        sa.Column("id", sa.String(length=40), nullable=False),
        sa.Column("project_id", sa.String(length=40), nullable=False),
        sa.Column("name", sa.Text(), nullable=True),
        sa.Column("dataset_id", sa.String(length=40), nullable=False),
        sa.Column("gradient_set_id", sa.String(length=40), nullable=False),
        sa.Column("gradients_reused", sa.Boolean(), server_default=sa.false(), nullable=False),
        sa.Column("status", sa.String(length=40), nullable=False),
        sa.Column("stop_requested", sa.String(length=40), nullable=True),
        sa.Column("config", JSON, nullable=False),
        sa.Column("metadata", JSON, nullable=False),
        sa.Column("partial", sa.Boolean(), server_default=sa.false(), nullable=False),
        sa.Column("result", JSON, nullable=True),
        sa.Column("error", JSON, nullable=True),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("started_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("cancelling_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("finished_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("deadline_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("version", sa.Integer(), nullable=False),
        sa.ForeignKeyConstraint(["dataset_id"], ["dataset.id"], name=op.f("fk_job_dataset_id")),
        sa.ForeignKeyConstraint(["gradient_set_id"], ["gradient_set.id"], name=op.f("fk_job_gradient_set_id")),
        sa.ForeignKeyConstraint(["project_id"], ["project.id"], name=op.f("fk_job_project_id")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_job")),
    )
    op.create_index("ix_job_dataset_id_status", "job", ["dataset_id", "status"], unique=False)
    op.create_index("ix_job_gradient_set_id_status", "job", ["gradient_set_id", "status"], unique=False)
    op.create_index("ix_job_project_id_id", "job", ["project_id", "id"], unique=False)
    op.create_index("ix_job_project_id_status_id", "job", ["project_id", "status", "id"], unique=False)

    op.create_table(
        "event",
        sa.Column("id", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), autoincrement=True, nullable=False),
        sa.Column("project_id", sa.String(length=40), nullable=False),
        sa.Column("job_id", sa.String(length=40), nullable=True),
        sa.Column("dataset_id", sa.String(length=40), nullable=True),
        sa.Column("type", sa.String(length=40), nullable=False),
        sa.Column("data", JSON, nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.ForeignKeyConstraint(["dataset_id"], ["dataset.id"], name=op.f("fk_event_dataset_id")),
        sa.ForeignKeyConstraint(["job_id"], ["job.id"], name=op.f("fk_event_job_id")),
        sa.ForeignKeyConstraint(["project_id"], ["project.id"], name=op.f("fk_event_project_id")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_event")),
    )
    op.create_index("ix_event_dataset_id_id", "event", ["dataset_id", "id"], unique=False)
    op.create_index("ix_event_job_id_id", "event", ["job_id", "id"], unique=False)

    op.create_table(
        "file",
        sa.Column("job_id", sa.String(length=40), nullable=False),
        sa.Column("name", sa.String(length=200), nullable=False),
        sa.Column("project_id", sa.String(length=40), nullable=False),
        sa.Column("position", sa.Integer(), nullable=False),
        sa.Column("media_type", sa.String(length=100), nullable=False),
        sa.Column("bytes", sa.BigInteger(), nullable=False),
        sa.Column("sha256", sa.String(length=64), nullable=False),
        sa.ForeignKeyConstraint(["job_id"], ["job.id"], name=op.f("fk_file_job_id")),
        sa.ForeignKeyConstraint(["project_id"], ["project.id"], name=op.f("fk_file_project_id")),
        sa.PrimaryKeyConstraint("job_id", "name", name=op.f("pk_file")),
    )
    op.create_table(
        "selected_sample",
        sa.Column("job_id", sa.String(length=40), nullable=False),
        sa.Column("rank", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("source_row", sa.BigInteger(), nullable=False),
        sa.Column("row_sha256", sa.String(length=64), nullable=False),
        sa.Column("gain", sa.Float(precision=53), nullable=False),
        sa.Column("base_gain", sa.Float(precision=53), nullable=False),
        sa.Column("epsilon", sa.Float(precision=53), nullable=False),
        sa.Column("conflict", sa.Float(precision=53), nullable=False),
        sa.Column("score", sa.Float(precision=53), nullable=False),
        sa.Column("tokens", sa.Integer(), nullable=False),
        sa.ForeignKeyConstraint(["job_id"], ["job.id"], name=op.f("fk_selected_sample_job_id")),
        sa.PrimaryKeyConstraint("job_id", "rank", name=op.f("pk_selected_sample")),
    )
    op.create_table(
        "unit",
        sa.Column("id", sa.String(length=40), nullable=False),
        sa.Column("project_id", sa.String(length=40), nullable=False),
        sa.Column("kind", sa.String(length=40), nullable=False),
        sa.Column("dataset_id", sa.String(length=40), nullable=False),
        sa.Column("gradient_set_id", sa.String(length=40), nullable=True),
        sa.Column("job_id", sa.String(length=40), nullable=True),
        sa.Column("shard", sa.Integer(), nullable=True),
        sa.Column("state", sa.String(length=40), nullable=False),
        sa.Column("generation", sa.Integer(), nullable=False),
        sa.Column("epoch", sa.Integer(), nullable=False),
        sa.Column("attempts", sa.Integer(), nullable=False),
        sa.Column("strikes", sa.Integer(), nullable=False),
        sa.Column("owner", sa.Text(), nullable=True),
        sa.Column("lease_until", sa.DateTime(timezone=True), nullable=True),
        sa.Column("not_before", sa.DateTime(timezone=True), nullable=False),
        sa.Column("rung_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("phase", sa.String(length=40), nullable=True),
        sa.Column("completed", sa.Integer(), nullable=False),
        sa.Column("total", sa.Integer(), nullable=False),
        sa.Column("measure", sa.String(length=40), nullable=True),
        sa.Column("rate", sa.Float(precision=53), nullable=True),
        sa.Column("error", JSON, nullable=True),
        sa.Column("schema_version", sa.Integer(), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("started_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("heartbeat_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("finished_at", sa.DateTime(timezone=True), nullable=True),
        sa.ForeignKeyConstraint(["dataset_id"], ["dataset.id"], name=op.f("fk_unit_dataset_id")),
        sa.ForeignKeyConstraint(["gradient_set_id"], ["gradient_set.id"], name=op.f("fk_unit_gradient_set_id")),
        sa.ForeignKeyConstraint(["job_id"], ["job.id"], name=op.f("fk_unit_job_id")),
        sa.ForeignKeyConstraint(["project_id"], ["project.id"], name=op.f("fk_unit_project_id")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_unit")),
        sa.UniqueConstraint("gradient_set_id", "job_id", "shard", name=op.f("uq_unit_gradient_set_id_job_id_shard")),
    )
    op.create_index("ix_unit_dataset_id", "unit", ["dataset_id"], unique=False)
    op.create_index("ix_unit_job_id", "unit", ["job_id"], unique=False)
    op.create_index("ix_unit_state_not_before", "unit", ["state", "not_before"], unique=False)

    op.create_table(
        "unit_commit",
        sa.Column("unit_id", sa.String(length=40), nullable=False),
        sa.Column("generation", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("epoch", sa.Integer(), nullable=False),
        sa.Column("owner", sa.Text(), nullable=False),
        sa.Column("artifact_sha256", sa.String(length=64), nullable=True),
        sa.Column("result", JSON, nullable=False),
        sa.Column("committed_at", sa.DateTime(timezone=True), nullable=False),
        sa.ForeignKeyConstraint(["unit_id"], ["unit.id"], name=op.f("fk_unit_commit_unit_id")),
        sa.PrimaryKeyConstraint("unit_id", "generation", name=op.f("pk_unit_commit")),
    )


def downgrade() -> None:
    op.drop_table("unit_commit")
    op.drop_index("ix_unit_state_not_before")
    op.drop_index("ix_unit_job_id")
    op.drop_index("ix_unit_dataset_id")

    op.drop_table("unit")
    op.drop_table("selected_sample")
    op.drop_table("file")
    op.drop_index("ix_event_job_id_id")
    op.drop_index("ix_event_dataset_id_id")

    op.drop_table("event")
    op.drop_index("ix_job_project_id_status_id")
    op.drop_index("ix_job_project_id_id")
    op.drop_index("ix_job_gradient_set_id_status")
    op.drop_index("ix_job_dataset_id_status")

    op.drop_table("job")
    op.drop_table("rejected_row")
    op.drop_table("gradient_set")
    op.drop_table("idempotency_key")
    op.drop_index("ix_dataset_project_id_rows_sha256")
    op.drop_index("ix_dataset_project_id_id")

    op.drop_table("dataset")
    op.drop_table("project")
