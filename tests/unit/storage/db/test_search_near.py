"""Pictures that look alike are found by their hashes, and nothing else is."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterable

import pytest
import sqlalchemy as sa

from storage.contract.search import And, Between, Everything, Is, Tree
from storage.db import images, search_notes
from storage.db.engine import Ledger
from storage.db.search_index import Indexer, forget_all
from storage.db.search_keys import bands_of
from storage.db.search_near import MOST_BITS, Near, near
from storage.db.search_sql import bounded
from storage.db.tables import search_keys
from storage.testing.factories import add_groups, add_worker, cut_task, make_image_row

ASKED = -0x0123_4567_89AB_CDEF
ITEMS = 400


def apart(one: int, other: int) -> int:
    return ((one ^ other) & (2**64 - 1)).bit_count()


def changed(phash: int, bits: Iterable[int]) -> int:
    for bit in bits:
        phash ^= 1 << bit
    phash &= 2**64 - 1
    return phash - (1 << 64) if phash >> 63 else phash


def planted(chance: random.Random) -> list[int | None]:
    """Hashes of 0 to 12 bits from what is asked for, in every spread over the bands; others."""
    near_ones = [changed(ASKED, chance.sample(range(64), item % 13)) for item in range(200)]
    others = [chance.getrandbits(64) - (1 << 63) for _ in range(ITEMS - 210)]
    return [*near_ones, *others, *[None] * 10]


@pytest.fixture
def hashes(ledger: Ledger) -> list[int | None]:
    """The hashes of a job's items, which the ledger holds."""
    made = planted(random.Random(7))
    job = add_groups(ledger, (ITEMS, 1))
    task = cut_task(ledger, add_worker(ledger), items=ITEMS)
    assert task is not None
    rows = [
        make_image_row(task, item, phash=phash, width=512 if item % 2 else 64)
        for item, phash in enumerate(made)
    ]
    with ledger.write() as connection:
        images.insert(connection, rows)
    assert job.id == task.job_id
    Indexer(ledger).catch_up(60)
    return made


def found(ledger: Ledger, tree: Tree | None = None, **options: int) -> list[Near]:
    options = {"limit": 1000} | options
    with ledger.read() as connection, bounded(connection):
        return near(connection, ASKED, tree or Everything(), **options)


def test_all_that_are_near_are_found_and_no_other(ledger: Ledger, hashes: list[int | None]) -> None:
    far = {item: apart(phash, ASKED) for item, phash in enumerate(hashes) if phash is not None}
    for within in range(MOST_BITS + 1):
        right = {item: bits for item, bits in far.items() if bits <= within}
        assert len(right) > 10
        assert {one.item: one.distance for one in found(ledger, within=within)} == right


def test_the_nearest_come_first(ledger: Ledger, hashes: list[int | None]) -> None:
    whole = found(ledger)
    assert [one.distance for one in whole] == sorted(one.distance for one in whole)
    assert found(ledger, limit=5) == whole[:5]


def test_the_query_filters(ledger: Ledger, hashes: list[int | None]) -> None:
    wide = Between("width", 512, None)
    odd = [one for one in found(ledger) if one.item % 2]
    assert found(ledger, wide) == odd
    assert found(ledger, And((wide, Is("job", "job")))) == odd
    assert found(ledger, And((wide, Is("job", "other")))) == []


def test_what_is_gone_is_not_found_and_what_is_indexed_anew_is(
    ledger: Ledger, hashes: list[int | None]
) -> None:
    whole = found(ledger)
    with ledger.write() as connection:
        forget_all(connection)
    assert found(ledger) == []
    Indexer(ledger).catch_up(60)
    assert found(ledger) == whole


def test_images_indexed_before_there_were_keys_get_theirs(
    ledger: Ledger, hashes: list[int | None]
) -> None:
    whole = found(ledger)
    with ledger.write() as connection:
        connection.execute(sa.delete(search_keys))
        search_notes.note(connection, 1, 0, ITEMS)
    Indexer(ledger).catch_up(60)
    assert found(ledger) == whole


def test_bands_are_the_whole_hash() -> None:
    for phash in (0, -1, ASKED, 2**63 - 1, -(2**63)):
        first, second, third, fourth = bands_of(phash)
        assert first << 48 | second << 32 | third << 16 | fourth == phash & (2**64 - 1)


def test_an_index_finds_them(sqlite_ledger: Ledger, plan_of: Callable[..., list[str]]) -> None:
    with sqlite_ledger.write() as connection:
        connection.exec_driver_sql("ANALYZE")
    steps = plan_of(lambda connection: near(connection, ASKED, Everything(), limit=5))
    assert any("ix_search_keys_band_3" in step for step in steps)
    assert not any(step.startswith("SCAN search") for step in steps)
