"""The S3 store on a real server: rights, wrong settings, and a server that dies or hangs."""

from __future__ import annotations

import random
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest

from storage.contract.errors import StoreUnavailable
from storage.objects.s3 import S3Store, open_s3
from storage.objects.s3_client import Options
from tests.services.s3 import READER, SeaweedFS

Open = Callable[..., S3Store]

IMPATIENT = Options(connect_seconds=2, read_seconds=1, attempts=1, patience_seconds=0)


@pytest.fixture
def open_store(s3_credentials: None) -> Iterator[Open]:
    """Opens stores and closes them afterwards."""
    opened: list[S3Store] = []

    def open_one(url: str, options: Options | None = None) -> S3Store:
        opened.append(open_s3(url, options))
        return opened[-1]

    yield open_one
    for store in opened:
        store.close()


def uses(store: S3Store) -> dict[str, Callable[[], object]]:
    return {
        "check": store.check,
        "put": lambda: store.put("a", b"x"),
        "put anew": lambda: store.put("a", b"x", overwrite=False),
        "get": lambda: store.get("a"),
        "size": lambda: store.size("a"),
        "delete": lambda: store.delete(["a"]),
        "keys": lambda: list(store.keys("")),
    }


def test_a_bucket_that_is_not_there_is_never_taken_for_an_empty_one(
    seaweedfs: SeaweedFS, open_store: Open
) -> None:
    for name, use in uses(open_store(seaweedfs.url("no-such-bucket"))).items():
        with pytest.raises(StoreUnavailable, match="there is no such bucket") as caught:
            use()
        assert "create it" in str(caught.value.hint), name


@pytest.mark.parametrize(
    ("access", "secret", "said"),
    [
        ("nobody", "whatever", "the credentials are refused|access is denied"),
        (READER[0], "not-the-secret", "the credentials are refused|access is denied"),
    ],
)
def test_wrong_credentials_are_said_by_every_use_and_not_repeated(
    s3_url: str,
    open_store: Open,
    monkeypatch: pytest.MonkeyPatch,
    access: str,
    secret: str,
    said: str,
) -> None:
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", access)
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", secret)
    for use in uses(open_store(s3_url)).values():
        with pytest.raises(StoreUnavailable, match=said) as caught:
            use()
        assert "AWS_SECRET_ACCESS_KEY" in str(caught.value.hint)
        assert secret not in f"{caught.value}{caught.value.hint}"


def test_who_may_only_read_is_told_at_the_check_and_at_the_first_write(
    s3_url: str, open_store: Open, monkeypatch: pytest.MonkeyPatch
) -> None:
    open_store(s3_url).put("a", b"data")
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", READER[0])
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", READER[1])
    reading = open_store(s3_url)
    assert (reading.get("a"), reading.size("a"), list(reading.keys(""))) == (b"data", 4, ["a"])
    for name in ("check", "put", "put anew", "delete"):
        with pytest.raises(StoreUnavailable, match="access is denied") as caught:
            uses(reading)[name]()
        assert "rights to list the bucket and to put, get and delete" in str(caught.value.hint)
    assert reading.get("a") == b"data"


def test_two_prefixes_of_one_bucket_know_nothing_of_each_other(
    s3_url: str, open_store: Open
) -> None:
    one, other = (open_store(s3_url.replace("?", f"/{name}?")) for name in ("a", "ab"))
    one.put("x", b"1")
    other.put("x", b"2")
    assert (one.get("x"), other.get("x")) == (b"1", b"2")
    assert (list(one.keys("")), list(other.keys(""))) == (["x"], ["x"])
    assert list(one.keys("../ab/")) == []


@pytest.mark.slow
def test_puts_outlast_a_server_that_is_killed_and_started_again(
    own_seaweedfs: SeaweedFS, open_store: Open
) -> None:
    store = open_store(own_seaweedfs.url(own_seaweedfs.make_bucket()), Options(connections=4))
    objects = {f"{n:03d}": random.Random(n).randbytes(50_000) for n in range(120)}
    stored = threading.Semaphore(0)

    def put(key: str) -> None:
        store.put(key, objects[key], overwrite=int(key) % 2 == 0)
        stored.release()

    with ThreadPoolExecutor(4) as pool:
        puts = [pool.submit(put, key) for key in objects]
        for _ in range(20):
            stored.acquire()
        own_seaweedfs.kill()
        own_seaweedfs.start()
        for one in puts:
            one.result()
    assert sorted(store.keys("")) == sorted(objects)
    assert {key: store.get(key) for key in objects} == objects


@pytest.mark.slow
def test_a_server_that_hangs_is_given_up_in_time_and_used_again_when_it_is_back(
    own_seaweedfs: SeaweedFS, open_store: Open
) -> None:
    url = own_seaweedfs.url(own_seaweedfs.make_bucket())
    open_store(url).put("kept", b"data")
    hasty, patient = open_store(url, IMPATIENT), open_store(url, Options(read_seconds=1))
    own_seaweedfs.pause()
    try:
        for name, use in uses(hasty).items():
            with pytest.raises(StoreUnavailable, match="did not answer in time") as caught:
                use()
            assert "check that the server runs" in str(caught.value.hint), name
        with ThreadPoolExecutor(1) as pool:
            waiting = pool.submit(patient.get, "kept")
            own_seaweedfs.proceed()
            assert waiting.result() == b"data"
    finally:
        own_seaweedfs.proceed()
