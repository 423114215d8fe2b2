"""Warm-ups that gradient sets share, and checkpoints of a periodic choice

Revision: 0014
Revises: 0013
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0014"
down_revision = "0013"
branch_labels = None
depends_on = None


JSON = sa.JSON(none_as_null=True).with_variant(postgresql.JSONB(none_as_null=True), "postgresql")


def upgrade() -> None:
    op.add_column("gradient_set", sa.Column("warmup_unit_id", sa.String(length=40), nullable=True))
    op.create_index("ix_gradient_set_warmup_unit_id", "gradient_set", ["warmup_unit_id"])
    op.add_column("unit", sa.Column("checkpoint", JSON, nullable=True))


def downgrade() -> None:
    op.drop_column("unit", "checkpoint")
    op.drop_index("ix_gradient_set_warmup_unit_id")
    op.drop_column("gradient_set", "warmup_unit_id")
