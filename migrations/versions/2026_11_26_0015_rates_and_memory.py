"""Tokens per second and memory of a unit that is worked on

Revision: 0015
Revises: 0014
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0015"
down_revision = "0014"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("unit", sa.Column("token_rate", sa.Float(53), nullable=True))
    op.add_column("unit", sa.Column("memory_bytes", sa.BigInteger(), nullable=True))


def downgrade() -> None:
    op.drop_column("unit", "memory_bytes")
    op.drop_column("unit", "token_rate")
