"""What the catalog is searched by.

Revision: 0004, after 0003. Images that are there already are queued for the indexer.
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects.postgresql import TSVECTOR

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None

_ID = sa.BigInteger().with_variant(sa.Integer, "sqlite")
_TABLES = ("saved_queries", "search_queue", "search_words", "search")


def upgrade() -> None:
    _search()
    _words()
    op.create_table(
        "search_queue",
        sa.Column("id", _ID, nullable=False),
        *(sa.Column(name, sa.BigInteger, nullable=False) for name in ("first_item", "stop_item")),
        sa.Column("job_id", _ID, nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_search_queue"),
        sqlite_autoincrement=True,
    )
    op.create_table(
        "saved_queries",
        sa.Column("name", sa.Text, nullable=False),
        sa.Column("query", sa.Text, nullable=False),
        sa.Column("created_at", sa.Double, nullable=False),
        sa.PrimaryKeyConstraint("name", name="pk_saved_queries"),
    )
    op.execute(
        "INSERT INTO search_queue (job_id, first_item, stop_item)"
        " SELECT job_id, min(item), max(item) + 1 FROM images GROUP BY job_id ORDER BY job_id"
    )
    if op.get_bind().dialect.name == "postgresql":
        _trigrams()
    else:
        _full_text()


def downgrade() -> None:
    if op.get_bind().dialect.name != "postgresql":
        op.execute("DROP TABLE search_fts")
        op.execute("DROP TABLE search_spellings")
    for name in _TABLES:
        op.drop_table(name)


def _search() -> None:
    whole = ("job_id", "item", "seed", "row", "line", "image_no", "truncated_tokens")
    op.create_table(
        "search",
        sa.Column("n", _ID, nullable=False, autoincrement=False),
        *(
            sa.Column(name, _ID if name == "job_id" else sa.BigInteger, nullable=False)
            for name in whole
        ),
        sa.Column("created_at", sa.Double, nullable=False),
        sa.Column("seconds", sa.Double, nullable=True),
        sa.Column("bytes", sa.BigInteger, nullable=True),
        sa.Column("prompt", sa.Text, nullable=False),
        sa.Column("terms", sa.Text().with_variant(TSVECTOR(), "postgresql"), nullable=False),
        sa.PrimaryKeyConstraint("n", name="pk_search"),
    )
    op.create_index("ix_search_image", "search", ["job_id", "item"], unique=True)
    for name in ("seed", "seconds", "bytes"):
        op.create_index(f"ix_search_{name}", "search", [name, "n"])
    if op.get_bind().dialect.name == "postgresql":
        op.create_index(
            "ix_search_terms",
            "search",
            ["terms"],
            postgresql_using="gin",
            postgresql_with={"fastupdate": "off"},
        )


def _words() -> None:
    op.create_table(
        "search_words",
        sa.Column("id", _ID, nullable=False),
        sa.Column("field", sa.Text, nullable=False),
        sa.Column("value", sa.Text, nullable=False),
        sa.Column("number", sa.Double, nullable=True),
        sa.Column("images", sa.BigInteger, nullable=False, server_default=sa.text("0")),
        sa.PrimaryKeyConstraint("id", name="pk_search_words"),
        sqlite_autoincrement=True,
    )
    op.create_index("ix_search_words_field", "search_words", ["field", "value"], unique=True)
    op.create_index("ix_search_words_number", "search_words", ["field", "number"])


def _trigrams() -> None:
    """Parts of words are looked up in the vocabulary; without the extension it is read whole."""
    op.execute(
        """
        DO $$ BEGIN
            CREATE EXTENSION IF NOT EXISTS pg_trgm;
            CREATE INDEX ix_search_words_trigrams ON search_words USING gin (value gin_trgm_ops);
        EXCEPTION WHEN OTHERS THEN
            RAISE NOTICE 'pg_trgm is not there: %', SQLERRM;
        END $$
        """
    )


def _full_text() -> None:
    """Both keep no text of their own, and number their rows like the tables they index."""
    op.execute(
        "CREATE VIRTUAL TABLE search_fts USING fts5"
        "(terms, content='search', content_rowid='n', tokenize='ascii')"
    )
    op.execute(
        "CREATE VIRTUAL TABLE search_spellings USING fts5"
        "(value, content='search_words', content_rowid='id', tokenize='trigram')"
    )
