"""The ledger's tables, as SQLAlchemy Core. `migrations/` makes them; a test holds them equal.

Times are seconds since the epoch. JSON is kept as text, encoded by msgspec at the border. Rows
of `images` carry their group's settings too: the catalog is what people search, and one wide
table needs no join.

`images` alone has no foreign keys: its rows are written only by a transaction that holds their
task's row, which refers to all the rest, and checking four references again for each picture
would cost more than writing it. On PostgreSQL it is partitioned by its key; see `shelves`.
"""

from __future__ import annotations

from typing import Any

from sqlalchemy import (
    BigInteger,
    Column,
    Double,
    ForeignKey,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    Table,
    Text,
    and_,
    text,
)
from sqlalchemy.dialects.postgresql import TSVECTOR

metadata = MetaData(
    naming_convention={
        "ix": "ix_%(table_name)s_%(column_0_N_name)s",
        "uq": "uq_%(table_name)s_%(column_0_N_name)s",
        "fk": "fk_%(table_name)s_%(column_0_N_name)s_%(referred_table_name)s",
        "pk": "pk_%(table_name)s",
    }
)

# SQLite makes a column its row number only if it is declared INTEGER, nothing longer.
Id = BigInteger().with_variant(Integer, "sqlite")


def _id() -> Column[int]:
    return Column("id", Id, primary_key=True)


def _count(name: str) -> Column[int]:
    return Column(name, BigInteger, nullable=False, server_default=text("0"))


def _text(name: str, *, nullable: bool = False, **options: Any) -> Column[str]:
    return Column(name, Text, nullable=nullable, **options)


def _at(name: str, *, nullable: bool = True) -> Column[float]:
    return Column(name, Double, nullable=nullable)


def _seconds(name: str) -> Column[float]:
    return Column(name, Double, nullable=False, server_default=text("0"))


def _ref(name: str, target: str, **options: Any) -> Column[int]:
    return Column(name, Id, ForeignKey(f"{target}.id"), nullable=False, **options)


def _ref_key(name: str, target: str) -> Column[int]:
    return Column(name, Id, ForeignKey(f"{target}.id"), primary_key=True, autoincrement=False)


jobs = Table(
    "jobs",
    metadata,
    _id(),
    _text("name", unique=True),
    _text("state"),
    _text("digest"),  # of the manifest's bytes and the settings it was submitted with
    _text("token"),  # folder of its shards in the object store
    _text("manifest"),  # path as the user gave it
    _text("settings"),  # JSON: seed, overrides, output
    _count("priority"),
    _count("item_count"),
    _count("done"),
    _count("failed"),
    _count("rejected"),  # rows refused under --skip-invalid
    _text("submitter", server_default=text("''")),
    _at("deadline_at"),
    _text("cpu", server_default=text("'auto'")),  # may CPUs take it: auto, never, only
    _text("webhook", nullable=True),  # address told of its end
    _at("created_at", nullable=False),
    _at("finished_at"),
    _text("output", server_default=text("''")),  # JSON of OutputOptions; empty: the defaults
    sqlite_autoincrement=True,
)
Index(
    "ix_jobs_open",
    jobs.c.priority,
    jobs.c.id,
    sqlite_where=jobs.c.state == "open",
    postgresql_where=jobs.c.state == "open",
)

groups = Table(
    "groups",
    metadata,
    _id(),
    _ref("job_id", "jobs"),
    _text("spec"),  # JSON of GroupSpec
    _text("model"),
    _text("requirements"),  # JSON of Requirements
    _text("fit_key", server_default=text("''")),  # equal for groups that fit the same workers
    _text("profile_key"),
    _count("batch_size"),
    _count("first_item"),
    _count("stop_item"),
    _count("next_item"),  # first item never claimed
    _count("claimable"),  # never claimed, plus returned
    _count("leased"),
    _count("done"),
    _count("failed"),
    _at("last_claimed_at"),
    sqlite_autoincrement=True,
)
Index(
    "ix_groups_claimable",
    groups.c.job_id,
    groups.c.model,
    groups.c.fit_key,
    groups.c.id,
    sqlite_where=groups.c.claimable > 0,
    postgresql_where=groups.c.claimable > 0,
)
Index("ix_groups_job_id", groups.c.job_id, groups.c.first_item)

