"""Image rows: recording them in bulk, and finding them again page by page."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import msgspec
import sqlalchemy as sa
from sqlalchemy.engine import Connection

from storage.contract.errors import NotFoundError
from storage.contract.outcomes import Outcome
from storage.db import search_notes
from storage.db.bulk import insert_rows
from storage.db.rows import batched, columns_of
from storage.db.tables import image_tags, images, jobs


class ImageRow(msgspec.Struct, frozen=True):
    """One item's outcome, field for field a row of the images table."""

    job_id: int
    item: int
    group_id: int
    task_id: int
    worker_id: int
    outcome: str
    reason: str | None
    detail: str | None
    row: int
    line: int
    image_no: int
    prompt: str
    negative_prompt: str
    seed: int
    model: str
    revision: str | None
    width: int
    height: int
    num_inference_steps: int
    guidance_scale: float
    scheduler: str
    tags: str
    object_key: str | None
    thumbnail_key: str | None
    bytes: int | None
    sha256: str | None
    render_key: str | None
    rendering: str | None
    truncated_tokens: int
    seconds: float | None
    created_at: float
    phash: int | None = None
    pixels_sha256: str | None = None
    flagged: int | None = None
    produced: str | None = None
    reuse_key: str | None = None
    linked_job: int | None = None
    linked_item: int | None = None
    rating: int | None = None
    collections: str | None = None
    hidden_at: float | None = None
    marked_at: float | None = None
    lineage: str | None = None


class ImageFilter(msgspec.Struct, frozen=True, kw_only=True):
    """Conditions an image must meet, all of them."""

    job_id: int | None = None
    outcome: str | None = None
    tags: tuple[tuple[str, str], ...] = ()
    contains: str | None = None  #: in the prompt, whatever the case
    seed: int | None = None
    model: str | None = None
    row: int | None = None
    truncated: bool = False


_ITEMS_PER_QUERY = 500
_JOBS_PER_QUERY = 100
_COLUMNS = ImageRow.__struct_fields__
_IMAGE = columns_of(ImageRow, images)
_TAGS = msgspec.json.Decoder(dict[str, str])


def insert(connection: Connection, rows: Sequence[ImageRow]) -> None:
    """Insert image rows and the searchable copies of their tags, and note them for the index."""
    insert_rows(connection, images, _COLUMNS, rows, as_tuple=msgspec.structs.astuple)
    tagged = [
        (key, value, row.job_id, row.item)
        for row in rows
        if row.tags != "{}"
        for key, value in _TAGS.decode(row.tags).items()
    ]
    insert_rows(connection, image_tags, ("key", "value", "job_id", "item"), tagged)
    search_notes.note_rows(connection, rows)


def get(connection: Connection, job: str, item: int) -> ImageRow:
    """The outcome of that item of the job of that name; `NotFoundError` says what is missing."""
    row = connection.execute(
        sa.select(*_IMAGE)
        .join(jobs, jobs.c.id == images.c.job_id)
        .where(jobs.c.name == job, images.c.item == item)
    ).first()
    if row is None:
        raise NotFoundError(
            f"no image {job}/{item}",
            hint=f"see what there is: rendermill images --job {job}",
        )
    return ImageRow(*row)


def page(
    connection: Connection,
    wanted: ImageFilter,
    *,
    limit: int,
    after: tuple[int, int] | None = None,
) -> Iterator[tuple[str, ImageRow]]:
    """(job name, image) in the order of jobs and items; `after` is (job id, item) of the last.

    With tags, the first one leads: its rows lie in the order wanted, so that a rare tag costs
    what it finds and a common one no more than the page.
    """
    leading = image_tags.alias() if wanted.tags else images
    order = (leading.c.job_id, leading.c.item)
    statement = (
        sa.select(jobs.c.name, *_IMAGE)
        .join(jobs, jobs.c.id == images.c.job_id)
        .where(*_conditions(wanted))
        .order_by(*order)
        .limit(limit)
    )
    if wanted.tags:
        statement = statement.where(*_tagged(leading, *wanted.tags[0]))
    if wanted.job_id is not None:
        statement = statement.where(leading.c.job_id == wanted.job_id)
    if after is not None:
        statement = statement.where(_beyond(after, wanted.job_id, *order))
    return ((row[0], ImageRow(*row[1:])) for row in connection.execute(statement))


