"""What the engine learns and records: seconds by phase, and the rungs of the memory ladder.

Revision: 0006, after 0005.
"""

from __future__ import annotations

from typing import Any

import sqlalchemy as sa
from alembic import op

revision = "0006"
down_revision = "0005"
branch_labels = None
depends_on = None

_PHASES = ("encode", "condition", "denoise", "decode")


def upgrade() -> None:
    """Add the columns and the table."""
    for phase in _PHASES:
        column: sa.Column[float] = sa.Column(
            f"{phase}_seconds", sa.Double(), server_default=sa.text("0"), nullable=False
        )
        op.add_column("profiles", column)
    op.create_table(
        "rungs",
        sa.Column("profile_key", sa.Text(), nullable=False),
        sa.Column("mode", sa.Text(), nullable=False),
        sa.Column("device_kind", sa.Text(), nullable=False),
        sa.Column("batch", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("tiled", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("peak_bytes", sa.BigInteger(), server_default=sa.text("0"), nullable=False),
        sa.Column("failed_bytes", sa.BigInteger(), server_default=sa.text("0"), nullable=False),
        sa.Column("updated_at", sa.Double(), nullable=False),
        sa.PrimaryKeyConstraint(
            "profile_key", "mode", "device_kind", "batch", "tiled", name=op.f("pk_rungs")
        ),
    )
    op.create_index("ix_rungs_device_kind", "rungs", ["device_kind"])
    _add_output()


def _add_output() -> None:
    """What a job asks of its files, and what is known of each."""
    op.add_column(
        "jobs", sa.Column("output", sa.Text(), server_default=sa.text("''"), nullable=False)
    )
    for column in _facts():
        op.add_column("images", column)


def _facts() -> tuple[sa.Column[Any], ...]:
    return (
        sa.Column("phash", sa.BigInteger(), nullable=True),
        sa.Column("pixels_sha256", sa.Text(), nullable=True),
        sa.Column("flagged", sa.Integer(), nullable=True),
        sa.Column("produced", sa.Text(), nullable=True),
    )


def downgrade() -> None:
    """Take them away again."""
    for column in _facts():
        op.drop_column("images", column.name)
    op.drop_column("jobs", "output")
    op.drop_index("ix_rungs_device_kind", table_name="rungs")
    op.drop_table("rungs")
    for phase in _PHASES:
        op.drop_column("profiles", f"{phase}_seconds")