returned = Table(
    "returned",
    metadata,
    _id(),
    _ref("group_id", "groups"),
    _count("first_item"),
    _count("stop_item"),
    _text("failures"),  # JSON list of Failure
    _at("not_before", nullable=False),
    sqlite_autoincrement=True,
)
Index("ix_returned_group_id", returned.c.group_id, returned.c.first_item)

workers = Table(
    "workers",
    metadata,
    _id(),
    _text("name"),
    _text("state"),
    _text("host"),
    Column("pid", Integer, nullable=False),
    _at("process_started_at", nullable=False),  # with host and pid, names the process for good
    _text("device"),
    _text("vram_class"),
    _text("capability"),  # JSON of Capability
    _text("progress", nullable=True),  # JSON of Progress
    _at("started_at", nullable=False),
    _at("seen_at", nullable=False),
    # Copies from the capability, for summing up the fleet.
    _text("kind", server_default=text("''")),
    _count("vram_bytes"),
    _count("ram_bytes"),
    _count("threads"),
    _text("loaded_model", nullable=True),
    _text("sleep", nullable=True),  # a schedule like "22:00-06:00" during which it rests
    _text("note", nullable=True),  # why it drains or rests, for people
    sqlite_autoincrement=True,
)
Index("ix_workers_state", workers.c.state)

tasks = Table(
    "tasks",
    metadata,
    _id(),
    _ref("job_id", "jobs"),
    _ref("group_id", "groups"),
    _ref("worker_id", "workers"),
    _count("first_item"),
    _count("stop_item"),
    _text("state"),
    Column("lease", BigInteger, nullable=False),  # the fencing token
    _at("lease_expires_at", nullable=False),
    _text("failures"),  # JSON list of Failure its range came with
    _count("done"),
    _count("failed"),
    _at("claimed_at", nullable=False),
    _at("started_at"),  # written before its work starts; until then nothing can be its fault
    _at("ended_at"),
    sqlite_autoincrement=True,
)
Index(
    "ix_tasks_leased",
    tasks.c.lease_expires_at,
    sqlite_where=tasks.c.state == "leased",
    postgresql_where=tasks.c.state == "leased",
)
Index(
    "ix_tasks_held",
    tasks.c.job_id,
    tasks.c.worker_id,
    sqlite_where=and_(tasks.c.state == "leased", tasks.c.started_at.is_not(None)),
    postgresql_where=and_(tasks.c.state == "leased", tasks.c.started_at.is_not(None)),
)
Index(
    "ix_tasks_ended",
    tasks.c.job_id,
    tasks.c.ended_at,
    sqlite_where=tasks.c.ended_at.is_not(None),
    postgresql_where=tasks.c.ended_at.is_not(None),
)
Index("ix_tasks_worker_id", tasks.c.worker_id)
Index("ix_tasks_job_id", tasks.c.job_id, tasks.c.id)

shards = Table(
    "shards",
    metadata,
    Column("job_id", Id, ForeignKey("jobs.id"), primary_key=True),
    Column("first_item", BigInteger, primary_key=True, autoincrement=False),
    _count("item_count"),
    _text("object_key"),
)

# Ranges of jobs whose image rows lie together: on PostgreSQL each is a partition of `images`, or
# several of one very large job. SQLite has no partitions, and this stays empty.
shelves = Table(
    "shelves",
    metadata,
    Column("first_job", Id, primary_key=True, autoincrement=False),
    Column("stop_job", Id, nullable=False),
    _count("item_count"),  # of the jobs put there so far
)

