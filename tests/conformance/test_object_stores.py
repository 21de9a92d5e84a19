"""What every object store promises, and how the folder keeps it when things go wrong."""

from __future__ import annotations

import errno
import os
import random
import secrets
import shutil
import stat
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from http import HTTPStatus
from pathlib import Path
from typing import Any, NoReturn

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from storage.contract.errors import ObjectExists, ObjectMissing, StoreFull, StoreUnavailable
from storage.objects import folder
from storage.objects.folder import FolderStore
from storage.objects.memory import MemoryStore
from storage.objects.s3 import S3Store, open_s3
from storage.objects.s3_parts import PART_BYTES
from storage.ports import ObjectStore

KEY = "renders/shapes/00000/000000001.png"
KINDS = ("folder", "memory", "s3")
Make = Callable[[], ObjectStore]
names = st.text("ab.-_0é", min_size=1, max_size=3).filter(lambda name: set(name) != {"."})
keys = st.lists(names, min_size=1, max_size=3).map("/".join)


@pytest.fixture(params=KINDS)
def make(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Make]:
    """Makes empty object stores of each kind."""
    with ExitStack() as opened:
        url = request.getfixturevalue("s3_url") if request.param == "s3" else ""

        def made() -> ObjectStore:
            name = secrets.token_hex(4)
            store: ObjectStore = MemoryStore()
            if request.param == "folder":
                store = FolderStore(tmp_path / name)
            elif request.param == "s3":
                store = open_s3(url.replace("?", f"/{name}?"))
            opened.callback(store.close)
            return store

        yield made


@pytest.fixture
def objects(make: Make) -> ObjectStore:
    """An empty object store of each kind."""
    return make()


@pytest.fixture
def in_folder(tmp_path: Path) -> FolderStore:
    """An empty store in a folder that does not exist yet."""
    return FolderStore(tmp_path / "objects")


def files(store: FolderStore) -> set[str]:
    """All files below the folder, whatever the store thinks of them."""
    found = (path for path in store.root.rglob("*") if path.is_file())
    return {path.relative_to(store.root).as_posix() for path in found}


# What all stores promise


@pytest.mark.parametrize("durable", [True, False])
@pytest.mark.parametrize("data", [b"", b"\x00\xff\n" * 3, os.urandom(300_000)], ids=len)
def test_what_was_put_is_got(objects: ObjectStore, data: bytes, durable: bool) -> None:
    objects.put(KEY, data, durable=durable)
    assert objects.get(KEY) == data
    assert objects.size(KEY) == len(data)


def test_a_second_put_replaces_the_first(objects: ObjectStore) -> None:
    for data in (b"a long one", b"short"):
        objects.put(KEY, data)
    assert (objects.get(KEY), objects.size(KEY), list(objects.keys(""))) == (b"short", 5, [KEY])


@pytest.mark.parametrize("key", [KEY, "other", "renders", "renders/shapes", f"{KEY}/below"])
def test_what_was_never_put_is_missing_though_its_neighbours_are_there(
    objects: ObjectStore, key: str
) -> None:
    objects.put(f"{KEY}.txt", b"near")
    objects.put("renders/shapes/00000/000000002.png", b"next")
    if key.startswith(f"{KEY}/"):
        objects.put(KEY, b"above")
    before = list(objects.keys(""))

    assert objects.size(key) is None
    with pytest.raises(ObjectMissing, match=f"there is no object {key}$"):
        objects.get(key)
    objects.delete([key])
    assert list(objects.keys("")) == before


def test_what_was_deleted_is_missing_and_deleting_again_is_fine(objects: ObjectStore) -> None:
    for key in ("a/1", "a/2", "a/3"):
        objects.put(key, b"x")
    for _ in range(2):
        objects.delete(key for key in ("a/3", "a/never", "a/1"))
        assert list(objects.keys("")) == ["a/2"]
    assert objects.size("a/1") is None


