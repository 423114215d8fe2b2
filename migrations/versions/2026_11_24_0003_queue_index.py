"""find queued jobs without reading the others

Revision: 0003
Revises: 0002
"""

from __future__ import annotations

from alembic import op

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_index("ix_job_status_id", "job", ["status", "id"])


def downgrade() -> None:
    op.drop_index("ix_job_status_id")