images = Table(
    "images",
    metadata,
    Column("job_id", Id, primary_key=True, autoincrement=False),
    Column("item", BigInteger, primary_key=True, autoincrement=False),
    Column("group_id", Id, nullable=False),
    Column("task_id", Id, nullable=False),
    Column("worker_id", Id, nullable=False),
    _text("outcome"),
    _text("reason", nullable=True),
    _text("detail", nullable=True),
    _count("row"),
    _count("line"),
    _count("image_no"),
    _text("prompt"),
    _text("negative_prompt"),
    Column("seed", BigInteger, nullable=False),
    _text("model"),
    _text("revision", nullable=True),
    Column("width", Integer, nullable=False),
    Column("height", Integer, nullable=False),
    Column("num_inference_steps", Integer, nullable=False),
    Column("guidance_scale", Double, nullable=False),
    _text("scheduler"),
    _text("tags"),  # JSON object; searchable copies in image_tags
    _text("object_key", nullable=True),
    _text("thumbnail_key", nullable=True),
    Column("bytes", BigInteger, nullable=True),
    _text("sha256", nullable=True),
    _text("render_key", nullable=True),
    _text("rendering", nullable=True),  # JSON of Rendering: how these pixels came to be
    _count("truncated_tokens"),  # tokens of the prompt the text encoder did not read
    Column("seconds", Double, nullable=True),  # its share of the task's rendering time
    _at("created_at", nullable=False),
    Column("phash", BigInteger, nullable=True),  # perceptual hash: 64 bits, signed
    _text("pixels_sha256", nullable=True),  # of the pixels as rendered
    Column("flagged", Integer, nullable=True),  # by the safety checker: 0 or 1; null: not checked
    _text("produced", nullable=True),  # JSON of Produced: what was done to them
    _text("reuse_key", nullable=True),  # equal for images that one picture can serve; see `links`
    Column("linked_job", BigInteger, nullable=True),  # whose picture this is; null: its own
    Column("linked_item", BigInteger, nullable=True),
    Column("rating", Integer, nullable=True),  # 1 to 5, by people
    _text("collections", nullable=True),  # JSON list of names; searchable copies in collected
    _at("hidden_at"),  # null: shown; 0: its object may be gone already; see `keeping`
    _at("marked_at"),  # when any of this, or its tags, were last changed by people
    _text("lineage", nullable=True),  # JSON of Lineage: where it comes from
    postgresql_partition_by="RANGE (job_id, item)",
)
Index("ix_images_created_at", images.c.created_at)
for _name, _columns in {
    "reuse_key": (images.c.reuse_key,),
    "linked": (images.c.linked_job, images.c.linked_item),
    "hidden_at": (images.c.hidden_at,),
}.items():
    Index(
        f"ix_images_{_name}",
        *_columns,
        sqlite_where=_columns[0].is_not(None),
        postgresql_where=_columns[0].is_not(None),
    )
# Ordered like the pages of the catalog: a seed or model can be that of nearly all images.
Index("ix_images_seed", images.c.seed, images.c.job_id, images.c.item)
Index("ix_images_model", images.c.model, images.c.job_id, images.c.item)
Index(
    "ix_images_failed",
    images.c.job_id,
    images.c.item,
    sqlite_where=images.c.outcome == "failed",
    postgresql_where=images.c.outcome == "failed",
)

image_tags = Table(
    "image_tags",
    metadata,
    Column("key", Text, primary_key=True),
    Column("value", Text, primary_key=True),
    Column("job_id", Id, primary_key=True, autoincrement=False),
    Column("item", BigInteger, primary_key=True, autoincrement=False),
    sqlite_with_rowid=False,
)

# Which images are in which collection.
collected = Table(
    "collected",
    metadata,
    Column("name", Text, primary_key=True),
    Column("job_id", Id, primary_key=True, autoincrement=False),
    Column("item", BigInteger, primary_key=True, autoincrement=False),
    sqlite_with_rowid=False,
)

# Input pictures that were taken from the catalog, and from which image.
origins = Table(
    "origins",
    metadata,
    Column("object_key", Text, primary_key=True),
    _text("image"),  # JOB/ITEM
)

