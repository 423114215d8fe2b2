"""Where a data set is fetched from

Revision: 0011
Revises: 0010
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

JSON = sa.JSON(none_as_null=True).with_variant(postgresql.JSONB(none_as_null=True), "postgresql")

revision = "0011"
down_revision = "0010"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("dataset", sa.Column("source", JSON, nullable=True))
    op.add_column("dataset", sa.Column("resolved_source", JSON, nullable=True))


def downgrade() -> None:
    op.drop_column("dataset", "resolved_source")
    op.drop_column("dataset", "source")
