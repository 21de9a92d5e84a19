"""The farm: fairness, deadlines, set-aside workers, leaders, web hooks, partitioned images.

Revision: 0002, after 0001.
"""

from __future__ import annotations

from hashlib import blake2b
from typing import Any

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None

SHELF_JOBS = 1000

_ID = sa.BigInteger().with_variant(sa.Integer(), "sqlite")
_AT_WORK = "state = 'leased' AND started_at IS NOT NULL"
_CLAIMABLE = "claimable > 0"
_FAILED = "outcome = 'failed'"


def upgrade() -> None:
    for table, columns in _added().items():
        for column in columns:
            op.add_column(table, column)
    _fill_fit_keys()
    _index_claimable(["job_id", "model", "fit_key", "id"])
    _partial_index("ix_jobs_open", "jobs", ["priority", "id"], "state = 'open'")
    _partial_index("ix_tasks_held", "tasks", ["job_id", "worker_id"], _AT_WORK)
    _create_tables()
    _rebuild_images(farm=True)


def downgrade() -> None:
    _rebuild_images(farm=False)
    for table in ("deliveries", "leaders", "set_aside", "shelves"):
        op.drop_table(table)
    op.drop_index("ix_tasks_held", table_name="tasks")
    op.drop_index("ix_jobs_open", table_name="jobs")
    _index_claimable(["job_id", "id"])
    for table, columns in _added().items():
        for column in columns:
            op.drop_column(table, column.name)


def _added() -> dict[str, tuple[sa.Column[Any], ...]]:
    return {
        "jobs": (
            sa.Column("submitter", sa.Text(), server_default=sa.text("''"), nullable=False),
            sa.Column("deadline_at", sa.Double(), nullable=True),
            sa.Column("cpu", sa.Text(), server_default=sa.text("'auto'"), nullable=False),
            sa.Column("webhook", sa.Text(), nullable=True),
        ),
        "groups": (
            sa.Column("fit_key", sa.Text(), server_default=sa.text("''"), nullable=False),
            sa.Column("last_claimed_at", sa.Double(), nullable=True),
        ),
        "workers": (
            sa.Column("kind", sa.Text(), server_default=sa.text("''"), nullable=False),
            sa.Column("vram_bytes", sa.BigInteger(), server_default=sa.text("0"), nullable=False),
            sa.Column("ram_bytes", sa.BigInteger(), server_default=sa.text("0"), nullable=False),
            sa.Column("threads", sa.BigInteger(), server_default=sa.text("0"), nullable=False),
            sa.Column("loaded_model", sa.Text(), nullable=True),
            sa.Column("sleep", sa.Text(), nullable=True),
            sa.Column("note", sa.Text(), nullable=True),
        ),
        "tasks": (sa.Column("started_at", sa.Double(), nullable=True),),
    }


def _partial_index(name: str, table: str, columns: list[str], where: str) -> None:
    condition = sa.text(where)
    op.create_index(name, table, columns, sqlite_where=condition, postgresql_where=condition)


def _index_claimable(columns: list[str]) -> None:
    op.drop_index("ix_groups_claimable", table_name="groups")
    _partial_index("ix_groups_claimable", "groups", columns, _CLAIMABLE)


def _fill_fit_keys() -> None:
    """Groups with the same needs get the same key, which is all that is asked of it."""
    connection = op.get_bind()
    kinds = connection.execute(sa.text("SELECT DISTINCT requirements FROM groups")).scalars().all()
    for text in kinds:
        connection.execute(
            sa.text("UPDATE groups SET fit_key = :key WHERE requirements = :text"),
            {"key": blake2b(text.encode(), digest_size=8).hexdigest(), "text": text},
        )


def _create_tables() -> None:
    op.create_table(
        "shelves",
        sa.Column("first_job", _ID, autoincrement=False, nullable=False),
        sa.Column("stop_job", _ID, nullable=False),
        sa.Column("item_count", sa.BigInteger(), server_default=sa.text("0"), nullable=False),
        sa.PrimaryKeyConstraint("first_job", name="pk_shelves"),
    )
    op.create_table(
        "set_aside",
        sa.Column("group_id", _ID, autoincrement=False, nullable=False),
        sa.Column("worker_name", sa.Text(), nullable=False),
        sa.Column("failures", sa.Integer(), nullable=False),
        sa.Column("until", sa.Double(), nullable=False),
        sa.ForeignKeyConstraint(["group_id"], ["groups.id"], name="fk_set_aside_group_id_groups"),
        sa.PrimaryKeyConstraint("group_id", "worker_name", name="pk_set_aside"),
    )
    op.create_index("ix_set_aside_worker_name", "set_aside", ["worker_name"])
    op.create_table(
        "leaders",
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("holder", sa.Text(), nullable=False),
        sa.Column("expires_at", sa.Double(), nullable=False),
        sa.PrimaryKeyConstraint("name", name="pk_leaders"),
    )
    op.create_table(
        "deliveries",
        sa.Column("id", _ID, nullable=False),
        sa.Column("job_id", _ID, nullable=False),
        sa.Column("event", sa.Text(), nullable=False),
        sa.Column("url", sa.Text(), nullable=False),
        sa.Column("body", sa.Text(), nullable=False),
        sa.Column("attempts", sa.Integer(), server_default=sa.text("0"), nullable=False),
        sa.Column("next_at", sa.Double(), nullable=True),
        sa.Column("delivered_at", sa.Double(), nullable=True),
        sa.Column("error", sa.Text(), nullable=True),
        sa.ForeignKeyConstraint(["job_id"], ["jobs.id"], name="fk_deliveries_job_id_jobs"),
        sa.PrimaryKeyConstraint("id", name="pk_deliveries"),
        sqlite_autoincrement=True,
    )
    _partial_index("ix_deliveries_due", "deliveries", ["next_at"], "next_at IS NOT NULL")
    op.create_index("ix_deliveries_job_id", "deliveries", ["job_id"])


