"""The tables of the first release

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

TABLES = (
    "unit_commit",
    "unit",
    "selected_sample",
    "file",
    "event",
    "evaluation",
    "upload_part",
    "job",
    "webhook_delivery",
    "upload",
    "rejected_row",
    "gradient_set",
    "webhook_endpoint",
    "obsolete_artifact",
    "lineage_cursor",
    "idempotency_key",
    "deleted_id",
    "dataset",
    "api_key",
    "worker",
    "project",
    "data_folder",
)


def upgrade() -> None:
    op.create_table(
        "data_folder",
        sa.Column("number", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("name", sa.String(length=64), nullable=False),
        sa.Column("recorded_at", sa.DateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("number", name="pk_data_folder"),
    )
    op.create_table(
        "project",
        sa.Column("id", sa.String(length=40), nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("max_running_units", sa.Integer(), nullable=True),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_project"),
    )
    op.execute("INSERT INTO project (id, name, created_at) VALUES ('proj_default', 'default', CURRENT_TIMESTAMP)")
    op.create_table(
        "worker",
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("device", sa.String(length=40), nullable=False),
        sa.Column("place", sa.Text(), nullable=False),
        sa.Column("total_bytes", sa.BigInteger(), nullable=False),
        sa.Column("free_bytes", sa.BigInteger(), nullable=False),
        sa.Column("host_bytes", sa.BigInteger(), nullable=False),
        sa.Column("seen_at", sa.DateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("name", name="pk_worker"),
    )
    op.create_table(
        "api_key",
        sa.Column("id", sa.String(length=40), nullable=False),
        sa.Column("project_id", sa.String(length=40), nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("prefix", sa.String(length=40), nullable=False),
        sa.Column("sha256", sa.String(length=64), nullable=False),
        sa.Column("scopes", JSON, nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("expires_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("revoked_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("last_used_at", sa.DateTime(timezone=True), nullable=True),
        sa.ForeignKeyConstraint(["project_id"], ["project.id"], name="fk_api_key_project_id"),
        sa.PrimaryKeyConstraint("id", name="pk_api_key"),
    )
    op.create_index("ix_api_key_prefix", "api_key", ["prefix"])
    op.create_index("ix_api_key_project_id_id", "api_key", ["project_id", "id"])

    op.create_table(
        "dataset",
        sa.Column("id", sa.String(length=40), nullable=False),
        sa.Column("project_id", sa.String(length=40), nullable=False),
        sa.Column("name", sa.Text(), nullable=True),
        sa.Column("status", sa.String(length=40), nullable=False),
        sa.Column("bytes", sa.BigInteger(), nullable=False),
        sa.Column("sha256", sa.String(length=64), nullable=False),
        sa.Column("requested", JSON, nullable=False),
        sa.Column("source", JSON, nullable=True),
        sa.Column("resolved_source", JSON, nullable=True),
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
        sa.ForeignKeyConstraint(["project_id"], ["project.id"], name="fk_dataset_project_id"),
        sa.PrimaryKeyConstraint("id", name="pk_dataset"),
    )
    op.create_index("ix_dataset_project_id_id", "dataset", ["project_id", "id"])
    op.create_index("ix_dataset_project_id_rows_sha256", "dataset", ["project_id", "rows_sha256"])

    op.create_table(
        "deleted_id",
        sa.Column("project_id", sa.String(length=40), nullable=False),
        sa.Column("id", sa.String(length=40), nullable=False),
        sa.Column("deleted_at", sa.DateTime(timezone=True), nullable=False),
        sa.ForeignKeyConstraint(["project_id"], ["project.id"], name="fk_deleted_id_project_id"),
        sa.PrimaryKeyConstraint("project_id", "id", name="pk_deleted_id"),
    )
    op.create_table(
        "idempotency_key",
        sa.Column("project_id", sa.String(length=40), nullable=False),
        sa.Column("operation", sa.String(length=60), nullable=False),
        sa.Column("key", sa.String(length=255), nullable=False),
        sa.Column("request_sha256", sa.String(length=64), nullable=False),
        sa.Column("resource_id", sa.String(length=40), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.ForeignKeyConstraint(["project_id"], ["project.id"], name="fk_idempotency_key_project_id"),
        sa.PrimaryKeyConstraint("project_id", "operation", "key", name="pk_idempotency_key"),
    )
    op.create_table(
        "lineage_cursor",
        sa.Column("project_id", sa.String(length=40), nullable=False),
        sa.Column("event_id", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), server_default="0", nullable=False),
        sa.Column("holder", sa.String(length=40), nullable=True),
        sa.Column("held_until", sa.DateTime(timezone=True), nullable=True),
        sa.Column("failures", sa.Integer(), server_default="0", nullable=False),
        sa.Column("not_before", sa.DateTime(timezone=True), nullable=True),
        sa.Column("error", sa.Text(), nullable=True),
        sa.ForeignKeyConstraint(["project_id"], ["project.id"], name="fk_lineage_cursor_project_id"),
        sa.PrimaryKeyConstraint("project_id", name="pk_lineage_cursor"),
    )
    op.create_table(
        "obsolete_artifact",
        sa.Column("project_id", sa.String(length=40), nullable=False),
        sa.Column("sha256", sa.String(length=64), nullable=False),
        sa.Column("marked_at", sa.DateTime(timezone=True), nullable=False),
        sa.ForeignKeyConstraint(["project_id"], ["project.id"], name="fk_obsolete_artifact_project_id"),
        sa.PrimaryKeyConstraint("project_id", "sha256", name="pk_obsolete_artifact"),
    )
    op.create_table(
        "webhook_endpoint",
        sa.Column("id", sa.String(length=40), nullable=False),
        sa.Column("project_id", sa.String(length=40), nullable=False),
        sa.Column("url", sa.Text(), nullable=False),
        sa.Column("name", sa.Text(), nullable=True),
        sa.Column("event_types", JSON, nullable=False),
        sa.Column("enabled", sa.Boolean(), nullable=False),
        sa.Column("disabled_reason", sa.String(length=40), nullable=True),
        sa.Column("secret", sa.Text(), nullable=False),
        sa.Column("old_secret", sa.Text(), nullable=True),
        sa.Column("old_secret_until", sa.DateTime(timezone=True), nullable=True),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("version", sa.Integer(), nullable=False),
        sa.ForeignKeyConstraint(["project_id"], ["project.id"], name="fk_webhook_endpoint_project_id"),
        sa.PrimaryKeyConstraint("id", name="pk_webhook_endpoint"),
    )
    op.create_index("ix_webhook_endpoint_project_id_id", "webhook_endpoint", ["project_id", "id"])

    op.create_table(
        "gradient_set",
        sa.Column("id", sa.String(length=40), nullable=False),
        sa.Column("project_id", sa.String(length=40), nullable=False),
        sa.Column("fingerprint", sa.String(length=64), nullable=False),
        sa.Column("dataset_id", sa.String(length=40), nullable=False),
        sa.Column("warmup_unit_id", sa.String(length=40), nullable=True),
        sa.Column("config", JSON, nullable=False),
        sa.Column("status", sa.String(length=40), nullable=False),
        sa.Column("num_shards", sa.Integer(), nullable=False),
        sa.Column("num_samples", sa.Integer(), nullable=False),
        sa.Column("error", JSON, nullable=True),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("ready_at", sa.DateTime(timezone=True), nullable=True),
        sa.ForeignKeyConstraint(["dataset_id"], ["dataset.id"], name="fk_gradient_set_dataset_id"),
        sa.ForeignKeyConstraint(["project_id"], ["project.id"], name="fk_gradient_set_project_id"),
        sa.PrimaryKeyConstraint("id", name="pk_gradient_set"),
        sa.UniqueConstraint("project_id", "fingerprint", name="uq_gradient_set_project_id_fingerprint"),
    )
    op.create_index("ix_gradient_set_warmup_unit_id", "gradient_set", ["warmup_unit_id"])

    op.create_table(
        "rejected_row",
        sa.Column("dataset_id", sa.String(length=40), nullable=False),
        sa.Column("row", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("code", sa.String(length=40), nullable=False),
        sa.Column("detail", sa.Text(), nullable=False),
        sa.ForeignKeyConstraint(["dataset_id"], ["dataset.id"], name="fk_rejected_row_dataset_id"),
        sa.PrimaryKeyConstraint("dataset_id", "row", name="pk_rejected_row"),
    )
    op.create_table(
        "upload",
        sa.Column("id", sa.String(length=40), nullable=False),
        sa.Column("project_id", sa.String(length=40), nullable=False),
        sa.Column("name", sa.Text(), nullable=True),
        sa.Column("status", sa.String(length=40), nullable=False),
        sa.Column("bytes", sa.BigInteger(), nullable=False),
        sa.Column("part_bytes", sa.Integer(), nullable=False),
        sa.Column("sha256", sa.String(length=64), nullable=False),
        sa.Column("requested", JSON, nullable=False),
        sa.Column("metadata", JSON, nullable=False),
        sa.Column("dataset_id", sa.String(length=40), nullable=True),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("expires_at", sa.DateTime(timezone=True), nullable=False),
        sa.ForeignKeyConstraint(["dataset_id"], ["dataset.id"], name="fk_upload_dataset_id"),
        sa.ForeignKeyConstraint(["project_id"], ["project.id"], name="fk_upload_project_id"),
        sa.PrimaryKeyConstraint("id", name="pk_upload"),
    )
    op.create_index("ix_upload_expires_at", "upload", ["expires_at"])
    op.create_index("ix_upload_project_id_id", "upload", ["project_id", "id"])

    op.create_table(
        "webhook_delivery",
        sa.Column("id", sa.String(length=40), nullable=False),
        sa.Column("project_id", sa.String(length=40), nullable=False),
        sa.Column("endpoint_id", sa.String(length=40), nullable=False),
        sa.Column("event_id", sa.BigInteger(), nullable=True),
        sa.Column("type", sa.String(length=40), nullable=False),
        sa.Column("body", sa.Text(), nullable=False),
        sa.Column("state", sa.String(length=40), nullable=False),
        sa.Column("epoch", sa.Integer(), nullable=False),
        sa.Column("attempts", sa.Integer(), nullable=False),
        sa.Column("not_before", sa.DateTime(timezone=True), nullable=False),
        sa.Column("lease_until", sa.DateTime(timezone=True), nullable=True),
        sa.Column("last_status", sa.Integer(), nullable=True),
        sa.Column("last_error", sa.Text(), nullable=True),
        sa.Column("last_attempt_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("settled_at", sa.DateTime(timezone=True), nullable=True),
        sa.ForeignKeyConstraint(["endpoint_id"], ["webhook_endpoint.id"], name="fk_webhook_delivery_endpoint_id"),
        sa.ForeignKeyConstraint(["project_id"], ["project.id"], name="fk_webhook_delivery_project_id"),
        sa.PrimaryKeyConstraint("id", name="pk_webhook_delivery"),
    )
    op.create_index("ix_webhook_delivery_endpoint_id_id", "webhook_delivery", ["endpoint_id", "id"])
    op.create_index("ix_webhook_delivery_state_not_before", "webhook_delivery", ["state", "not_before"])

    op.create_table(
        "job",
        sa.Column("id", sa.String(length=40), nullable=False),
        sa.Column("project_id", sa.String(length=40), nullable=False),
        sa.Column("name", sa.Text(), nullable=True),
        sa.Column("dataset_id", sa.String(length=40), nullable=False),
        sa.Column("gradient_set_id", sa.String(length=40), nullable=False),
        sa.Column("target_dataset_id", sa.String(length=40), nullable=True),
        sa.Column("target_gradient_set_id", sa.String(length=40), nullable=True),
        sa.Column("gradients_reused", sa.Boolean(), server_default=sa.false(), nullable=False),
        sa.Column("status", sa.String(length=40), nullable=False),
        sa.Column("priority", sa.Integer(), server_default="0", nullable=False),
        sa.Column("stop_requested", sa.String(length=40), nullable=True),
        sa.Column("config", JSON, nullable=False),
        sa.Column("estimate", JSON, nullable=True),
        sa.Column("metadata", JSON, nullable=False),
        sa.Column("parent", JSON, nullable=True),
        sa.Column("traceparent", sa.String(length=60), nullable=True),
        sa.Column("partial", sa.Boolean(), server_default=sa.false(), nullable=False),
        sa.Column("result", JSON, nullable=True),
        sa.Column("error", JSON, nullable=True),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("started_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("cancelling_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("finished_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("deadline_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("deleted_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("version", sa.Integer(), nullable=False),
        sa.ForeignKeyConstraint(["dataset_id"], ["dataset.id"], name="fk_job_dataset_id"),
        sa.ForeignKeyConstraint(["gradient_set_id"], ["gradient_set.id"], name="fk_job_gradient_set_id"),
        sa.ForeignKeyConstraint(["project_id"], ["project.id"], name="fk_job_project_id"),
        sa.PrimaryKeyConstraint("id", name="pk_job"),
    )
    op.create_index("ix_job_dataset_id_status", "job", ["dataset_id", "status"])
    op.create_index("ix_job_gradient_set_id_status", "job", ["gradient_set_id", "status"])
    op.create_index("ix_job_project_id_id", "job", ["project_id", "id"])
    op.create_index("ix_job_project_id_status_id", "job", ["project_id", "status", "id"])
    op.create_index("ix_job_status_id", "job", ["status", "id"])
    op.create_index("ix_job_target_gradient_set_id_status", "job", ["target_gradient_set_id", "status"])

    op.create_table(
        "upload_part",
        sa.Column("upload_id", sa.String(length=40), nullable=False),
        sa.Column("number", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("bytes", sa.BigInteger(), nullable=False),
        sa.Column("sha256", sa.String(length=64), nullable=False),
        sa.Column("received_at", sa.DateTime(timezone=True), nullable=False),
        sa.ForeignKeyConstraint(["upload_id"], ["upload.id"], name="fk_upload_part_upload_id"),
        sa.PrimaryKeyConstraint("upload_id", "number", name="pk_upload_part"),
    )
    op.create_table(
        "evaluation",
        sa.Column("id", sa.String(length=40), nullable=False),
        sa.Column("project_id", sa.String(length=40), nullable=False),
        sa.Column("job_id", sa.String(length=40), nullable=False),
        sa.Column("dataset_id", sa.String(length=40), nullable=False),
        sa.Column("holdout_dataset_id", sa.String(length=40), nullable=True),
        sa.Column("name", sa.Text(), nullable=True),
        sa.Column("status", sa.String(length=40), nullable=False),
        sa.Column("model", JSON, nullable=False),
        sa.Column("model_revision", sa.Text(), nullable=False),
        sa.Column("config", JSON, nullable=False),
        sa.Column("group_column", sa.Text(), nullable=True),
        sa.Column("max_length", sa.Integer(), nullable=False),
        sa.Column("metadata", JSON, nullable=False),
        sa.Column("result", JSON, nullable=True),
        sa.Column("error", JSON, nullable=True),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("started_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("finished_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("version", sa.Integer(), nullable=False),
        sa.ForeignKeyConstraint(["dataset_id"], ["dataset.id"], name="fk_evaluation_dataset_id"),
        sa.ForeignKeyConstraint(["holdout_dataset_id"], ["dataset.id"], name="fk_evaluation_holdout_dataset_id"),
        sa.ForeignKeyConstraint(["job_id"], ["job.id"], name="fk_evaluation_job_id"),
        sa.ForeignKeyConstraint(["project_id"], ["project.id"], name="fk_evaluation_project_id"),
        sa.PrimaryKeyConstraint("id", name="pk_evaluation"),
    )
    op.create_index("ix_evaluation_job_id_id", "evaluation", ["job_id", "id"])
    op.create_index("ix_evaluation_project_id_id", "evaluation", ["project_id", "id"])
    op.create_index("ix_evaluation_status_id", "evaluation", ["status", "id"])

    op.create_table(
        "event",
        sa.Column("id", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), autoincrement=True, nullable=False),
        sa.Column("project_id", sa.String(length=40), nullable=False),
        sa.Column("job_id", sa.String(length=40), nullable=True),
        sa.Column("dataset_id", sa.String(length=40), nullable=True),
        sa.Column("evaluation_id", sa.String(length=40), nullable=True),
        sa.Column("type", sa.String(length=40), nullable=False),
        sa.Column("data", JSON, nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.ForeignKeyConstraint(["dataset_id"], ["dataset.id"], name="fk_event_dataset_id"),
        sa.ForeignKeyConstraint(["job_id"], ["job.id"], name="fk_event_job_id"),
        sa.ForeignKeyConstraint(["project_id"], ["project.id"], name="fk_event_project_id"),
        sa.PrimaryKeyConstraint("id", name="pk_event"),
    )
    op.create_index("ix_event_dataset_id_id", "event", ["dataset_id", "id"])
    op.create_index("ix_event_evaluation_id_id", "event", ["evaluation_id", "id"])
    op.create_index("ix_event_job_id_id", "event", ["job_id", "id"])
    op.create_index("ix_event_project_id_id", "event", ["project_id", "id"])

    op.create_table(
        "file",
        sa.Column("job_id", sa.String(length=40), nullable=False),
        sa.Column("name", sa.String(length=200), nullable=False),
        sa.Column("project_id", sa.String(length=40), nullable=False),
        sa.Column("position", sa.Integer(), nullable=False),
        sa.Column("media_type", sa.String(length=100), nullable=False),
        sa.Column("bytes", sa.BigInteger(), nullable=False),
        sa.Column("sha256", sa.String(length=64), nullable=False),
        sa.ForeignKeyConstraint(["job_id"], ["job.id"], name="fk_file_job_id"),
        sa.ForeignKeyConstraint(["project_id"], ["project.id"], name="fk_file_project_id"),
        sa.PrimaryKeyConstraint("job_id", "name", name="pk_file"),
    )
    op.create_index("ix_file_project_id_sha256", "file", ["project_id", "sha256"])

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
        sa.ForeignKeyConstraint(["job_id"], ["job.id"], name="fk_selected_sample_job_id"),
        sa.PrimaryKeyConstraint("job_id", "rank", name="pk_selected_sample"),
    )
    op.create_table(
        "unit",
        sa.Column("id", sa.String(length=40), nullable=False),
        sa.Column("project_id", sa.String(length=40), nullable=False),
        sa.Column("kind", sa.String(length=40), nullable=False),
        sa.Column("dataset_id", sa.String(length=40), nullable=False),
        sa.Column("gradient_set_id", sa.String(length=40), nullable=True),
        sa.Column("job_id", sa.String(length=40), nullable=True),
        sa.Column("evaluation_id", sa.String(length=40), nullable=True),
        sa.Column("shard", sa.Integer(), nullable=True),
        sa.Column("fingerprint", sa.String(length=64), nullable=True),
        sa.Column("state", sa.String(length=40), nullable=False),
        sa.Column("generation", sa.Integer(), nullable=False),
        sa.Column("epoch", sa.Integer(), nullable=False),
        sa.Column("attempts", sa.Integer(), nullable=False),
        sa.Column("lost_leases", sa.Integer(), nullable=False),
        sa.Column("owner", sa.Text(), nullable=True),
        sa.Column("lease_until", sa.DateTime(timezone=True), nullable=True),
        sa.Column("not_before", sa.DateTime(timezone=True), nullable=False),
        sa.Column("notified_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("phase", sa.String(length=40), nullable=True),
        sa.Column("completed", sa.Integer(), nullable=False),
        sa.Column("total", sa.Integer(), nullable=False),
        sa.Column("measure", sa.String(length=40), nullable=True),
        sa.Column("rate", sa.Float(precision=53), nullable=True),
        sa.Column("token_rate", sa.Float(precision=53), nullable=True),
        sa.Column("memory_bytes", sa.BigInteger(), nullable=True),
        sa.Column("checkpoint", JSON, nullable=True),
        sa.Column("error", JSON, nullable=True),
        sa.Column("schema_version", sa.Integer(), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("started_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("heartbeat_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("finished_at", sa.DateTime(timezone=True), nullable=True),
        sa.ForeignKeyConstraint(["dataset_id"], ["dataset.id"], name="fk_unit_dataset_id"),
        sa.ForeignKeyConstraint(["gradient_set_id"], ["gradient_set.id"], name="fk_unit_gradient_set_id"),
        sa.ForeignKeyConstraint(["job_id"], ["job.id"], name="fk_unit_job_id"),
        sa.ForeignKeyConstraint(["project_id"], ["project.id"], name="fk_unit_project_id"),
        sa.PrimaryKeyConstraint("id", name="pk_unit"),
        sa.UniqueConstraint("gradient_set_id", "job_id", "shard", name="uq_unit_gradient_set_id_job_id_shard"),
    )
    op.create_index("ix_unit_dataset_id", "unit", ["dataset_id"])
    op.create_index("ix_unit_evaluation_id_kind_shard", "unit", ["evaluation_id", "kind", "shard"], unique=True)
    op.create_index("ix_unit_job_id", "unit", ["job_id"])
    op.create_index("ix_unit_project_id_fingerprint", "unit", ["project_id", "fingerprint"])
    op.create_index("ix_unit_state_not_before", "unit", ["state", "not_before"])

    op.create_table(
        "unit_commit",
        sa.Column("unit_id", sa.String(length=40), nullable=False),
        sa.Column("generation", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("epoch", sa.Integer(), nullable=False),
        sa.Column("owner", sa.Text(), nullable=False),
        sa.Column("artifact_sha256", sa.String(length=64), nullable=True),
        sa.Column("result", JSON, nullable=False),
        sa.Column("committed_at", sa.DateTime(timezone=True), nullable=False),
        sa.ForeignKeyConstraint(["unit_id"], ["unit.id"], name="fk_unit_commit_unit_id"),
        sa.PrimaryKeyConstraint("unit_id", "generation", name="pk_unit_commit"),
    )
    op.create_index("ix_unit_commit_artifact_sha256", "unit_commit", ["artifact_sha256"])


def downgrade() -> None:
    for table in TABLES:
        op.drop_table(table)
