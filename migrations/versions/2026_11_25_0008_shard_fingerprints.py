"""What each gradient shard was made from, so that another data set with the same rows can have it

Revision: 0008
Revises: 0007
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0008"
down_revision = "0007"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("unit", sa.Column("fingerprint", sa.String(64), nullable=True))
    op.create_index("ix_unit_project_id_fingerprint", "unit", ["project_id", "fingerprint"])


def downgrade() -> None:
    op.drop_index("ix_unit_project_id_fingerprint", "unit")
    op.drop_column("unit", "fingerprint")