def of_items(connection: Connection, job_id: int, items: Sequence[int]) -> Iterator[ImageRow]:
    """The outcomes of these items of a job, in order, as far as they have one."""
    for start in range(0, len(items), _ITEMS_PER_QUERY):
        some = items[start : start + _ITEMS_PER_QUERY]
        found = connection.execute(
            sa.select(*_IMAGE)
            .where(images.c.job_id == job_id, images.c.item.in_(some))
            .order_by(images.c.item)
        )
        yield from (ImageRow(*row) for row in found)


def of_keys(
    connection: Connection, keys: Sequence[tuple[int, int]]
) -> dict[tuple[int, int], tuple[str, ImageRow]]:
    """(job name, image) by (job id, item), as far as they are there."""
    by_job: dict[int, list[int]] = {}
    for job_id, item in keys:
        by_job.setdefault(job_id, []).append(item)
    same = [
        sa.and_(images.c.job_id == job_id, images.c.item.in_(items))
        for job_id, items in by_job.items()
    ]
    found: dict[tuple[int, int], tuple[str, ImageRow]] = {}
    for some in batched(same, _JOBS_PER_QUERY):
        rows = connection.execute(
            sa.select(jobs.c.name, *_IMAGE)
            .join(jobs, jobs.c.id == images.c.job_id)
            .where(sa.or_(*some))
        )
        for row in rows:
            image = ImageRow(*row[1:])
            found[image.job_id, image.item] = (row[0], image)
    return found


def truncated_count(connection: Connection, job_id: int) -> int:
    """How many images of a job had a prompt longer than the text encoder reads."""
    return connection.execute(
        sa.select(sa.func.count())
        .select_from(images)
        .where(images.c.job_id == job_id, images.c.truncated_tokens > 0)
    ).scalar_one()


def failure_counts(connection: Connection, job_id: int) -> dict[str, int]:
    """Failed items of a job by reason."""
    found = connection.execute(
        sa.select(images.c.reason, sa.func.count())
        .where(images.c.job_id == job_id, images.c.outcome == Outcome.FAILED)
        .group_by(images.c.reason)
        .order_by(sa.func.count().desc())
    )
    return {row[0]: row[1] for row in found}


def _conditions(wanted: ImageFilter) -> Iterator[sa.ColumnElement[bool]]:
    yield images.c.hidden_at.is_(None)
    for name in ("outcome", "seed", "model", "row"):
        value = getattr(wanted, name)
        if value is not None:
            yield images.c[name] == value
    if wanted.truncated:
        yield images.c.truncated_tokens > 0
    if wanted.contains is not None:
        yield images.c.prompt.icontains(wanted.contains, autoescape=True)
    for key, value in wanted.tags[1:]:
        yield sa.exists().where(*_tagged(image_tags, key, value))


def _tagged(tags: sa.FromClause, key: str, value: str) -> tuple[sa.ColumnElement[bool], ...]:
    return (
        tags.c.key == key,
        tags.c.value == value,
        tags.c.job_id == images.c.job_id,
        tags.c.item == images.c.item,
    )


def _beyond(
    after: tuple[int, int],
    job_id: int | None,
    job_column: sa.ColumnElement[int],
    item_column: sa.ColumnElement[int],
) -> sa.ColumnElement[bool]:
    if job_id == after[0]:  # a comparison of pairs would read the job from its start
        return item_column > after[1]
    return sa.tuple_(job_column, item_column) > sa.tuple_(*map(sa.literal, after))