@settings(max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture])
@example(wanted={"a/b", "a-b", "a.b", "a0", "a/b-/c"}, prefix="a")
@given(wanted=st.sets(keys, max_size=8), prefix=st.just("") | keys | keys.map(lambda k: k + "/"))
def test_keys_are_those_with_the_prefix(make: Make, wanted: set[str], prefix: str) -> None:
    # A file cannot be a folder too: the shorter of two such keys is left out.
    stored = {key for key in wanted if not any(one.startswith(f"{key}/") for one in wanted)}
    store = make()
    for key in stored:
        store.put(key, b"x", durable=False)
    assert sorted(store.keys(prefix)) == sorted(k for k in stored if k.startswith(prefix))
    store.close()


def test_more_keys_than_a_server_lists_at_once_are_listed_and_deleted(objects: ObjectStore) -> None:
    wanted = [f"many/{number:04d}" + "x" * (number % 3) for number in range(1_050)]
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda key: objects.put(key, key.encode(), durable=False), wanted))
    objects.put("other", b"")
    assert sorted(objects.keys("many/")) == wanted
    assert sorted(objects.listed("many/")) == [(key, len(key)) for key in wanted]
    objects.delete(wanted)
    assert list(objects.keys("")) == ["other"]


@pytest.mark.parametrize(
    "key",
    [
        "a b/ c /d ",
        "100%25 + 50%.png",
        "q?x=1&y=2#part",
        "quotes'\"`",
        "<xml>&amp;",
        "é/ü/€/日本/😀",
        "cafe\u0301",
        "@:;,=$!()[]{}|^~*",
        ".hidden/..more",
        "x" * 200,
        "/".join(["deep"] * 40),
    ],
)
def test_an_odd_key_is_a_key_like_any_other(objects: ObjectStore, key: str) -> None:
    objects.put("near", b"near")
    objects.put(key, b"odd")
    assert (objects.get(key), objects.size(key)) == (b"odd", 3)
    assert sorted(objects.keys("")) == sorted([key, "near"])
    assert list(objects.keys(key)) == [key]
    objects.delete([key])
    assert list(objects.keys("")) == ["near"]


@pytest.mark.parametrize(
    "key",
    [
        "",
        "/",
        "/etc/passwd",
        "..",
        "../a",
        "a/../b",
        "a/..",
        ".",
        "./a",
        "a/./b",
        "a//b",
        "a/",
        "a\\b",
        "a\0b",
        "a\nb",
        "a\x7f",
        "half \ud800",
        "é" * 600,
        ".partial",
        ".partial/a",
    ],
)
def test_a_key_that_not_every_store_can_hold_is_refused(objects: ObjectStore, key: str) -> None:
    uses: list[Callable[[], object]] = [
        lambda: objects.put(key, b"x"),
        lambda: objects.put(key, b"x", overwrite=False),
        lambda: objects.get(key),
        lambda: objects.size(key),
        lambda: objects.delete([key]),
        lambda: objects.locate(key),
        lambda: objects.presign(key, 60),
    ]
    for use in uses:
        with pytest.raises(ValueError, match="not an object key"):
            use()
    assert list(objects.keys("")) == []


def test_a_put_that_must_not_overwrite_keeps_what_is_there(objects: ObjectStore) -> None:
    objects.put(KEY, b"first", overwrite=False)
    with pytest.raises(ObjectExists, match=f"there is another object {KEY} already"):
        objects.put(KEY, b"second", overwrite=False)
    assert objects.get(KEY) == b"first"
    assert list(objects.keys("")) == [KEY]
    objects.put(KEY, b"second")
    assert objects.get(KEY) == b"second"


@pytest.mark.parametrize("data", [b"", b"the same", bytes(PART_BYTES + 1)], ids=len)
def test_repeating_a_put_that_must_not_overwrite_is_fine(objects: ObjectStore, data: bytes) -> None:
    for _ in range(2):
        objects.put(KEY, data, overwrite=False)
    assert objects.get(KEY) == data


