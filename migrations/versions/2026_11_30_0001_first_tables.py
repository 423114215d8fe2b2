"""The tables of the first release

Revision: 0001
Revises:
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql
from sqlalchemy.schema import Column, ForeignKey

JSON = sa.JSON(none_as_null=True).with_variant(postgresql.JSONB(none_as_null=True), "postgresql")
MOMENT = sa.DateTime(timezone=True)
ID = sa.String(40)

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "data_folder",
        Column("number", sa.Integer(), autoincrement=False, nullable=False),
        Column("name", sa.String(64), nullable=False),
        Column("recorded_at", MOMENT, nullable=False),
        sa.PrimaryKeyConstraint("number", name="pk_data_folder"),
    )
    op.create_table(
        "project",
        Column("id", sa.String(40), nullable=False),
        Column("name", sa.Text(), nullable=False),
        Column("max_running_units", sa.Integer(), nullable=True),
        Column("served_at", MOMENT, nullable=True),
        Column("created_at", MOMENT, nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_project"),
    )
    op.execute("INSERT INTO project (id, name, created_at) VALUES ('proj_default', 'default', CURRENT_TIMESTAMP)")
    op.create_table(
        "worker",
        Column("name", sa.Text(), nullable=False),
        Column("device_bytes", sa.BigInteger(), nullable=False),
        Column("host_bytes", sa.BigInteger(), nullable=False),
        Column("is_bfloat16_fast", sa.Boolean(), nullable=False),
        Column("seen_at", MOMENT, nullable=False),
        sa.PrimaryKeyConstraint("name", name="pk_worker"),
    )
    ended = (Column("id", ID, nullable=False), Column("until", MOMENT, nullable=False))
    op.create_table("ended_session", *ended, sa.PrimaryKeyConstraint("id", name="pk_ended_session"))
    op.create_table(
        "api_key",
        Column("id", sa.String(40), nullable=False),
        Column("project_id", ID, ForeignKey("project.id", name="fk_api_key_project_id"), nullable=False),
        Column("name", sa.Text(), nullable=False),
        Column("prefix", sa.String(40), nullable=False),
        Column("sha256", sa.String(64), nullable=False),
        Column("scopes", JSON, nullable=False),
        Column("created_at", MOMENT, nullable=False),
        Column("expires_at", MOMENT, nullable=True),
        Column("revoked_at", MOMENT, nullable=True),
        Column("last_used_at", MOMENT, nullable=True),
        sa.PrimaryKeyConstraint("id", name="pk_api_key"),
    )
    op.create_index("ix_api_key_prefix", "api_key", ["prefix"])
    op.create_index("ix_api_key_project_id_id", "api_key", ["project_id", "id"])

    op.create_table(
        "dataset",
        Column("id", sa.String(40), nullable=False),
        Column("project_id", ID, ForeignKey("project.id", name="fk_dataset_project_id"), nullable=False),
        Column("name", sa.Text(), nullable=True),
        Column("status", sa.String(40), nullable=False),
        Column("bytes", sa.BigInteger(), nullable=False),
        Column("sha256", sa.String(64), nullable=False),
        Column("requested", JSON, nullable=False),
        Column("internal", sa.Boolean(), server_default=sa.false(), nullable=False),
        Column("source", JSON, nullable=True),
        Column("resolved_source", JSON, nullable=True),
        Column("appended_to", ID, ForeignKey("dataset.id", name="fk_dataset_appended_to"), nullable=True),
        Column("container", sa.String(40), nullable=True),
        Column("compression", sa.String(40), nullable=True),
        Column("format", sa.String(40), nullable=True),
        Column("columns", JSON, nullable=True),
        Column("column_names", JSON, nullable=True),
        Column("rows_sha256", sa.String(64), nullable=True),
        Column("num_rows", sa.Integer(), nullable=True),
        Column("num_usable", sa.Integer(), nullable=True),
        Column("num_rejected", sa.Integer(), nullable=True),
        Column("rejected", JSON, nullable=True),
        Column("warnings", JSON, nullable=True),
        Column("shards", JSON, nullable=True),
        Column("source_shards", JSON, nullable=True),
        Column("error", JSON, nullable=True),
        Column("metadata", JSON, nullable=False),
        Column("created_at", MOMENT, nullable=False),
        Column("ready_at", MOMENT, nullable=True),
        Column("deleted_at", MOMENT, nullable=True),
        Column("version", sa.Integer(), nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_dataset"),
    )
    op.create_index("ix_dataset_project_id_id", "dataset", ["project_id", "id"])
    op.create_index("ix_dataset_project_id_name_id", "dataset", ["project_id", "name", "id"])
    op.create_index("ix_dataset_project_id_rows_sha256", "dataset", ["project_id", "rows_sha256"])

    op.create_table(
        "deleted_id",
        Column("project_id", ID, ForeignKey("project.id", name="fk_deleted_id_project_id"), nullable=False),
        Column("id", sa.String(40), nullable=False),
        Column("deleted_at", MOMENT, nullable=False),
        sa.PrimaryKeyConstraint("project_id", "id", name="pk_deleted_id"),
    )
    op.create_table(
        "idempotency_key",
        Column("project_id", ID, ForeignKey("project.id", name="fk_idempotency_key_project_id"), nullable=False),
        Column("operation", sa.String(60), nullable=False),
        Column("key", sa.String(255), nullable=False),
        Column("request_sha256", sa.String(64), nullable=False),
        Column("resource_id", sa.String(40), nullable=False),
        Column("created_at", MOMENT, nullable=False),
        sa.PrimaryKeyConstraint("project_id", "operation", "key", name="pk_idempotency_key"),
    )
    op.create_table(
        "obsolete_artifact",
        Column("project_id", ID, ForeignKey("project.id", name="fk_obsolete_artifact_project_id"), nullable=False),
        Column("sha256", sa.String(64), nullable=False),
        Column("marked_at", MOMENT, nullable=False),
        sa.PrimaryKeyConstraint("project_id", "sha256", name="pk_obsolete_artifact"),
    )
    op.create_table(
        "webhook_endpoint",
        Column("id", sa.String(40), nullable=False),
        Column("project_id", ID, ForeignKey("project.id", name="fk_webhook_endpoint_project_id"), nullable=False),
        Column("url", sa.Text(), nullable=False),
        Column("name", sa.Text(), nullable=True),
        Column("event_types", JSON, nullable=False),
        Column("enabled", sa.Boolean(), nullable=False),
        Column("disabled_reason", sa.String(40), nullable=True),
        Column("secret", sa.Text(), nullable=False),
        Column("old_secret", sa.Text(), nullable=True),
        Column("old_secret_until", MOMENT, nullable=True),
        Column("created_at", MOMENT, nullable=False),
        Column("version", sa.Integer(), nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_webhook_endpoint"),
    )
    op.create_index("ix_webhook_endpoint_project_id_id", "webhook_endpoint", ["project_id", "id"])

    op.create_table(
        "gradient_set",
        Column("id", sa.String(40), nullable=False),
        Column("project_id", ID, ForeignKey("project.id", name="fk_gradient_set_project_id"), nullable=False),
        Column("fingerprint", sa.String(64), nullable=False),
        Column("dataset_id", ID, ForeignKey("dataset.id", name="fk_gradient_set_dataset_id"), nullable=False),
        Column("warmup_unit_id", sa.String(40), nullable=True),
        Column("prefilter_unit_id", sa.String(40), nullable=True),
        Column("config", JSON, nullable=False),
        Column("status", sa.String(40), nullable=False),
        Column("num_shards", sa.Integer(), nullable=False),
        Column("num_samples", sa.Integer(), nullable=False),
        Column("error", JSON, nullable=True),
        Column("created_at", MOMENT, nullable=False),
        Column("ready_at", MOMENT, nullable=True),
        sa.PrimaryKeyConstraint("id", name="pk_gradient_set"),
        sa.UniqueConstraint("project_id", "fingerprint", name="uq_gradient_set_project_id_fingerprint"),
    )
    op.create_index("ix_gradient_set_warmup_unit_id", "gradient_set", ["warmup_unit_id"])
    op.create_index("ix_gradient_set_prefilter_unit_id", "gradient_set", ["prefilter_unit_id"])

    op.create_table(
        "rejected_row",
        Column("dataset_id", ID, ForeignKey("dataset.id", name="fk_rejected_row_dataset_id"), nullable=False),
        Column("row", sa.BigInteger(), autoincrement=False, nullable=False),
        Column("code", sa.String(40), nullable=False),
        Column("detail", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("dataset_id", "row", name="pk_rejected_row"),
    )
    op.create_table(
        "upload",
        Column("id", sa.String(40), nullable=False),
        Column("project_id", ID, ForeignKey("project.id", name="fk_upload_project_id"), nullable=False),
        Column("name", sa.Text(), nullable=True),
        Column("status", sa.String(40), nullable=False),
        Column("bytes", sa.BigInteger(), nullable=False),
        Column("part_bytes", sa.Integer(), nullable=False),
        Column("sha256", sa.String(64), nullable=False),
        Column("requested", JSON, nullable=False),
        Column("metadata", JSON, nullable=False),
        Column("dataset_id", ID, ForeignKey("dataset.id", name="fk_upload_dataset_id"), nullable=True),
        Column("created_at", MOMENT, nullable=False),
        Column("expires_at", MOMENT, nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_upload"),
    )
    op.create_index("ix_upload_expires_at", "upload", ["expires_at"])
    op.create_index("ix_upload_project_id_id", "upload", ["project_id", "id"])

    op.create_table(
        "webhook_delivery",
        Column("id", sa.String(40), nullable=False),
        Column("project_id", ID, ForeignKey("project.id", name="fk_webhook_delivery_project_id"), nullable=False),
        Column(
            "endpoint_id", ID, ForeignKey("webhook_endpoint.id", name="fk_webhook_delivery_endpoint_id"), nullable=False
        ),
        Column("event_id", sa.BigInteger(), nullable=True),
        Column("type", sa.String(40), nullable=False),
        Column("body", sa.Text(), nullable=False),
        Column("state", sa.String(40), nullable=False),
        Column("epoch", sa.Integer(), nullable=False),
        Column("attempts", sa.Integer(), nullable=False),
        Column("not_before", MOMENT, nullable=False),
        Column("lease_until", MOMENT, nullable=True),
        Column("last_status", sa.Integer(), nullable=True),
        Column("last_error", sa.Text(), nullable=True),
        Column("last_attempt_at", MOMENT, nullable=True),
        Column("created_at", MOMENT, nullable=False),
        Column("settled_at", MOMENT, nullable=True),
        sa.PrimaryKeyConstraint("id", name="pk_webhook_delivery"),
    )
    op.create_index("ix_webhook_delivery_endpoint_id_id", "webhook_delivery", ["endpoint_id", "id"])
    op.create_index("ix_webhook_delivery_state_not_before", "webhook_delivery", ["state", "not_before"])

    op.create_table(
        "job",
        Column("id", sa.String(40), nullable=False),
        Column("project_id", ID, ForeignKey("project.id", name="fk_job_project_id"), nullable=False),
        Column("name", sa.Text(), nullable=True),
        Column("dataset_id", ID, ForeignKey("dataset.id", name="fk_job_dataset_id"), nullable=False),
        Column("gradient_set_id", ID, ForeignKey("gradient_set.id", name="fk_job_gradient_set_id"), nullable=False),
        Column("target_dataset_id", sa.String(40), nullable=True),
        Column("target_gradient_set_id", sa.String(40), nullable=True),
        Column("gradients_reused", sa.Boolean(), server_default=sa.false(), nullable=False),
        Column("status", sa.String(40), nullable=False),
        Column("priority", sa.Integer(), server_default="0", nullable=False),
        Column("stop_requested", sa.String(40), nullable=True),
        Column("config", JSON, nullable=False),
        Column("estimate", JSON, nullable=True),
        Column("metadata", JSON, nullable=False),
        Column("parent", JSON, nullable=True),
        Column("retry_of", sa.String(40), nullable=True),
        Column("traceparent", sa.String(60), nullable=True),
        Column("partial", sa.Boolean(), server_default=sa.false(), nullable=False),
        Column("result", JSON, nullable=True),
        Column("error", JSON, nullable=True),
        Column("created_at", MOMENT, nullable=False),
        Column("started_at", MOMENT, nullable=True),
        Column("cancelling_at", MOMENT, nullable=True),
        Column("finished_at", MOMENT, nullable=True),
        Column("deadline_at", MOMENT, nullable=True),
        Column("deleted_at", MOMENT, nullable=True),
        Column("version", sa.Integer(), nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_job"),
    )
    op.create_index("ix_job_dataset_id_status", "job", ["dataset_id", "status"])
    op.create_index("ix_job_gradient_set_id_status", "job", ["gradient_set_id", "status"])
    op.create_index("ix_job_project_id_id", "job", ["project_id", "id"])
    op.create_index("ix_job_project_id_name_id", "job", ["project_id", "name", "id"])
    op.create_index("ix_job_project_id_status_id", "job", ["project_id", "status", "id"])
    op.create_index("ix_job_status_id", "job", ["status", "id"])
    op.create_index("ix_job_target_gradient_set_id_status", "job", ["target_gradient_set_id", "status"])

    op.create_table(
        "upload_part",
        Column("upload_id", ID, ForeignKey("upload.id", name="fk_upload_part_upload_id"), nullable=False),
        Column("number", sa.Integer(), autoincrement=False, nullable=False),
        Column("bytes", sa.BigInteger(), nullable=False),
        Column("sha256", sa.String(64), nullable=False),
        Column("received_at", MOMENT, nullable=False),
        sa.PrimaryKeyConstraint("upload_id", "number", name="pk_upload_part"),
    )
    op.create_table(
        "evaluation",
        Column("id", sa.String(40), nullable=False),
        Column("project_id", ID, ForeignKey("project.id", name="fk_evaluation_project_id"), nullable=False),
        Column("job_id", ID, ForeignKey("job.id", name="fk_evaluation_job_id"), nullable=False),
        Column("dataset_id", ID, ForeignKey("dataset.id", name="fk_evaluation_dataset_id"), nullable=False),
        Column(
            "holdout_dataset_id", ID, ForeignKey("dataset.id", name="fk_evaluation_holdout_dataset_id"), nullable=True
        ),
        Column("name", sa.Text(), nullable=True),
        Column("status", sa.String(40), nullable=False),
        Column("model", JSON, nullable=False),
        Column("model_revision", sa.Text(), nullable=False),
        Column("config", JSON, nullable=False),
        Column("group_column", sa.Text(), nullable=True),
        Column("max_length", sa.Integer(), nullable=False),
        Column("metadata", JSON, nullable=False),
        Column("result", JSON, nullable=True),
        Column("error", JSON, nullable=True),
        Column("created_at", MOMENT, nullable=False),
        Column("started_at", MOMENT, nullable=True),
        Column("finished_at", MOMENT, nullable=True),
        Column("version", sa.Integer(), nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_evaluation"),
    )
    op.create_index("ix_evaluation_job_id_id", "evaluation", ["job_id", "id"])
    op.create_index("ix_evaluation_project_id_id", "evaluation", ["project_id", "id"])
    op.create_index("ix_evaluation_status_id", "evaluation", ["status", "id"])

    op.create_table(
        "event",
        Column("project_id", ID, ForeignKey("project.id", name="fk_event_project_id"), nullable=False),
        Column("id", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), autoincrement=False, nullable=False),
        Column("job_id", ID, ForeignKey("job.id", name="fk_event_job_id"), nullable=True),
        Column("dataset_id", ID, ForeignKey("dataset.id", name="fk_event_dataset_id"), nullable=True),
        Column("evaluation_id", sa.String(40), nullable=True),
        Column("type", sa.String(40), nullable=False),
        Column("data", JSON, nullable=False),
        Column("created_at", MOMENT, nullable=False),
        sa.PrimaryKeyConstraint("project_id", "id", name="pk_event"),
    )
    op.create_index("ix_event_dataset_id_id", "event", ["dataset_id", "id"])
    op.create_index("ix_event_evaluation_id_id", "event", ["evaluation_id", "id"])
    op.create_index("ix_event_job_id_id", "event", ["job_id", "id"])

    op.create_table(
        "file",
        Column("job_id", ID, ForeignKey("job.id", name="fk_file_job_id"), nullable=False),
        Column("name", sa.String(200), nullable=False),
        Column("project_id", ID, ForeignKey("project.id", name="fk_file_project_id"), nullable=False),
        Column("position", sa.Integer(), nullable=False),
        Column("media_type", sa.String(100), nullable=False),
        Column("bytes", sa.BigInteger(), nullable=False),
        Column("sha256", sa.String(64), nullable=False),
        sa.PrimaryKeyConstraint("job_id", "name", name="pk_file"),
    )
    op.create_index("ix_file_project_id_sha256", "file", ["project_id", "sha256"])

    op.create_table(
        "selected_sample",
        Column("job_id", ID, ForeignKey("job.id", name="fk_selected_sample_job_id"), nullable=False),
        Column("rank", sa.Integer(), autoincrement=False, nullable=False),
        Column("source_row", sa.BigInteger(), nullable=False),
        Column("row_sha256", sa.String(64), nullable=False),
        Column("gain", sa.Float(53), nullable=False),
        Column("base_gain", sa.Float(53), nullable=False),
        Column("epsilon", sa.Float(53), nullable=False),
        Column("conflict", sa.Float(53), nullable=False),
        Column("score", sa.Float(53), nullable=False),
        Column("tokens", sa.Integer(), nullable=False),
        Column("target", sa.Text(), nullable=True),
        Column("relevance", sa.Float(53), nullable=True),
        Column("nearest_target", sa.Text(), nullable=True),
        Column("nearest_target_row", sa.BigInteger(), nullable=True),
        Column("nearest_target_cosine", sa.Float(53), nullable=True),
        Column("nearest_pick", sa.BigInteger(), nullable=True),
        Column("nearest_pick_cosine", sa.Float(53), nullable=True),
        sa.PrimaryKeyConstraint("job_id", "rank", name="pk_selected_sample"),
    )
    op.create_table(
        "unit",
        Column("id", sa.String(40), nullable=False),
        Column("project_id", ID, ForeignKey("project.id", name="fk_unit_project_id"), nullable=False),
        Column("kind", sa.String(40), nullable=False),
        Column("dataset_id", ID, ForeignKey("dataset.id", name="fk_unit_dataset_id"), nullable=False),
        Column("gradient_set_id", ID, ForeignKey("gradient_set.id", name="fk_unit_gradient_set_id"), nullable=True),
        Column("job_id", ID, ForeignKey("job.id", name="fk_unit_job_id"), nullable=True),
        Column("evaluation_id", sa.String(40), nullable=True),
        Column("shard", sa.Integer(), nullable=True),
        Column("fingerprint", sa.String(64), nullable=True),
        Column("state", sa.String(40), nullable=False),
        Column("generation", sa.Integer(), nullable=False),
        Column("epoch", sa.Integer(), nullable=False),
        Column("attempts", sa.Integer(), nullable=False),
        Column("lost_leases", sa.Integer(), nullable=False),
        Column("owner", sa.Text(), nullable=True),
        Column("lease_until", MOMENT, nullable=True),
        Column("not_before", MOMENT, nullable=False),
        Column("notified_at", MOMENT, nullable=True),
        Column("phase", sa.String(40), nullable=True),
        Column("completed", sa.Integer(), nullable=False),
        Column("total", sa.Integer(), nullable=False),
        Column("measure", sa.String(40), nullable=True),
        Column("rate", sa.Float(53), nullable=True),
        Column("token_rate", sa.Float(53), nullable=True),
        Column("memory_bytes", sa.BigInteger(), nullable=True),
        Column("checkpoint", JSON, nullable=True),
        Column("error", JSON, nullable=True),
        Column("schema_version", sa.Integer(), nullable=False),
        Column("created_at", MOMENT, nullable=False),
        Column("started_at", MOMENT, nullable=True),
        Column("heartbeat_at", MOMENT, nullable=True),
        Column("finished_at", MOMENT, nullable=True),
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
        Column("unit_id", ID, ForeignKey("unit.id", name="fk_unit_commit_unit_id"), nullable=False),
        Column("generation", sa.Integer(), autoincrement=False, nullable=False),
        Column("epoch", sa.Integer(), nullable=False),
        Column("owner", sa.Text(), nullable=False),
        Column("artifact_sha256", sa.String(64), nullable=True),
        Column("result", JSON, nullable=False),
        Column("committed_at", MOMENT, nullable=False),
        sa.PrimaryKeyConstraint("unit_id", "generation", name="pk_unit_commit"),
    )
    op.create_index("ix_unit_commit_artifact_sha256", "unit_commit", ["artifact_sha256"])

    op.create_table(
        "schedule",
        Column("id", sa.String(40), nullable=False),
        Column("project_id", ID, ForeignKey("project.id", name="fk_schedule_project_id"), nullable=False),
        Column("name", sa.Text(), nullable=False),
        Column("cron", sa.Text(), nullable=False),
        Column("timezone", sa.Text(), nullable=False),
        Column("paused", sa.Boolean(), nullable=False),
        Column("dataset_id", ID, ForeignKey("dataset.id", name="fk_schedule_dataset_id"), nullable=False),
        Column("extends_previous", sa.Boolean(), nullable=False),
        Column("config", JSON, nullable=False),
        Column("metadata", JSON, nullable=False),
        Column("priority", sa.Integer(), nullable=False),
        Column("deadline_seconds", sa.Float(53), nullable=True),
        Column("next_fire_at", MOMENT, nullable=False),
        Column("last_fire_at", MOMENT, nullable=True),
        Column("last_job_id", sa.String(40), nullable=True),
        Column("base_job_id", sa.String(40), nullable=True),
        Column("last_outcome", sa.String(40), nullable=True),
        Column("last_detail", sa.Text(), nullable=True),
        Column("created_at", MOMENT, nullable=False),
        Column("version", sa.Integer(), nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_schedule"),
    )
    op.create_index("ix_schedule_paused_next_fire_at", "schedule", ["paused", "next_fire_at"])
    op.create_index("ix_schedule_project_id_id", "schedule", ["project_id", "id"])

    op.create_table(
        "unit_log",
        Column("id", sa.String(40), nullable=False),
        Column("unit_id", ID, ForeignKey("unit.id", name="fk_unit_log_unit_id"), nullable=False),
        Column("project_id", ID, ForeignKey("project.id", name="fk_unit_log_project_id"), nullable=False),
        Column("attempt", sa.Integer(), nullable=False),
        Column("worker", sa.Text(), nullable=True),
        Column("level", sa.String(40), nullable=False),
        Column("code", sa.String(40), nullable=False),
        Column("message", sa.Text(), nullable=False),
        Column("data", JSON, nullable=False),
        Column("created_at", MOMENT, nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_unit_log"),
    )
    op.create_index("ix_unit_log_created_at", "unit_log", ["created_at"])
    op.create_index("ix_unit_log_unit_id_created_at", "unit_log", ["unit_id", "created_at"])


def downgrade() -> None:
    tables = sa.MetaData()
    tables.reflect(op.get_bind())
    tables.remove(tables.tables["alembic_version"])
    tables.drop_all(op.get_bind())
