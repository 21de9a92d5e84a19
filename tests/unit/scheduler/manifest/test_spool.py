"""Sorting items by group in flat memory, and laying them out in shards."""

from __future__ import annotations

import tracemalloc
from collections.abc import Iterable
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from scheduler.manifest import spool
from scheduler.manifest.spool import CountingSink, ItemSpool
from storage.contract.items import Item
from storage.contract.shards import unpack
from storage.testing.factories import make_item

SHARD_ITEMS = 5
SHARD_BYTES = 400
BUFFERED_BYTES = 1000

Shards = list[tuple[int, int, bytes]]


@pytest.fixture
def low_limits(monkeypatch: pytest.MonkeyPatch) -> None:
    """Limits so low that a few items pass them."""
    _lower(monkeypatch)


def _lower(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(spool, "SHARD_ITEMS", SHARD_ITEMS)
    patch.setattr(spool, "_SHARD_BYTES", SHARD_BYTES)
    patch.setattr(spool, "_BUFFERED_BYTES", BUFFERED_BYTES)


def spooled(groups: Iterable[tuple[int, Item]]) -> tuple[Shards, list[int]]:
    it = ItemSpool()
    for group, item in groups:
        it.add(group, item)
    counts = it.counts
    shards = list(it.shards())
    it.close()
    return shards, counts


def items_of(shards: Shards) -> list[Item]:
    return [item for _, _, shard in shards for item in unpack(shard)]


SMALL = st.tuples(st.integers(0, 6), st.just(1))
LARGE = st.tuples(st.integers(0, 6), st.integers(1, 600))


@given(st.lists(SMALL | LARGE, max_size=120))
def test_any_interleaving_of_groups_comes_back_group_by_group_in_order(
    arriving: list[tuple[int, int]],
) -> None:
    given_items = [
        (group, make_item(number, prompt="x" * length))
        for number, (group, length) in enumerate(arriving)
    ]
    with pytest.MonkeyPatch.context() as patch:
        _lower(patch)
        shards, counts = spooled(given_items)
    # Nothing is lost, nothing is doubled, nothing has moved inside its group.
    assert items_of(shards) == [item for _, item in sorted(given_items, key=lambda one: one[0])]
    groups = [group for group, _ in arriving]
    assert counts == [groups.count(group) for group in range(max(groups, default=-1) + 1)]
    # Shards cover the positions without a gap, and are closed in time.
    covered = 0
    for first, count, shard in shards:
        assert first == covered
        assert count == len(unpack(shard))
        assert 0 < count < 2 * SHARD_ITEMS
        assert len(shard) < 2 * (SHARD_BYTES + 700)
        covered += count
    assert covered == len(arriving)
    if len(shards) > 1:
        assert all(
            count >= SHARD_ITEMS or len(shard) >= SHARD_BYTES for _, count, shard in shards[:-1]
        )


def test_a_group_that_gets_no_item_takes_no_place() -> None:
    shards, counts = spooled([(3, make_item(0)), (1, make_item(1))])
    assert counts == [0, 1, 0, 1]
    assert [item.row for item in items_of(shards)] == [1, 0]


@pytest.mark.usefixtures("low_limits")
def test_buffers_are_written_out_over_and_over() -> None:
    many = [(number % 40, make_item(number)) for number in range(2000)]
    shards, counts = spooled(many)
    assert counts == [50] * 40
    assert len(shards) == pytest.approx(2000 / SHARD_ITEMS, rel=0.5)
    assert items_of(shards) == [item for _, item in sorted(many, key=lambda one: one[0])]


def test_nothing_spooled_are_no_shards() -> None:
    assert spooled([]) == ([], [])


def test_a_shard_is_a_few_thousand_small_items() -> None:
    shards, _ = spooled((0, make_item(number)) for number in range(10_000))
    assert [(first, count) for first, count, _ in shards] == [
        (0, 4096),
        (4096, 4096),
        (8192, 10_000 - 8192),
    ]


def test_a_shard_of_large_items_is_closed_by_its_bytes() -> None:
    large = "x" * (1 << 20)
    shards, _ = spooled((0, make_item(number, prompt=large)) for number in range(10))
    assert all(len(shard) < 10 << 20 for _, _, shard in shards)
    assert len(items_of(shards)) == 10


@pytest.mark.parametrize("groups", [1, 64])
def test_memory_stays_flat_over_large_items_of_many_groups(groups: int) -> None:
    # Sixty-four groups with 3 MB each: none is large enough to be written out for itself.
    it = ItemSpool()
    tracemalloc.start()
    for number in range(200):
        it.add(number % groups, make_item(number, prompt="x" * (1 << 20)))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    it.close()
    assert peak < 100 << 20


def test_the_temporary_file_has_no_name_and_needs_none(tmp_path: Path) -> None:
    it = ItemSpool(tmp_path)
    for number in range(10_000):
        it.add(0, make_item(number))
    assert list(tmp_path.iterdir()) == []  # so a crash leaves nothing behind
    assert len(items_of(list(it.shards()))) == 10_000
    it.close()


def test_closing_twice_or_unused_does_no_harm() -> None:
    it = ItemSpool()
    it.close()
    it.add(0, make_item())
    it.close()
    it.close()


@given(st.lists(st.integers(0, 9)))
def test_a_dry_run_counts_what_a_spool_would_hold(groups: list[int]) -> None:
    sink = CountingSink()
    for group in groups:
        sink.add(group, make_item())
    assert sink.counts == spooled((group, make_item()) for group in groups)[1]