def test_of_many_puts_that_must_not_overwrite_one_wins(objects: ObjectStore) -> None:
    together = threading.Barrier(6)

    def put(data: bytes) -> bytes | None:
        together.wait()
        try:
            objects.put(KEY, data, overwrite=False)
        except ObjectExists:
            return None
        return data

    with ThreadPoolExecutor(6) as pool:
        won = [data for data in pool.map(put, [b"%d" % n * 50_000 for n in range(6)]) if data]
    assert won == [objects.get(KEY)]


def test_a_large_object_comes_back_whole(objects: ObjectStore) -> None:
    data = random.Random(1).randbytes(20_000_000)
    objects.put(KEY, data)
    assert objects.get(KEY) == data
    assert objects.size(KEY) == len(data)
    with pytest.raises(ObjectExists):
        objects.put(KEY, data[1:], overwrite=False)


def test_an_object_with_a_url_is_read_by_anybody_without_credentials(objects: ObjectStore) -> None:
    objects.put(KEY, b"the picture")
    url = objects.presign(KEY, 60)
    if url is None:
        assert not isinstance(objects, S3Store), "it has a server to read from"
        return
    with urllib.request.urlopen(url) as answer:
        assert answer.read() == b"the picture"
        assert answer.headers["Content-Type"] == "image/png"
    for wrong in (url.replace(KEY, "renders/other.png"), url.split("?")[0]):
        with pytest.raises(urllib.error.HTTPError) as refused:
            urllib.request.urlopen(wrong)
        assert refused.value.code == HTTPStatus.FORBIDDEN
        refused.value.close()


def test_a_check_finds_nothing_wrong_and_leaves_nothing_behind(objects: ObjectStore) -> None:
    objects.put(KEY, b"data")
    assert objects.check() == []
    assert list(objects.keys("")) == [KEY]


@pytest.mark.parametrize("prefix", ["", "none/such", "../", "/etc/", "a//", ".", "./"])
def test_an_empty_store_has_no_keys_and_shows_nothing_from_elsewhere(
    objects: ObjectStore, tmp_path: Path, prefix: str
) -> None:
    (tmp_path / "secret").write_text("mine")
    assert list(objects.keys(prefix)) == []


def test_a_reader_sees_a_whole_object_while_many_replace_it(objects: ObjectStore) -> None:
    length, rounds = 200_000, 12
    together = threading.Barrier(4)

    def write(letter: bytes) -> None:
        together.wait()
        for _ in range(rounds):
            objects.put(KEY, letter * length, durable=False)

    def read() -> set[bytes]:
        together.wait()
        return {objects.get(KEY) for _ in range(rounds * 3)}

    objects.put(KEY, b"a" * length)
    with ThreadPoolExecutor(4) as pool:
        reader = pool.submit(read)
        list(pool.map(write, [b"a", b"b", b"c"]))
        seen = reader.result()
    assert seen | {objects.get(KEY)} <= {letter * length for letter in (b"a", b"b", b"c")}
    assert list(objects.keys("")) == [KEY]


def test_many_may_put_into_a_new_place_at_once(objects: ObjectStore) -> None:
    wanted = [f"new/{number % 3}/{number}" for number in range(24)]
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(lambda key: objects.put(key, key.encode(), durable=False), wanted))
    assert {key: objects.get(key) for key in objects.keys("new/")} == {
        key: key.encode() for key in wanted
    }


