"""Items, their wire format, their seeds, and the batches of a group."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from storage.contract.items import (
    INPAINT,
    SEED_MAX,
    BatchShape,
    ControlNet,
    GroupSpec,
    IpAdapter,
    Item,
    Lora,
    Upscaler,
    batch_size_for,
    batches,
    derive_seed,
)
from storage.testing.factories import make_item, make_spec

Seeds = tuple[int, int, int]

lengths = st.integers(1, 500)
sizes = st.integers(1, 40)


@given(origin=st.integers(0, 100), before=st.integers(0, 100), length=lengths, size=sizes)
def test_batches_cover_a_range_without_gaps_and_never_cross_a_border(
    origin: int, before: int, length: int, size: int
) -> None:
    start = origin + before
    cut = list(batches(start, start + length, size, origin=origin))

    assert [item for first, stop in cut for item in range(first, stop)] == list(
        range(start, start + length)
    )
    for first, stop in cut:
        assert (first - origin) // size == (stop - 1 - origin) // size
    assert len(cut) == (before + length - 1) // size - before // size + 1


@given(length=lengths, size=sizes, middle=st.integers(0, 500))
def test_a_range_in_pieces_is_cut_at_the_same_borders(length: int, size: int, middle: int) -> None:
    middle = min(middle, length)
    whole = list(batches(0, length, size))
    for first, stop in [*batches(0, middle, size), *batches(middle, length, size)]:
        assert any(start <= first and stop <= end for start, end in whole)


def test_an_empty_range_has_no_batches() -> None:
    assert list(batches(7, 7, 4)) == []


@given(length=lengths, preferred=sizes)
def test_the_batch_size_takes_no_more_batches_than_preferred_and_wastes_least(
    length: int, preferred: int
) -> None:
    size = batch_size_for(length, preferred)
    count = -(-length // size)

    assert 1 <= size <= preferred
    assert count == -(-length // preferred)
    assert (size - 1) * count < length  # one less would need another batch


@pytest.mark.parametrize(
    ("length", "preferred", "size"), [(17, 16, 9), (16, 16, 16), (3, 8, 3), (1, 1, 1), (9, 4, 3)]
)
def test_the_last_batch_is_nearly_full(length: int, preferred: int, size: int) -> None:
    assert batch_size_for(length, preferred) == size


@pytest.mark.parametrize(("length", "preferred"), [(0, 4), (4, 0), (-1, 4)])
def test_a_batch_size_of_nothing_is_refused(length: int, preferred: int) -> None:
    with pytest.raises(ValueError, match="must be positive"):
        batch_size_for(length, preferred)


@pytest.mark.parametrize(
    ("numbers", "seed"),
    [
        ((0, 0, 0), 1137086854),
        ((0, 0, 1), 244602362),
        ((0, 1, 0), 3492848626),
        ((1, 0, 0), 1411450048),
        ((2**32 - 1, 10**8, 3), 4030657671),
    ],
)
def test_derived_seeds_never_change_between_versions(numbers: Seeds, seed: int) -> None:
    assert derive_seed(*numbers) == seed


@given(st.tuples(*[st.integers(0, 2**40)] * 3), st.tuples(*[st.integers(0, 2**40)] * 3))
def test_derived_seeds_are_seeds_and_follow_from_their_numbers_only(a: Seeds, b: Seeds) -> None:
    assert 0 <= derive_seed(*a) <= SEED_MAX
    assert derive_seed(*a) == derive_seed(*a)
    if a != b:  # seeds have 32 bits, so two random ones hardly ever meet
        assert derive_seed(*a) != derive_seed(*b)


def test_an_item_travels_as_an_array_whose_order_never_changes() -> None:
    item = Item(
        row=1,
        line=2,
        image_no=3,
        prompt="a",
        negative_prompt="b",
        seed=4,
        tags={"k": "v"},
        image="i",
        mask_image="m",
        control_images=("c", "d"),
        ip_adapter_image="p",
        template="t",
        negative_template="u",
    )
    wire = b"\x9d\x01\x02\x03\xa1a\xa1b\x04\x81\xa1k\xa1v\xa1i\xa1m\x92\xa1c\xa1d\xa1p\xa1t\xa1u"

    assert msgspec.msgpack.encode(item) == wire
    assert msgspec.msgpack.decode(wire, type=Item) == item


def test_an_item_of_an_earlier_version_is_still_read() -> None:
    wire = b"\x97\x01\x02\x03\xa1a\xa1b\x04\x81\xa1k\xa1v"

    assert msgspec.msgpack.decode(wire, type=Item) == Item(1, 2, 3, "a", "b", 4, {"k": "v"})


def test_an_item_with_a_field_of_a_later_version_is_still_read() -> None:
    now = msgspec.msgpack.decode(msgspec.msgpack.encode(Item(1, 2, 3, "a", "b", 4, {})))

    later = msgspec.msgpack.encode([*now, "from the future"])

    assert msgspec.msgpack.decode(later, type=Item).seed == 4


def test_an_item_knows_all_its_pictures() -> None:
    item = make_item(image="i", mask_image="m", control_images=("c", "d"), ip_adapter_image="p")

    assert item.pictures == ("i", "m", "c", "d", "p")
    assert make_item().pictures == ()


def test_a_group_spec_survives_its_way_through_sql() -> None:
    spec = make_spec(revision="a" * 40, clip_skip=1, dtype="float16", denoise=3)
    assert msgspec.json.decode(msgspec.json.encode(spec), type=GroupSpec) == spec


@pytest.mark.parametrize(
    "change",
    [
        {"model": "other"},
        {"revision": "b" * 40},
        {"width": 128},
        {"height": 128},
        {"num_inference_steps": 3},
        {"denoise": 5},
        {"dtype": "bfloat16"},
        {"kind": INPAINT},
        {"strength": 0.5},
        {"guidance_scale": 1.0},
        {"true_cfg_scale": 4.0},
        {"scheduler": "heun"},
        {"loras": (Lora(id="a"),)},
        {"controlnets": (ControlNet(model="a"),)},
        {"ip_adapter": IpAdapter(model="a")},
        {"upscaler": Upscaler(model="a")},
        {"max_sequence_length": 128},
        {"quantization": "fp8"},
        {"cache": "first-block"},
        {"batch": BatchShape(encode=8, denoise=4, decode=1)},
    ],
    ids=lambda change: next(iter(change)),
)
def test_what_decides_speed_is_in_the_profile_key(change: dict[str, Any]) -> None:
    assert make_spec(**change).profile_key != make_spec().profile_key


def test_what_does_not_decide_speed_shares_a_profile() -> None:
    key = make_spec().profile_key
    assert make_spec(guidance_scale=9.0, clip_skip=1, scheduler="euler").profile_key == key
    one, other = ((Lora(id=name, weight=0.5),) for name in "ab")
    assert make_spec(loras=one).profile_key == make_spec(loras=other).profile_key
