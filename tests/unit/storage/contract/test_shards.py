"""The form of a shard."""

from __future__ import annotations

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from storage.contract.errors import ShardDamaged
from storage.contract.items import SEED_MAX, Item
from storage.contract.shards import pack, unpack
from storage.testing.factories import make_item

numbers = st.integers(0, 2**40)
items = st.builds(
    Item,
    row=numbers,
    line=numbers,
    image_no=numbers,
    prompt=st.text(max_size=40),
    negative_prompt=st.text(max_size=10),
    seed=st.integers(0, SEED_MAX),
    tags=st.dictionaries(st.text(max_size=4), st.text(max_size=4), max_size=3),
)
SHARD = pack([msgspec.msgpack.encode(make_item(number)) for number in range(3)], 3)


@given(st.lists(st.lists(items, max_size=4), max_size=4))
def test_items_packed_in_pieces_come_out_as_they_went_in(pieces: list[list[Item]]) -> None:
    flat = [item for piece in pieces for item in piece]
    encoded = [b"".join(map(msgspec.msgpack.encode, piece)) for piece in pieces]
    assert unpack(pack(encoded, len(flat))) == flat


@given(st.integers(0, len(SHARD) - 1))
def test_a_shard_that_was_cut_short_is_never_read(length: int) -> None:
    with pytest.raises(ShardDamaged):
        unpack(SHARD[:length])


@pytest.mark.parametrize(
    "damaged",
    [
        pack([msgspec.msgpack.encode(make_item())], 2),
        pack([msgspec.msgpack.encode(make_item())] * 2, 1),
        SHARD + b"\x00",
        SHARD.replace(b"prompt 1", b"prompt \xff"),
        msgspec.msgpack.encode({"items": []}),
        b"<html>not found</html>",
    ],
    ids=["too few", "too many", "longer", "not UTF-8", "no list", "no msgpack"],
)
def test_a_damaged_shard_is_named(damaged: bytes) -> None:
    with pytest.raises(ShardDamaged, match="the shard jobs/x/items is damaged: ") as caught:
        unpack(damaged, key="jobs/x/items")
    assert caught.value.hint == "submit the manifest again"
