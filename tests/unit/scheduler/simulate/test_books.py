"""The ledger's rules in memory."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from scheduler.simulate.books import Books, Piece
from scheduler.simulate.scenario import checked
from storage.contract.capability import Mode
from storage.contract.claims import Claim

Make = Callable[..., Any]

SCENARIO = checked(
    {
        "name": "small",
        "models": {"a": {"gib": {"resident": 6}, "seconds": 1.0}},
        "workers": [{"kind": "card", "count": 4, "vram_gib": 8}],
        "jobs": [{"name": "one", "groups": [{"model": "a", "items": 50, "batch": 4}]}],
    },
    "test",
)


def opened() -> Books:
    books = Books(SCENARIO)
    books.submit(SCENARIO.jobs[0])
    return books


def cut(books: Books, items: int) -> Piece:
    (piece,) = books.cut(Claim(group_id=1, items=items, mode=Mode.RESIDENT), 0.0)
    return piece


def test_pieces_follow_each_other_at_borders_of_batches() -> None:
    books = opened()
    pieces = [cut(books, 8), cut(books, 6), cut(books, 100)]
    assert [(one.first, one.stop) for one in pieces] == [(0, 8), (8, 12), (12, 50)]
    assert not books.open_groups(0.0)
    assert [one.batches for one in pieces] == [2, 1, 10]


def test_what_comes_back_is_claimed_first() -> None:
    books = opened()
    piece = cut(books, 12)
    books.done(piece, 1.0, through=4)
    books.end(piece, undone_from=4)
    assert books.open_groups(1.0)[0].claimable == 46
    again = cut(books, 4)
    assert (again.first, again.stop) == (4, 8)


def test_leases_are_counted_by_job_and_submitter() -> None:
    books = opened()
    first, _ = cut(books, 4), cut(books, 4)
    books.end(first, undone_from=4)
    (group,) = books.open_groups(0.0)
    assert (group.job_leases, group.submitter_leases) == (1, 1)


def test_items_under_lease_go_down_while_they_are_rendered() -> None:
    books = opened()
    piece = cut(books, 8)
    piece.group.run(0.0, items=8)
    assert piece.group.leased_at(5.0) == 8
    piece.group.run(10.0, rate=2.0)
    assert [piece.group.leased_at(now) for now in (10.0, 12.0, 14.0, 20.0)] == [8, 4, 0, 0]


@given(st.lists(st.tuples(st.integers(1, 30), st.floats(0, 1)), max_size=60))
def test_every_item_is_done_once_whatever_comes_back(steps: list[tuple[int, float]]) -> None:
    books = opened()
    done: list[int] = []
    for items, share in [*steps, *[(8, 1.0)] * 40]:
        if not books.open_groups(0.0):
            break
        piece = cut(books, items)
        through = piece.first + int(share * piece.items)
        books.done(piece, 1.0, through=through)
        books.end(piece, undone_from=through)
        done += range(piece.first, through)
    while books.open_groups(0.0):
        piece = cut(books, 8)
        books.done(piece, 2.0, through=piece.stop)
        books.end(piece, undone_from=piece.stop)
        done += range(piece.first, piece.stop)
    assert sorted(done) == list(range(50))
    assert books.undone == 0
    (outcome,) = books.outcomes()
    assert outcome[2] is not None
