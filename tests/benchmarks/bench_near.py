"""How fast near pictures and near prompts are found.

    python -m tests.benchmarks.bench_near --images 1000000 --vectors 1000000 --database URL|FILE

The database must be empty, or filled by this. Hashes are random, vectors are of 256 dimensions.
"""

from __future__ import annotations

import argparse
import random
import statistics
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
import sqlalchemy as sa

from storage.contract.search import Everything
from storage.db.bulk import insert_rows
from storage.db.engine import Ledger, open_postgres, open_sqlite
from storage.db.schema import ensure_schema
from storage.db.search_index import ALL
from storage.db.search_keys import bands_of
from storage.db.search_near import near
from storage.db.search_sql import bounded
from storage.db.tables import search, search_keys, search_words, vectors
from storage.db.vector_search import nearest

DIMS = 256
CHUNK = 50_000
COLUMNS = (
    *("n", "job_id", "item", "created_at", "seed", "row", "line", "image_no"),
    *("truncated_tokens", "prompt", "terms"),
)
KEYS = ("n", "phash", "band_0", "band_1", "band_2", "band_3", "prompt_key", "picture_key")


def main() -> None:
    """Fill, measure, print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--images", type=int, default=1_000_000)
    parser.add_argument("--vectors", type=int, default=1_000_000)
    parser.add_argument("--database", required=True)
    options = parser.parse_args()
    url = options.database
    ledger = open_postgres(url) if "://" in url else open_sqlite(Path(url))
    ensure_schema(ledger)
    fill(ledger, options.images, options.vectors)
    chance = random.Random(1)
    hashes = [chance.getrandbits(64) - (1 << 63) for _ in range(30)]
    for within in (3, 7):
        asks = [
            partial(near, phash=one, tree=Everything(), within=within, limit=50) for one in hashes
        ]
        tell(f"near, within {within} bits", [timed(ledger, ask) for ask in asks])
    wanted = np.random.default_rng(0).normal(size=DIMS).astype(np.float32)
    wanted /= np.linalg.norm(wanted)
    ask = partial(nearest, kind="prompt", wanted=wanted, tree=Everything(), limit=50)
    tell("semantic", [timed(ledger, ask) for _ in range(3)])
    ledger.close()


def fill(ledger: Ledger, images: int, prompts: int) -> None:
    """Write what is not there."""
    chance = random.Random(0)
    with ledger.read() as connection:
        there = connection.execute(sa.select(sa.func.max(search.c.n))).scalar() or 0
        made = connection.execute(sa.select(sa.func.count()).select_from(vectors)).scalar_one()
    vector = ledger.engine.dialect.name == "postgresql"
    for start in range(there, images, CHUNK):
        rows, keys = [], []
        for n in range(start + 1, start + CHUNK + 1):
            phash = chance.getrandbits(64) - (1 << 63)
            rows.append((n, 1, n, float(n), n, n, n, 0, 0, "a prompt", "'1'" if vector else " 1 "))
            keys.append((n, phash, *bands_of(phash), n % max(1, prompts), phash))
        with ledger.write() as connection:
            insert_rows(connection, search, COLUMNS, rows)
            insert_rows(connection, search_keys, KEYS, keys)
    generator = np.random.default_rng(1)
    for start in range(made, prompts, CHUNK):
        block = generator.normal(size=(CHUNK, DIMS)) / 16
        some = [("prompt", start + i, one.astype("<f2").tobytes()) for i, one in enumerate(block)]
        with ledger.write() as connection:
            insert_rows(connection, vectors, ("kind", "key", "vector"), some)
    if not there:
        with ledger.write() as connection:
            word = {"field": ALL[0], "value": ALL[1], "images": images}
            connection.execute(sa.insert(search_words).values(**word))
        with ledger.engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
            connection.exec_driver_sql("ANALYZE")


def timed(ledger: Ledger, ask: Callable[[sa.Connection], object]) -> float:
    """Milliseconds of one search."""
    began = time.perf_counter()
    with ledger.read() as connection, bounded(connection, 120):
        ask(connection)
    return (time.perf_counter() - began) * 1000


def tell(what: str, times: list[float]) -> None:
    """Median and 95th percentile."""
    ordered = sorted(times)
    p95 = ordered[int(len(ordered) * 0.95)]
    print(f"{what}: p50 {statistics.median(times):,.0f} ms, p95 {p95:,.0f} ms")


if __name__ == "__main__":
    main()
