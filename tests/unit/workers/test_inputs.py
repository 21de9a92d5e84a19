"""Input pictures between the store and the engine."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Iterator
from io import BytesIO
from typing import Any

import pytest
from PIL import Image

from storage.contract.errors import InputUnusable, StoreUnavailable
from storage.contract.items import UPSCALE, Item
from storage.objects.memory import MemoryStore
from storage.pictures import input_key
from storage.testing.factories import make_item, make_spec
from workers.inputs import Kept, StoredPictures


class CountingStore(MemoryStore):
    """Says how often each object was read, and can make readers wait or fail."""

    def __init__(self) -> None:
        super().__init__()
        self.reads: Counter[str] = Counter()
        self.reading = threading.Semaphore(0)
        self.go_on = threading.Event()
        self.go_on.set()
        self.away: Exception | None = None

    def get(self, key: str) -> bytes:
        self.reads[key] += 1
        self.reading.release()
        assert self.go_on.wait(10)
        if self.away is not None:
            raise self.away
        return super().get(key)


@pytest.fixture
def store() -> CountingStore:
    return CountingStore()


@pytest.fixture
def source(store: CountingStore) -> Iterator[StoredPictures]:
    made = StoredPictures(store)
    yield made
    store.go_on.set()
    made.close()


def put(store: MemoryStore, image: Image.Image, kind: str = "PNG") -> str:
    buffer = BytesIO()
    image.save(buffer, kind)
    key = input_key(buffer.getvalue(), kind.lower())
    store.put(key, buffer.getvalue())
    return key


def inputs_of(source: StoredPictures, item: Item, **spec: Any) -> Any:
    return source.inputs_of(item, make_spec(**spec))


def plain(colour: str, size: tuple[int, int] = (100, 80)) -> Image.Image:
    return Image.new("RGB", size, colour)


def test_pictures_come_at_the_groups_size_masks_in_grey(
    store: CountingStore, source: StoredPictures
) -> None:
    item = make_item(
        image=put(store, plain("red")),
        mask_image=put(store, plain("white", (50, 40))),
        control_images=(put(store, plain("blue")), put(store, plain("lime"))),
        ip_adapter_image=put(store, plain("black", (33, 44))),
    )

    inputs = inputs_of(source, item, width=64, height=32)

    assert (inputs.image.mode, inputs.image.size) == ("RGB", (64, 32))
    assert (inputs.mask_image.mode, inputs.mask_image.size) == ("L", (64, 32))
    assert [control.getpixel((0, 0)) for control in inputs.control_images] == [
        (0, 0, 255),
        (0, 255, 0),
    ]
    assert inputs.ip_adapter_image.size == (33, 44), "its encoder brings it to size"


def test_an_item_without_pictures_has_none(source: StoredPictures) -> None:
    inputs = inputs_of(source, make_item())

    assert (inputs.image, inputs.mask_image, inputs.control_images) == (None, None, ())


def test_the_way_to_size_is_the_groups(store: CountingStore, source: StoredPictures) -> None:
    item = make_item(image=put(store, plain("red", (80, 40))))

    padded = inputs_of(source, item, resize_mode="pad").image
    cropped = inputs_of(source, item, resize_mode="crop").image

    assert padded.getpixel((0, 0)) == (255, 255, 255)
    assert cropped.getpixel((0, 0)) == (255, 0, 0)


def test_what_is_made_four_times_as_large_comes_at_a_quarter_of_the_size(
    store: CountingStore, source: StoredPictures
) -> None:
    item = make_item(image=put(store, plain("red", (80, 40))))

    assert inputs_of(source, item, kind=UPSCALE, width=320, height=160).image.size == (80, 40)


def test_a_picture_many_items_share_is_read_once(
    store: CountingStore, source: StoredPictures
) -> None:
    key = put(store, plain("red"))

    for number in range(20):
        inputs_of(source, make_item(number, image=key))

    assert store.reads == {key: 1}


def test_whoever_changes_a_picture_does_not_change_the_next_ones(
    store: CountingStore, source: StoredPictures
) -> None:
    item = make_item(image=put(store, plain("red")))

    inputs_of(source, item).image.paste("blue", (0, 0, 64, 64))

    assert inputs_of(source, item).image.getpixel((1, 1)) == (255, 0, 0)


def test_one_file_as_picture_and_as_mask_is_both(
    store: CountingStore, source: StoredPictures
) -> None:
    key = put(store, plain("white"))

    inputs = inputs_of(source, make_item(image=key, mask_image=key))

    assert (inputs.image.mode, inputs.mask_image.mode) == ("RGB", "L")


def test_a_missing_picture_is_its_items_fault_alone(
    store: CountingStore, source: StoredPictures
) -> None:
    good = make_item(1, image=put(store, plain("red")))
    bad = make_item(0, image="inputs/gone.png")
    source.prefetch([bad, good])

    with pytest.raises(InputUnusable, match=r"inputs/gone\.png is missing"):
        inputs_of(source, bad)
    assert inputs_of(source, good).image is not None


@pytest.mark.parametrize("place", ["image", "mask_image", "ip_adapter_image"])
def test_a_damaged_picture_is_its_items_fault_alone(
    store: CountingStore, source: StoredPictures, place: str
) -> None:
    key = put(store, Image.radial_gradient("L"))
    store.objects[key] = store.objects[key][:400]

    with pytest.raises(InputUnusable, match=f"{key} is damaged or cut off"):
        inputs_of(source, make_item(0, **{place: key}))


def test_a_store_that_is_away_is_not_the_items_fault(
    store: CountingStore, source: StoredPictures
) -> None:
    item = make_item(image=put(store, plain("red")))
    store.away = StoreUnavailable("gone fishing")
    source.prefetch([item])

    with pytest.raises(StoreUnavailable):
        inputs_of(source, item)

    store.away = None
    assert inputs_of(source, item).image is not None, "and it is tried again"


def test_what_will_be_wanted_is_fetched_while_others_work(
    store: CountingStore, source: StoredPictures
) -> None:
    items = [make_item(n, image=put(store, plain("red", (n + 1, 8)))) for n in range(3)]
    store.go_on.clear()

    source.prefetch(items)

    for _ in items:
        assert store.reading.acquire(timeout=10), "all three are being read at once"
    store.go_on.set()
    for item in items:
        assert inputs_of(source, item).image is not None
    assert set(store.reads.values()) == {1}


def test_fetching_ahead_is_bounded(store: CountingStore, source: StoredPictures) -> None:
    items = [make_item(n, image=f"inputs/{n}.png") for n in range(1000)]
    store.go_on.clear()

    source.prefetch(items)
    store.go_on.set()
    source.close()

    assert len(store.reads) <= 64


def test_memory_is_bounded_and_what_fell_out_is_read_again(store: CountingStore) -> None:
    keys = [put(store, plain("red", (n + 8, 8))) for n in range(4)]
    largest = max(len(store.objects[key]) for key in keys)
    source = StoredPictures(store, kept_files=2 * largest, kept_pictures=0)
    items = [make_item(n, image=key) for n, key in enumerate(keys)]

    for item in [*items, items[3], items[0]]:
        inputs_of(source, item)
    source.close()

    assert store.reads == {keys[0]: 2, keys[1]: 1, keys[2]: 1, keys[3]: 1}


def test_many_threads_get_the_same_pixels(store: CountingStore, source: StoredPictures) -> None:
    items: list[Item] = [
        make_item(n, image=put(store, plain("red", (n % 5 + 8, 8)))) for n in range(40)
    ]
    seen: list[object] = []

    def look() -> None:
        for item in items:
            seen.append(inputs_of(source, item).image.getpixel((0, 0)))

    threads = [threading.Thread(target=look) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert seen == [(255, 0, 0)] * 160
    assert max(store.reads.values()) == 1


def test_what_was_used_last_is_kept() -> None:
    kept: Kept[str] = Kept(10)
    for name, size in (("a", 4), ("b", 4)):
        kept.put(name, name, size)
    kept.get("a")
    kept.put("c", "c", 4)
    kept.put("huge", "huge", 11)

    assert [kept.get(name) for name in ("a", "b", "c", "huge")] == ["a", None, "c", None]
    assert kept.size == 8


def test_what_is_kept_again_counts_once() -> None:
    kept: Kept[str] = Kept(10)
    for size in (4, 6, 3):
        kept.put("a", "a", size)

    assert kept.size == 3