# How long images are kept, or how many bytes of them.
retention = Table(
    "retention",
    metadata,
    _id(),
    _text("query"),
    Column("keep_seconds", Double, nullable=True),
    Column("max_bytes", BigInteger, nullable=True),
    _at("created_at", nullable=False),
    sqlite_autoincrement=True,
)

# What the catalog is searched by: a narrow row for each image, written behind the recording by
# whoever leads the scheduler's loop. On SQLite `terms` is text that FTS5 indexes, on PostgreSQL a
# tsvector; see `search_terms`.
search = Table(
    "search",
    metadata,
    # Counts up in the order images came into the catalog.
    Column("n", Id, primary_key=True, autoincrement=False),
    Column("job_id", Id, nullable=False),
    Column("item", BigInteger, nullable=False),
    Column("created_at", Double, nullable=False),
    Column("seed", BigInteger, nullable=False),
    Column("row", BigInteger, nullable=False),
    Column("line", BigInteger, nullable=False),
    Column("image_no", BigInteger, nullable=False),
    Column("truncated_tokens", BigInteger, nullable=False),
    Column("seconds", Double, nullable=True),
    Column("bytes", BigInteger, nullable=True),
    _at("marked_at"),  # of the image when it was indexed
    _text("prompt"),  # in small letters, for patterns
    Column("terms", Text().with_variant(TSVECTOR(), "postgresql"), nullable=False),
)
Index("ix_search_image", search.c.job_id, search.c.item, unique=True)
Index("ix_search_seed", search.c.seed, search.c.n)
Index("ix_search_seconds", search.c.seconds, search.c.n)
Index("ix_search_bytes", search.c.bytes, search.c.n)
Index(
    "ix_search_terms", search.c.terms, postgresql_using="gin", postgresql_with={"fastupdate": "off"}
).ddl_if(dialect="postgresql")

# Every word and value that was ever indexed, with how many images have it.
search_words = Table(
    "search_words",
    metadata,
    _id(),
    _text("field"),
    _text("value"),
    Column("number", Double, nullable=True),
    _count("images"),
    sqlite_autoincrement=True,
)
Index("ix_search_words_field", search_words.c.field, search_words.c.value, unique=True)
Index("ix_search_words_number", search_words.c.field, search_words.c.number)

# Ranges of items to look at anew: written along with the images, taken by the indexer.
search_queue = Table(
    "search_queue",
    metadata,
    _id(),
    Column("job_id", Id, nullable=False),
    Column("first_item", BigInteger, nullable=False),
    Column("stop_item", BigInteger, nullable=False),
    sqlite_autoincrement=True,
)

# What images are compared by, written along with `search`: the four 16-bit bands of a perceptual
# hash, and 64-bit digests of prompt and pixels, which name their vectors.
search_keys = Table(
    "search_keys",
    metadata,
    Column("n", Id, primary_key=True, autoincrement=False),  # as in `search`
    Column("phash", BigInteger, nullable=True),
    *(Column(f"band_{number}", Integer, nullable=True) for number in range(4)),
    Column("prompt_key", BigInteger, nullable=False),
    Column("picture_key", BigInteger, nullable=True),
)
for _band in range(4):
    Index(f"ix_search_keys_band_{_band}", search_keys.c[f"band_{_band}"])
Index("ix_search_keys_prompt_key", search_keys.c.prompt_key, search_keys.c.n)
Index("ix_search_keys_picture_key", search_keys.c.picture_key, search_keys.c.n)

# What makes vectors of each kind of thing, prompts or pictures; no row: nothing does.
embedders = Table(
    "embedders",
    metadata,
    Column("kind", Text, primary_key=True),
    _text("model"),
    Column("dims", Integer, nullable=True),  # of its vectors, once there is one
    _count("next_n"),  # catalog number from which on nothing was noted in `vectors` yet
    _at("enabled_at", nullable=False),
)

