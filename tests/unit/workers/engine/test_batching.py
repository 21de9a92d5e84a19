from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from storage.testing.factories import make_item
from workers.engine.batching import plan

lengths = st.integers(1, 60)
sizes = st.integers(1, 9)


@given(length=lengths, size=sizes, origin=st.integers(0, 1000), data=st.data())
def test_an_item_has_the_same_batch_and_place_however_tasks_are_cut(
    length: int, size: int, origin: int, data: st.DataObject
) -> None:
    items = [make_item(number) for number in range(length)]
    cut = data.draw(st.integers(0, length))
    places: dict[int, int] = {}
    for start, stop in ((0, cut), (cut, length)):
        if start == stop:
            continue
        for batch in plan(
            items[start:stop],
            first_item=origin + start,
            group_first_item=origin,
            batch_size=size,
        ):
            assert batch.size == size
            for place, number in batch.wanted:
                assert batch.slots[place] == items[number - origin]
                assert number not in places
                places[number] = place
    assert places == {origin + i: i % size for i in range(length)}


def test_places_that_nobody_wants_hold_an_item_of_the_same_batch() -> None:
    (batch,) = plan([make_item(5)], first_item=5, group_first_item=0, batch_size=4)

    assert batch.wanted == ((1, 5),)
    assert batch.slots == (make_item(5),) * 4
