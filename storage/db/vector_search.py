"""The nearest by cosine: the query filters, the distance sorts, and nothing is approximate.

Where few images match, the vectors of those are compared. Else all vectors are, page after
page, and the images of the nearest are looked at in order until enough of them match. Memory is
bounded by the page, time grows with the distinct prompts (not the images).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any, Final

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from storage.contract.search import Everything, Tree
from storage.db.rows import among, batched
from storage.db.search import matching
from storage.db.search_near import Near
from storage.db.search_plan import AllOf, Planner, share_of
from storage.db.search_sql import spelling_of
from storage.db.tables import search, search_keys, vectors
from storage.db.vectors import key_column

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Vector = NDArray[np.float32]
    Keys = NDArray[np.int64]

Page = Sequence[Any]
"""Rows of keys and vectors."""

PAGE: Final = 8_192
FEW: Final = 20_000
"""Matching images that are compared one by one."""

MOST_KEYS: Final = 20_000
"""Nearest prompts, or pictures, whose images are looked at: a query that fits none finds none."""

Scored = tuple[float, int]
"""Cosine distance, from 0 to 2, and the key of a vector."""


def nearest(
    connection: Connection, kind: str, wanted: Vector, tree: Tree, *, limit: int
) -> list[Near]:
    """Up to `limit` images that match, by the distance of their vectors to `wanted`.

    `wanted` is of length 1. Of images that share a vector the newest come first.
    """
    planner = Planner(connection)
    plan = planner.whole(tree)
    if not isinstance(tree, Everything) and share_of(plan) * planner.total <= FEW:
        return _among_few(connection, kind, wanted, plan, limit)
    found: list[Near] = []
    for distance, key in _best(connection, kind, wanted):
        left = limit - len(found)
        if left <= 0:
            break
        statement = (
            sa.select(search.c.job_id, search.c.item)
            .join(search_keys, search_keys.c.n == search.c.n)
            .where(key_column(kind) == key, spelling_of(connection).condition(plan))
            .order_by(search_keys.c.n.desc())
            .limit(left)
        )
        found += [Near(row[0], row[1], distance) for row in connection.execute(statement)]
    return found


def _among_few(
    connection: Connection, kind: str, wanted: Vector, plan: AllOf, limit: int
) -> list[Near]:
    hits = matching(connection, plan).cte("hits").prefix_with("MATERIALIZED")
    key = key_column(kind)
    rows = connection.execute(
        sa.select(hits.c.n, hits.c.job_id, hits.c.item, key)
        .join(search_keys, search_keys.c.n == hits.c.n)
        .where(key.is_not(None))
    ).all()
    distances: dict[int, float] = {}
    for some in batched(sorted({row[3] for row in rows}), 1_000):
        own = sa.and_(vectors.c.kind == kind, among(connection, vectors.c.key, some))
        statement = sa.select(vectors.c.key, vectors.c.vector).where(
            own, vectors.c.vector.is_not(None)
        )
        page = connection.execute(statement).all()
        distances.update((key, distance) for distance, key in _scores(page, wanted))
    known = [row for row in rows if row[3] in distances]
    known.sort(key=lambda row: (distances[row[3]], -row[0]))
    return [Near(row[1], row[2], distances[row[3]]) for row in known[:limit]]


def _best(connection: Connection, kind: str, wanted: Vector) -> list[Scored]:
    """The nearest of all vectors, in order."""
    import numpy as np

    best, names = np.empty(0, np.float32), np.empty(0, np.int64)
    for page in _pages(connection, kind):
        distances, keys = _compared(page, wanted)
        if len(best) >= MOST_KEYS:
            better = distances < best.max()
            distances, keys = distances[better], keys[better]
        best, names = np.concatenate((best, distances)), np.concatenate((names, keys))
        if len(best) > 2 * MOST_KEYS:
            kept = np.argpartition(best, MOST_KEYS)[:MOST_KEYS]
            best, names = best[kept], names[kept]
    order = np.lexsort((names, best))[:MOST_KEYS]
    return list(zip(best[order].tolist(), names[order].tolist(), strict=True))


def _pages(connection: Connection, kind: str) -> Iterator[Page]:
    """All vectors in the order in which they lie, read once from end to end."""
    if connection.dialect.name == "postgresql":
        connection.exec_driver_sql("SET LOCAL enable_seqscan = on")
    statement = sa.select(vectors.c.key, vectors.c.vector).where(
        vectors.c.kind == kind, vectors.c.vector.is_not(None)
    )
    found = connection.execute(statement.execution_options(yield_per=PAGE))
    yield from found.partitions()
    if connection.dialect.name == "postgresql":
        connection.exec_driver_sql("SET LOCAL enable_seqscan = off")


def _scores(page: Page, wanted: Vector) -> list[Scored]:
    distances, keys = _compared(page, wanted)
    return list(zip(distances.tolist(), keys.tolist(), strict=True))


def _compared(page: Page, wanted: Vector) -> tuple[Vector, Keys]:
    """Distances and keys of one page; vectors of other dimensions are left out.

    A model that was just changed may have left such ones.
    """
    import numpy as np

    size = 2 * len(wanted)
    whole = [row for row in page if len(row[1]) == size]
    joined = np.frombuffer(b"".join([row[1] for row in whole]), dtype="<f2")
    cosines = joined.reshape(-1, len(wanted)).astype(np.float32) @ wanted
    distances = np.maximum(np.float32(0), 1 - cosines).round(6)
    return distances, np.array([row[0] for row in whole], np.int64)
