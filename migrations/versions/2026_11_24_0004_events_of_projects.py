"""Read the events of a project in their order

Revision: 0004
Revises: 0003
"""

from __future__ import annotations

from alembic import op

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_index("ix_event_project_id_id", "event", ["project_id", "id"])


def downgrade() -> None:
    op.drop_index("ix_event_project_id_id")