@pytest.mark.parametrize("kind", ["folder", "memory"])
@pytest.mark.parametrize("overwrite", [True, False])
def test_a_put_that_fails_leaves_the_old_object_and_nothing_else(
    kind: str, overwrite: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    memory, in_files = MemoryStore(), FolderStore(tmp_path)
    store: ObjectStore = memory if kind == "memory" else in_files
    store.put(KEY, b"old")
    memory.failing = StoreFull()
    monkeypatch.setattr(os, "fsync", failing(errno.ENOSPC))
    for key in (KEY, "renders/shapes/00000/new.png"):
        with pytest.raises(StoreFull):
            store.put(key, b"new", overwrite=overwrite)
    assert [(key, store.get(key)) for key in store.keys("")] == [(KEY, b"old")]
    assert kind == "memory" or files(in_files) == {KEY}


# What can go wrong with a folder


def failing(code: int) -> Callable[..., NoReturn]:
    def fail(*_: object, **__: object) -> NoReturn:
        raise OSError(code, os.strerror(code), "the file")

    return fail


def break_opening(patch: pytest.MonkeyPatch, code: int) -> None:
    patch.setattr(folder, "open", failing(code), raising=False)


def break_flushing(patch: pytest.MonkeyPatch, code: int) -> None:
    patch.setattr(os, "fsync", failing(code))


def break_renaming(patch: pytest.MonkeyPatch, code: int) -> None:
    patch.setattr(Path, "replace", failing(code))


def break_making_folders(patch: pytest.MonkeyPatch, code: int) -> None:
    patch.setattr(Path, "mkdir", failing(code))


BREAKS = [break_opening, break_flushing, break_renaming, break_making_folders]


@pytest.mark.parametrize("broken", BREAKS)
@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EDQUOT], ids=errno.errorcode.get)
def test_a_full_disk_is_said_and_leaves_nothing_behind(
    in_folder: FolderStore,
    monkeypatch: pytest.MonkeyPatch,
    broken: Callable[[pytest.MonkeyPatch, int], None],
    code: int,
) -> None:
    with monkeypatch.context() as patch:
        broken(patch, code)
        with pytest.raises(StoreFull, match=f"no space left to store {KEY}") as caught:
            in_folder.put(KEY, b"data")
    assert caught.value.hint == "free some space"
    assert isinstance(caught.value.__cause__, OSError)
    assert files(in_folder) == set()
    in_folder.put(KEY, b"data")
    assert in_folder.get(KEY) == b"data"


@pytest.mark.parametrize("broken", BREAKS)
@pytest.mark.parametrize(
    "code", [errno.EACCES, errno.EROFS, errno.EIO, errno.ENOENT], ids=errno.errorcode.get
)
def test_a_put_that_is_not_let_through_says_where_and_leaves_nothing_behind(
    in_folder: FolderStore,
    monkeypatch: pytest.MonkeyPatch,
    broken: Callable[[pytest.MonkeyPatch, int], None],
    code: int,
) -> None:
    with monkeypatch.context() as patch:
        broken(patch, code)
        with pytest.raises(StoreUnavailable) as caught:
            in_folder.put(KEY, b"data")
    assert str(caught.value) == f"cannot reach the file: {os.strerror(code)}"
    assert caught.value.hint == "check that the folder exists and may be written"
    assert files(in_folder) == set()


READS: dict[str, tuple[str, Callable[[FolderStore], Any]]] = {
    "get": ("read_bytes", lambda store: store.get(KEY)),
    "size": ("stat", lambda store: store.size(KEY)),
    "delete": ("unlink", lambda store: store.delete([KEY])),
}


@pytest.mark.parametrize(("method", "ask"), READS.values(), ids=READS)
@pytest.mark.parametrize("code", [errno.EACCES, errno.EIO], ids=errno.errorcode.get)
def test_what_cannot_be_read_is_not_taken_for_missing(
    in_folder: FolderStore,
    monkeypatch: pytest.MonkeyPatch,
    method: str,
    ask: Callable[[FolderStore], Any],
    code: int,
) -> None:
    in_folder.put(KEY, b"data")
    with monkeypatch.context() as patch:
        patch.setattr(Path, method, failing(code))
        with pytest.raises(StoreUnavailable, match="cannot reach the file"):
            ask(in_folder)
    assert in_folder.get(KEY) == b"data"


