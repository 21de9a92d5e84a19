"""What must be true of a job that has ended, whatever happened meanwhile."""

from __future__ import annotations

import hashlib
import io
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import msgspec
import numpy as np
from PIL import Image

from storage.contract.items import GroupSpec, Item
from storage.contract.shards import unpack
from storage.db import shards
from storage.objects.s3 import S3Store
from tests.services.farm import Farm
from workers.engine.fake import pixels_of

_AT_ONCE = 8


def check_all(farm: Farm, job: str, *, items: int) -> dict[str, int]:
    """`Farm.check`, and that every picture is stored whole, recorded right and the right one.

    Returns how many items ended in which way.
    """
    farm.check(job, items=items)
    ((job_id,),) = farm.query("SELECT id FROM jobs WHERE name = :job", job=job)
    rows = farm.query("SELECT * FROM images WHERE job_id = :id ORDER BY item", id=job_id)
    _check_counters(farm, job_id, rows)
    store = farm.store
    try:
        wanted = _items(farm, store, job_id, items)
        specs = {
            one.id: msgspec.json.decode(one.spec, type=GroupSpec)
            for one in farm.query("SELECT id, spec FROM groups WHERE job_id = :id", id=job_id)
        }
        with ThreadPoolExecutor(_AT_ONCE) as threads:
            wrong = threads.map(
                lambda row: _wrong(store, row, specs[row.group_id], wanted[row.item]), rows
            )
            assert [said for said in wrong if said] == []
        thumbnails = set(store.keys(f"thumbnails/{job}/"))
        assert {row.thumbnail_key for row in rows if row.thumbnail_key} == thumbnails
    finally:
        store.close()
    outcomes = [row.outcome for row in rows]
    return {outcome: outcomes.count(outcome) for outcome in sorted(set(outcomes))}


def _check_counters(farm: Farm, job_id: int, rows: Sequence[Any]) -> None:
    """Every counter is the number of rows it counts."""
    by_group = _tally(rows, "group_id")
    by_task = _tally(rows, "task_id")
    for table, tally in (("groups", by_group), ("tasks", by_task)):
        found = farm.query(f"SELECT id, done, failed FROM {table} WHERE job_id = :id", id=job_id)
        told = {row.id: (row.done, row.failed) for row in found if row.done + row.failed}
        assert told == tally, f"counters of {table}"
    assert farm.query("SELECT 1 FROM returned r JOIN groups g ON g.id = r.group_id"
                      " WHERE g.job_id = :id", id=job_id) == []  # fmt: skip


def _tally(rows: Sequence[Any], column: str) -> dict[int, tuple[int, int]]:
    counts: dict[int, tuple[int, int]] = {}
    for row in rows:
        done, failed = counts.get(getattr(row, column), (0, 0))
        rendered = row.outcome == "rendered"
        counts[getattr(row, column)] = (done + rendered, failed + (not rendered))
    return counts


def _items(farm: Farm, store: S3Store, job_id: int, count: int) -> list[Item]:
    with farm.ledger.read() as connection:
        places = shards.covering(connection, job_id, 0, count)
    return [item for _, key in places for item in unpack(store.get(key), key=key)]


def _wrong(store: S3Store, row: Any, spec: GroupSpec, item: Item) -> str | None:
    """What is wrong with a row's picture, if anything."""
    if row.object_key is None:
        return None if row.outcome == "failed" and row.reason else f"{row.item}: no reason"
    data = store.get(row.object_key)
    if hashlib.sha256(data).hexdigest() != row.sha256:
        return f"{row.item}: another picture than the recorded one is stored"
    pixels = np.asarray(Image.open(io.BytesIO(data)))
    return None if np.array_equal(pixels, pixels_of(spec, item)) else f"{row.item}: wrong pixels"
