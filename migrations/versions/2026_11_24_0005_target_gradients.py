"""Jobs that need the gradients of a second data set

Revision: 0005
Revises: 0004
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("job", sa.Column("target_dataset_id", sa.String(length=40), nullable=True))
    op.add_column("job", sa.Column("target_gradient_set_id", sa.String(length=40), nullable=True))
    op.create_index("ix_job_target_gradient_set_id_status", "job", ["target_gradient_set_id", "status"])


def downgrade() -> None:
    op.drop_index("ix_job_target_gradient_set_id_status")
    op.drop_column("job", "target_gradient_set_id")
    op.drop_column("job", "target_dataset_id")
