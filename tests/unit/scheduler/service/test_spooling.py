"""Pictures between the check of a manifest and its submission."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from scheduler.service.spooling import PictureSpool
from storage.contract.errors import InputError, StoreUnavailable
from storage.objects.memory import MemoryStore
from storage.pictures import input_key


@pytest.fixture
def spool() -> Iterator[PictureSpool]:
    made = PictureSpool()
    yield made
    made.close()


class Watched(MemoryStore):
    """Counts what is put."""

    def __init__(self) -> None:
        super().__init__()
        self.puts: list[str] = []

    def put(self, key: str, data: bytes, *, durable: bool = True, overwrite: bool = True) -> None:
        self.puts.append(key)
        super().put(key, data, durable=durable, overwrite=overwrite)


def kept(spool: PictureSpool, data: bytes, path: Path | None = None) -> str:
    key = input_key(data, "png")
    spool.keep(key, data, path)
    return key


def test_bytes_and_files_are_stored_under_their_hash(spool: PictureSpool, tmp_path: Path) -> None:
    store = MemoryStore()
    file = tmp_path / "b.png"
    file.write_bytes(b"bbb")

    keys = [kept(spool, b"aa"), kept(spool, b"bbb", file), kept(spool, b"c")]
    spool.store_into(store)

    assert [store.objects[key] for key in keys] == [b"aa", b"bbb", b"c"]


def test_each_is_stored_once_and_what_lies_there_is_left_alone(spool: PictureSpool) -> None:
    store = Watched()
    for _ in range(3):
        kept(spool, b"same")
    spool.store_into(store)
    spool.store_into(store)

    assert store.puts == [input_key(b"same", "png")]


def test_an_object_left_in_half_is_replaced(spool: PictureSpool) -> None:
    store = Watched()
    key = kept(spool, b"whole")
    store.objects[key] = b"wh"

    spool.store_into(store)

    assert store.objects[key] == b"whole"


@pytest.mark.parametrize("change", [b"other", None])
def test_a_file_changed_since_it_was_checked_is_an_error(
    spool: PictureSpool, tmp_path: Path, change: bytes | None
) -> None:
    file = tmp_path / "a.png"
    file.write_bytes(b"first")
    kept(spool, b"first", file)
    file.unlink()
    if change is not None:
        file.write_bytes(change)

    with pytest.raises(InputError, match=r"a\.png: (was changed while|cannot be read any more)"):
        spool.store_into(MemoryStore())


def test_a_store_that_fails_is_said(spool: PictureSpool) -> None:
    store = MemoryStore()
    store.failing = StoreUnavailable("gone")
    for number in range(40):
        kept(spool, b"%d" % number)

    with pytest.raises(StoreUnavailable):
        spool.store_into(store)


def test_an_empty_spool_stores_nothing(spool: PictureSpool) -> None:
    store = Watched()
    spool.store_into(store)

    assert store.puts == []


def test_several_threads_may_keep_at_once(spool: PictureSpool) -> None:
    def keep(start: int) -> None:
        for number in range(start, start + 50):
            kept(spool, b"%d" % number * 100)

    threads = [threading.Thread(target=keep, args=(25 * turn,)) for turn in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    store = Watched()
    spool.store_into(store)

    assert len(store.puts) == len(set(store.puts)) == 125
    assert all(input_key(data, "png") == key for key, data in store.objects.items())