# A vector of each distinct prompt or picture; without one it is work for idle workers.
vectors = Table(
    "vectors",
    metadata,
    Column("kind", Text, primary_key=True),
    Column("key", BigInteger, primary_key=True, autoincrement=False),
    Column("vector", LargeBinary, nullable=True),  # float16, of length 1
    Column("lease", BigInteger, nullable=True),  # the fencing token
    _at("lease_expires_at"),
    Column("failures", Integer, nullable=False, server_default=text("0")),
    _text("fault", nullable=True),  # why it was given up
)
Index(
    "ix_vectors_due",
    vectors.c.kind,
    vectors.c.key,
    sqlite_where=and_(vectors.c.vector.is_(None), vectors.c.fault.is_(None)),
    postgresql_where=and_(vectors.c.vector.is_(None), vectors.c.fault.is_(None)),
)

saved_queries = Table(
    "saved_queries",
    metadata,
    Column("name", Text, primary_key=True),
    _text("query"),
    _at("created_at", nullable=False),
)

profiles = Table(
    "profiles",
    metadata,
    Column("profile_key", Text, primary_key=True),  # model, size, steps and batch
    Column("mode", Text, primary_key=True),
    Column("device_kind", Text, primary_key=True),
    _count("images"),
    Column("seconds", Double, nullable=False),  # rendering time of those images in all
    _count("bytes"),  # of their files in all
    _count("peak_bytes"),  # largest memory seen
    _at("updated_at", nullable=False),
    # Rendering time by phase, where it was told.
    _seconds("encode_seconds"),
    _seconds("condition_seconds"),
    _seconds("denoise_seconds"),
    _seconds("decode_seconds"),
)

# What was seen of each rung of the memory ladder.
rungs = Table(
    "rungs",
    metadata,
    Column("profile_key", Text, primary_key=True),
    Column("mode", Text, primary_key=True),
    Column("device_kind", Text, primary_key=True),
    Column("batch", Integer, primary_key=True, autoincrement=False),  # 0: the group's own
    Column("tiled", Integer, primary_key=True, autoincrement=False),
    _count("peak_bytes"),  # largest memory it took where it was rendered; 0: never rendered
    _count("failed_bytes"),  # largest memory in which it ran out; 0: never did
    _at("updated_at", nullable=False),
)
Index("ix_rungs_device_kind", rungs.c.device_kind)

events = Table(
    "events",
    metadata,
    _id(),
    _at("at", nullable=False),
    _text("entity"),
    Column("entity_id", BigInteger, nullable=False),
    _text("verb"),
    _text("detail", nullable=True),
    sqlite_autoincrement=True,
)
Index("ix_events_entity", events.c.entity, events.c.entity_id)

# Workers that failed at a group what others then rendered; no row: nothing to say against it.
set_aside = Table(
    "set_aside",
    metadata,
    _ref_key("group_id", "groups"),
    Column("worker_name", Text, primary_key=True),
    Column("failures", Integer, nullable=False),
    _at("until", nullable=False),
)
Index("ix_set_aside_worker_name", set_aside.c.worker_name)

# Leases of the scheduler's loops: of several schedulers, one leads.
leaders = Table(
    "leaders",
    metadata,
    Column("name", Text, primary_key=True),
    _text("holder"),
    _at("expires_at", nullable=False),
)

# Web hooks to send.
deliveries = Table(
    "deliveries",
    metadata,
    _id(),
    _ref("job_id", "jobs"),
    _text("event"),
    _text("url"),
    _text("body"),
    Column("attempts", Integer, nullable=False, server_default=text("0")),
    _at("next_at"),  # null: nothing more will be tried
    _at("delivered_at"),
    _text("error", nullable=True),  # of the last attempt
    sqlite_autoincrement=True,
)
Index(
    "ix_deliveries_due",
    deliveries.c.next_at,
    sqlite_where=deliveries.c.next_at.is_not(None),
    postgresql_where=deliveries.c.next_at.is_not(None),
)
Index("ix_deliveries_job_id", deliveries.c.job_id)
