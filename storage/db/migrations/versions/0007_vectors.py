"""What pictures and prompts are compared by: hashes in bands, and vectors.

Revision: 0007, after 0006. Images that are there already are queued for the indexer.
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0007"
down_revision = "0006"
branch_labels = None
depends_on = None

_ID = sa.BigInteger().with_variant(sa.Integer, "sqlite")
_BANDS = tuple(f"band_{number}" for number in range(4))


def upgrade() -> None:
    op.create_table(
        "search_keys",
        sa.Column("n", _ID, nullable=False, autoincrement=False),
        sa.Column("phash", sa.BigInteger, nullable=True),
        *(sa.Column(name, sa.Integer, nullable=True) for name in _BANDS),
        sa.Column("prompt_key", sa.BigInteger, nullable=False),
        sa.Column("picture_key", sa.BigInteger, nullable=True),
        sa.PrimaryKeyConstraint("n", name="pk_search_keys"),
    )
    for name in _BANDS:
        op.create_index(f"ix_search_keys_{name}", "search_keys", [name])
    for name in ("prompt_key", "picture_key"):
        op.create_index(f"ix_search_keys_{name}", "search_keys", [name, "n"])
    _vectors()
    op.execute(
        "INSERT INTO search_queue (job_id, first_item, stop_item)"
        " SELECT job_id, min(item), max(item) + 1 FROM images GROUP BY job_id ORDER BY job_id"
    )


def _vectors() -> None:
    op.create_table(
        "embedders",
        sa.Column("kind", sa.Text, nullable=False),
        sa.Column("model", sa.Text, nullable=False),
        sa.Column("dims", sa.Integer, nullable=True),
        sa.Column("next_n", sa.BigInteger, nullable=False, server_default=sa.text("0")),
        sa.Column("enabled_at", sa.Double, nullable=False),
        sa.PrimaryKeyConstraint("kind", name="pk_embedders"),
    )
    op.create_table(
        "vectors",
        sa.Column("kind", sa.Text, nullable=False),
        sa.Column("key", sa.BigInteger, nullable=False, autoincrement=False),
        sa.Column("vector", sa.LargeBinary, nullable=True),
        sa.Column("lease", sa.BigInteger, nullable=True),
        sa.Column("lease_expires_at", sa.Double, nullable=True),
        sa.Column("failures", sa.Integer, nullable=False, server_default=sa.text("0")),
        sa.Column("fault", sa.Text, nullable=True),
        sa.PrimaryKeyConstraint("kind", "key", name="pk_vectors"),
    )
    due = sa.text("vector IS NULL AND fault IS NULL")
    op.create_index(
        "ix_vectors_due", "vectors", ["kind", "key"], sqlite_where=due, postgresql_where=due
    )


def downgrade() -> None:
    for name in ("vectors", "embedders", "search_keys"):
        op.drop_table(name)