def test_keys_that_cannot_be_listed_are_not_taken_for_missing(
    in_folder: FolderStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    in_folder.put(KEY, b"data")
    monkeypatch.setattr(os, "scandir", failing(errno.EACCES))
    with pytest.raises(StoreUnavailable):
        list(in_folder.keys(""))


@pytest.mark.parametrize("key", ["x" * 300, "a", "a/b/c/d"])
def test_a_key_the_file_system_cannot_hold_is_not_stored_in_part(
    in_folder: FolderStore, key: str
) -> None:
    in_folder.put("a/b/c", b"in the way")
    with pytest.raises(StoreUnavailable, match="cannot reach "):
        in_folder.put(key, b"x")
    assert files(in_folder) == {"a/b/c"}


def test_a_folder_that_was_removed_is_made_again(in_folder: FolderStore) -> None:
    in_folder.put(KEY, b"first")
    shutil.rmtree(in_folder.root)
    assert list(in_folder.keys("")) == []
    in_folder.put(KEY, b"second")
    assert in_folder.get(KEY) == b"second"


def test_what_a_killed_process_left_half_written_is_no_object_and_is_swept_away(
    in_folder: FolderStore,
) -> None:
    assert in_folder.sweep(0) == 0  # nothing was ever written
    in_folder.put(KEY, b"whole")
    apart = in_folder.root / ".partial"
    for name, age in (("old", 90), ("older", 900), ("fresh", 0)):
        (apart / name).write_bytes(b"ha")
        written = time.time() - age
        os.utime(apart / name, (written, written))
    os.utime(in_folder.root / KEY, (0, 0))

    for prefix in ("", ".", ".partial", ".partial/"):
        assert list(in_folder.keys(prefix)) == ([] if prefix else [KEY])
    assert in_folder.sweep(60) == 2
    assert files(in_folder) == {KEY, ".partial/fresh"}


def test_objects_are_there_for_the_next_process(in_folder: FolderStore) -> None:
    in_folder.put(KEY, b"data")
    assert FolderStore(in_folder.root).get(KEY) == b"data"
    assert files(in_folder) == {KEY}


def test_an_object_is_a_file_a_person_can_find(
    in_folder: FolderStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    in_folder.put(KEY, b"data")
    assert Path(in_folder.locate(KEY)).read_bytes() == b"data"
    monkeypatch.chdir(in_folder.root.parent)
    assert in_folder.locate(KEY) == f"objects/{KEY}"
    (in_folder.root.parent / "elsewhere").mkdir()
    monkeypatch.chdir(in_folder.root.parent / "elsewhere")
    assert in_folder.locate(KEY) == str(in_folder.root / KEY)


@pytest.fixture
def flushed(monkeypatch: pytest.MonkeyPatch) -> list[tuple[int, bool]]:
    """What was flushed to the disk: its inode, and whether it was a folder."""
    said: list[tuple[int, bool]] = []
    fsync = os.fsync

    def note(descriptor: int) -> None:
        fsync(descriptor)
        found = os.fstat(descriptor)
        said.append((found.st_ino, stat.S_ISDIR(found.st_mode)))

    monkeypatch.setattr(os, "fsync", note)
    return said


def test_a_durable_put_flushes_the_file_and_every_folder_entry_that_leads_to_it(
    in_folder: FolderStore, flushed: list[tuple[int, bool]]
) -> None:
    in_folder.root.mkdir()
    in_folder.put("a/b/1.png", b"data", durable=True)

    root = in_folder.root
    entries = {place.stat().st_ino for place in (root, root / "a", root / "a/b")}
    assert {inode for inode, is_folder in flushed if is_folder} == entries
    assert [inode for inode, is_folder in flushed if not is_folder] == [
        (root / "a/b/1.png").stat().st_ino
    ]
    assert flushed[-1] == ((root / "a/b").stat().st_ino, True), "the rename comes last"


def test_a_put_that_need_not_last_flushes_no_file(
    in_folder: FolderStore, flushed: list[tuple[int, bool]]
) -> None:
    in_folder.put(KEY, b"data", durable=False)
    assert [inode for inode, is_folder in flushed if not is_folder] == []
