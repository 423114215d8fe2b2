"""Evaluations of what jobs chose, with their units and events

Revision: 0013
Revises: 0012
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0013"
down_revision = "0012"
branch_labels = None
depends_on = None


JSON = sa.JSON(none_as_null=True).with_variant(postgresql.JSONB(none_as_null=True), "postgresql")
MOMENT = sa.DateTime(timezone=True)


def upgrade() -> None:
    op.create_table(
        "evaluation",
        sa.Column("id", sa.String(40), nullable=False),
        sa.Column("project_id", sa.String(40), nullable=False),
        sa.Column("job_id", sa.String(40), nullable=False),
        sa.Column("dataset_id", sa.String(40), nullable=False),
        sa.Column("holdout_dataset_id", sa.String(40), nullable=True),
        sa.Column("name", sa.Text(), nullable=True),
        sa.Column("status", sa.String(40), nullable=False),
        sa.Column("model", JSON, nullable=False),
        sa.Column("model_revision", sa.Text(), nullable=False),
        sa.Column("config", JSON, nullable=False),
        sa.Column("group_column", sa.Text(), nullable=True),
        sa.Column("max_length", sa.Integer(), nullable=False),
        sa.Column("metadata", JSON, nullable=False),
        sa.Column("result", JSON, nullable=True),
        sa.Column("error", JSON, nullable=True),
        sa.Column("created_at", MOMENT, nullable=False),
        sa.Column("started_at", MOMENT, nullable=True),
        sa.Column("finished_at", MOMENT, nullable=True),
        sa.Column("version", sa.Integer(), nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_evaluation"),
        sa.ForeignKeyConstraint(["project_id"], ["project.id"], name="fk_evaluation_project_id"),
        sa.ForeignKeyConstraint(["job_id"], ["job.id"], name="fk_evaluation_job_id"),
        sa.ForeignKeyConstraint(["dataset_id"], ["dataset.id"], name="fk_evaluation_dataset_id"),
        sa.ForeignKeyConstraint(["holdout_dataset_id"], ["dataset.id"], name="fk_evaluation_holdout_dataset_id"),
    )
    op.create_index("ix_evaluation_project_id_id", "evaluation", ["project_id", "id"])
    op.create_index("ix_evaluation_job_id_id", "evaluation", ["job_id", "id"])
    op.create_index("ix_evaluation_status_id", "evaluation", ["status", "id"])
    op.add_column("unit", sa.Column("evaluation_id", sa.String(40), nullable=True))
    op.create_index("ix_unit_evaluation_id_kind_shard", "unit", ["evaluation_id", "kind", "shard"], unique=True)
    op.add_column("event", sa.Column("evaluation_id", sa.String(40), nullable=True))
    op.create_index("ix_event_evaluation_id_id", "event", ["evaluation_id", "id"])


def downgrade() -> None:
    op.drop_index("ix_event_evaluation_id_id", "event")
    op.execute("DELETE FROM event WHERE evaluation_id IS NOT NULL")
    op.drop_column("event", "evaluation_id")
    op.drop_index("ix_unit_evaluation_id_kind_shard", "unit")
    op.execute("DELETE FROM unit_commit WHERE unit_id IN (SELECT id FROM unit WHERE evaluation_id IS NOT NULL)")
    op.execute("DELETE FROM unit WHERE evaluation_id IS NOT NULL")
    op.drop_column("unit", "evaluation_id")
    op.drop_table("evaluation")