def _image_columns() -> list[sa.Column[Any]]:
    def column(name: str, kind: Any, *, nullable: bool = False, **options: Any) -> sa.Column[Any]:
        return sa.Column(name, kind, nullable=nullable, **options)

    def count(name: str) -> sa.Column[Any]:
        return column(name, sa.BigInteger(), server_default=sa.text("0"))

    return [
        column("job_id", _ID, autoincrement=False),
        column("item", sa.BigInteger(), autoincrement=False),
        column("group_id", _ID),
        column("task_id", _ID),
        column("worker_id", _ID),
        column("outcome", sa.Text()),
        column("reason", sa.Text(), nullable=True),
        column("detail", sa.Text(), nullable=True),
        count("row"),
        count("line"),
        count("image_no"),
        column("prompt", sa.Text()),
        column("negative_prompt", sa.Text()),
        column("seed", sa.BigInteger()),
        column("model", sa.Text()),
        column("revision", sa.Text(), nullable=True),
        column("width", sa.Integer()),
        column("height", sa.Integer()),
        column("num_inference_steps", sa.Integer()),
        column("guidance_scale", sa.Double()),
        column("scheduler", sa.Text()),
        column("tags", sa.Text()),
        column("object_key", sa.Text(), nullable=True),
        column("thumbnail_key", sa.Text(), nullable=True),
        column("bytes", sa.BigInteger(), nullable=True),
        column("sha256", sa.Text(), nullable=True),
        column("render_key", sa.Text(), nullable=True),
        column("rendering", sa.Text(), nullable=True),
        count("truncated_tokens"),
        column("seconds", sa.Double(), nullable=True),
        column("created_at", sa.Double()),
    ]


def _rebuild_images(*, farm: bool) -> None:
    """Make `images` anew, partitioned and without foreign keys (`farm`), or as 0001 had it."""
    on_postgres = op.get_bind().dialect.name == "postgresql"
    for name in ("created_at", "failed", "model", "seed"):
        op.drop_index(f"ix_images_{name}", table_name="images")
    op.rename_table("images", "images_before")
    if on_postgres:
        op.execute("ALTER TABLE images_before RENAME CONSTRAINT pk_images TO pk_images_before")
    options: dict[str, Any] = {"postgresql_partition_by": "RANGE (job_id, item)"} if farm else {}
    op.create_table(
        "images",
        *_image_columns(),
        *([] if farm else _image_references()),
        sa.PrimaryKeyConstraint("job_id", "item", name="pk_images"),
        **options,
    )
    op.create_index("ix_images_created_at", "images", ["created_at"])
    _partial_index("ix_images_failed", "images", ["job_id", "item"], _FAILED)
    op.create_index("ix_images_model", "images", ["model", "job_id", "item"])
    op.create_index("ix_images_seed", "images", ["seed", "job_id", "item"])
    if on_postgres and farm:
        _make_first_shelf()
    names = ", ".join(f'"{column.name}"' for column in _image_columns())
    op.execute(f"INSERT INTO images ({names}) SELECT {names} FROM images_before")  # noqa: S608
    op.drop_table("images_before")


def _image_references() -> list[sa.ForeignKeyConstraint]:
    return [
        sa.ForeignKeyConstraint([f"{one}_id"], [f"{one}s.id"], name=f"fk_images_{one}_id_{one}s")
        for one in ("job", "group", "task", "worker")
    ]


def _make_first_shelf() -> None:
    """One partition for all jobs there are, and the next ones."""
    connection = op.get_bind()
    newest, items = connection.execute(
        sa.text("SELECT coalesce(max(id), 0), coalesce(sum(item_count), 0) FROM jobs")
    ).one()
    stop = max(SHELF_JOBS, newest + 1)
    connection.execute(
        sa.text("INSERT INTO shelves (first_job, stop_job, item_count) VALUES (1, :stop, :items)"),
        {"stop": stop, "items": items},
    )
    op.execute(
        "CREATE TABLE images_1_0 PARTITION OF images"
        f" FOR VALUES FROM (1, MINVALUE) TO ({int(stop)}, MINVALUE)"
    )
