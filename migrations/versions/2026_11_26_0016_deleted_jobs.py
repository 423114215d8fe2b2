"""Jobs that are deleted, and artifacts that are to be removed

Revision: 0016
Revises: 0015
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0016"
down_revision = "0015"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("job", sa.Column("deleted_at", sa.DateTime(timezone=True), nullable=True))
    op.create_table(
        "doomed_artifact",
        sa.Column("project_id", sa.String(length=40), nullable=False),
        sa.Column("sha256", sa.String(length=64), nullable=False),
        sa.Column("doomed_at", sa.DateTime(timezone=True), nullable=False),
        sa.ForeignKeyConstraint(["project_id"], ["project.id"], name="fk_doomed_artifact_project_id"),
        sa.PrimaryKeyConstraint("project_id", "sha256", name="pk_doomed_artifact"),
    )
    op.create_index("ix_file_project_id_sha256", "file", ["project_id", "sha256"])
    op.create_index("ix_unit_commit_artifact_sha256", "unit_commit", ["artifact_sha256"])


def downgrade() -> None:
    op.drop_index("ix_unit_commit_artifact_sha256")
    op.drop_index("ix_file_project_id_sha256")
    op.drop_table("doomed_artifact")
    op.drop_column("job", "deleted_at")
