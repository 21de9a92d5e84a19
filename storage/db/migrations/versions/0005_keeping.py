"""What the catalog keeps of its images: marks, collections, links and retention.

Revision: 0005, after 0004.
"""

from __future__ import annotations

from typing import Any

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None

_ID = sa.BigInteger().with_variant(sa.Integer, "sqlite")
_INDEXES = {
    "reuse_key": ("reuse_key",),
    "linked": ("linked_job", "linked_item"),
    "hidden_at": ("hidden_at",),
}


def upgrade() -> None:
    """Add the columns, their indexes and the tables."""
    for column in _columns():
        op.add_column("images", column)
    for name, columns in _INDEXES.items():
        there = sa.text(f"{columns[0]} IS NOT NULL")
        op.create_index(
            f"ix_images_{name}",
            "images",
            list(columns),
            sqlite_where=there,
            postgresql_where=there,
        )
    op.add_column("search", sa.Column("marked_at", sa.Double(), nullable=True))
    op.create_table(
        "collected",
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("job_id", _ID, autoincrement=False, nullable=False),
        sa.Column("item", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.PrimaryKeyConstraint("name", "job_id", "item", name=op.f("pk_collected")),
        sqlite_with_rowid=False,
    )
    op.create_table(
        "origins",
        sa.Column("object_key", sa.Text(), nullable=False),
        sa.Column("image", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("object_key", name=op.f("pk_origins")),
    )
    op.create_table(
        "retention",
        sa.Column("id", _ID, nullable=False),
        sa.Column("query", sa.Text(), nullable=False),
        sa.Column("keep_seconds", sa.Double(), nullable=True),
        sa.Column("max_bytes", sa.BigInteger(), nullable=True),
        sa.Column("created_at", sa.Double(), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_retention")),
        sqlite_autoincrement=True,
    )


def _columns() -> tuple[sa.Column[Any], ...]:
    return (
        sa.Column("reuse_key", sa.Text(), nullable=True),
        sa.Column("linked_job", sa.BigInteger(), nullable=True),
        sa.Column("linked_item", sa.BigInteger(), nullable=True),
        sa.Column("rating", sa.Integer(), nullable=True),
        sa.Column("collections", sa.Text(), nullable=True),
        sa.Column("hidden_at", sa.Double(), nullable=True),
        sa.Column("marked_at", sa.Double(), nullable=True),
        sa.Column("lineage", sa.Text(), nullable=True),
    )


def downgrade() -> None:
    """Take them away again."""
    op.drop_table("retention")
    op.drop_table("origins")
    op.drop_table("collected")
    op.drop_column("search", "marked_at")
    for name in _INDEXES:
        op.drop_index(f"ix_images_{name}", table_name="images")
    for column in _columns():
        op.drop_column("images", column.name)
