"""The run that a job is part of, and how far lineage services have been told

Revision: 0009
Revises: 0008
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0009"
down_revision = "0008"
branch_labels = None
depends_on = None


JSON = sa.JSON(none_as_null=True).with_variant(postgresql.JSONB(none_as_null=True), "postgresql")
BIG = sa.BigInteger().with_variant(sa.Integer(), "sqlite")


def upgrade() -> None:
    op.add_column("job", sa.Column("parent", JSON, nullable=True))
    op.create_table(
        "lineage_cursor",
        sa.Column("project_id", sa.String(40), sa.ForeignKey("project.id"), primary_key=True),
        sa.Column("event_id", BIG, server_default="0", nullable=False),
        sa.Column("holder", sa.String(40), nullable=True),
        sa.Column("held_until", sa.DateTime(timezone=True), nullable=True),
        sa.Column("failures", sa.Integer(), server_default="0", nullable=False),
        sa.Column("not_before", sa.DateTime(timezone=True), nullable=True),
        sa.Column("error", sa.Text(), nullable=True),
    )


def downgrade() -> None:
    op.drop_table("lineage_cursor")
    op.drop_column("job", "parent")
