"""How the store takes a server that is slow, broken, limited or lying."""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from email.utils import formatdate
from typing import Any

import pytest

from storage.contract.errors import (
    ObjectExists,
    SettingError,
    StoreFull,
    StoreUnavailable,
)
from storage.objects import s3_client
from storage.objects.s3 import S3Store, open_s3
from storage.objects.s3_client import Clients, Options
from storage.objects.s3_parts import PART_BYTES
from tests.services.told_server import Answer, ToldServer, refusal

Open = Callable[..., S3Store]

DATA = b"the picture"
DIGEST = {"x-amz-meta-sha256": hashlib.sha256(DATA).hexdigest()}
THERE = Answer(body=DATA, headers=DIGEST)
OTHER = Answer(headers={"x-amz-meta-sha256": hashlib.sha256(b"another").hexdigest()})
EXISTS = refusal(412, "PreconditionFailed")
LOST = Answer(hang_up=True)
EMPTY_LIST = Answer(body=b"<ListBucketResult><IsTruncated>false</IsTruncated></ListBucketResult>")
IMPATIENT = Options(connect_seconds=2, read_seconds=0.3, attempts=1, patience_seconds=0)


def test_a_put_carries_the_digest_of_its_bytes(server: ToldServer, open_store: Open) -> None:
    server.answers = [Answer()]
    open_store().put("a.png", DATA)
    (asked,) = server.asked
    assert (asked.method, asked.path, asked.body) == ("PUT", "/pictures/of/a.png", DATA)
    assert asked.headers["x-amz-meta-sha256"] == hashlib.sha256(DATA).hexdigest()
    assert asked.headers["x-amz-checksum-sha256"]
    assert asked.headers["Content-Type"] == "image/png"


@pytest.mark.parametrize(
    "broken",
    [
        replace(THERE, cut_after=4),
        replace(THERE, body=DATA[:-1] + b"!"),
        replace(THERE, body=b""),
        replace(THERE, headers=DIGEST | {"x-amz-checksum-sha256": "A" * 43 + "="}),
        refusal(503, "SlowDown"),
        refusal(500, "InternalError"),
        LOST,
    ],
    ids=["cut short", "changed", "empty", "bad checksum", "slow down", "internal error", "lost"],
)
def test_an_answer_that_did_not_come_through_is_asked_for_again(
    server: ToldServer, open_store: Open, broken: Answer
) -> None:
    server.answers = [broken, broken, THERE]
    assert open_store().get("a.png") == DATA
    assert server.methods == ["GET"] * 3


@pytest.mark.parametrize(
    ("broken", "said"),
    [
        (replace(THERE, cut_after=4), "cut short"),
        (replace(THERE, body=DATA[:-1] + b"!"), r"a\.png is not what was stored"),
        (Answer(silent=True), "did not answer in time"),
        (LOST, "closed the connection"),
        (refusal(503, "SlowDown"), "busy or broken"),
    ],
    ids=["cut short", "changed", "silent", "lost", "slow down"],
)
def test_patience_has_an_end(
    server: ToldServer, open_store: Open, broken: Answer, said: str
) -> None:
    server.answers = [broken]
    started = time.monotonic()
    with pytest.raises(StoreUnavailable, match=said) as caught:
        open_store(replace(IMPATIENT, patience_seconds=1.5)).get("a.png")
    assert time.monotonic() - started < 10
    assert caught.value.hint
    assert 1 < len(server.asked) < 10


@pytest.mark.parametrize("data", [DATA, bytes(PART_BYTES + 1)], ids=["whole", "in parts"])
def test_a_server_that_accepts_and_never_answers_does_not_hold_a_put_for_ever(
    server: ToldServer, open_store: Open, data: bytes
) -> None:
    server.answers = [Answer(silent=True)]
    with pytest.raises(StoreUnavailable, match="did not answer in time"):
        open_store(IMPATIENT).put("a.png", data)


def test_a_server_that_is_not_there_is_named(open_store: Open) -> None:
    store = open_s3("s3://pictures?endpoint=http://127.0.0.1:1", IMPATIENT)
    with pytest.raises(
        StoreUnavailable, match=r"^s3://pictures at http://127\.0\.0\.1:1: it cannot be"
    ):
        store.put("a.png", DATA)
    store.close()


@pytest.mark.parametrize(
    "full",
    [
        refusal(507, "InsufficientStorage"),
        refusal(403, "QuotaExceeded"),
        refusal(507, "Whatever"),
        refusal(507, "XMinioStorageFull"),
    ],
)
def test_a_full_store_is_said_at_once(server: ToldServer, open_store: Open, full: Answer) -> None:
    server.answers = [full]
    with pytest.raises(StoreFull, match=r"no space left to store a\.png") as caught:
        open_store().put("a.png", DATA)
    assert "quota" in str(caught.value.hint)
    assert len(server.asked) == 1


def test_a_put_repeated_because_its_answer_was_lost_recognises_itself(
    server: ToldServer, open_store: Open
) -> None:
    server.answers = [LOST, EXISTS, Answer(headers=DIGEST)]
    open_store().put("a.png", DATA, overwrite=False)
    assert server.methods == ["PUT", "PUT", "HEAD"]
    assert [one.headers.get("If-None-Match") for one in server.asked] == ["*", "*", None]


def test_a_put_repeated_because_its_answer_was_lost_notices_that_another_came_first(
    server: ToldServer, open_store: Open
) -> None:
    server.answers = [LOST, EXISTS, OTHER]
    with pytest.raises(ObjectExists):
        open_store().put("a.png", DATA, overwrite=False)


def test_a_put_that_meets_another_of_the_same_key_is_repeated(
    server: ToldServer, open_store: Open
) -> None:
    server.answers = [refusal(409, "ConditionalRequestConflict"), EXISTS, OTHER]
    with pytest.raises(ObjectExists):
        open_store().put("a.png", DATA, overwrite=False)


def test_where_a_store_knows_no_conditions_it_is_looked_first(
    server: ToldServer, open_store: Open
) -> None:
    server.answers = [refusal(501, "NotImplemented"), Answer(status=404), EMPTY_LIST, Answer()]
    open_store().put("a.png", DATA, overwrite=False)
    assert server.methods == ["PUT", "HEAD", "GET", "PUT"]
    assert "If-None-Match" not in server.asked[-1].headers

    server.answers = [refusal(501, "NotImplemented"), OTHER]
    with pytest.raises(ObjectExists):
        open_store().put("a.png", DATA, overwrite=False)


def test_parts_that_fail_are_not_left_behind(server: ToldServer, open_store: Open) -> None:
    begun = b"<InitiateMultipartUploadResult><UploadId>7</UploadId></InitiateMultipartUploadResult>"
    server.answers = [
        Answer(body=begun),
        Answer(headers={"ETag": '"1"'}),
        refusal(507, "InsufficientStorage"),
        Answer(status=204),
    ]
    with pytest.raises(StoreFull):
        open_store().put("a.png", bytes(PART_BYTES + 1))
    assert server.methods == ["POST", "PUT", "PUT", "DELETE"]
    assert "uploadId=7" in server.asked[-1].path


def test_parts_whose_completion_was_heard_but_not_answered_are_stored(
    server: ToldServer, open_store: Open
) -> None:
    data = bytes(PART_BYTES + 1)
    begun = b"<InitiateMultipartUploadResult><UploadId>7</UploadId></InitiateMultipartUploadResult>"
    server.answers = [
        Answer(body=begun),
        Answer(headers={"ETag": '"1"'}),
        Answer(headers={"ETag": '"2"'}),
        LOST,
        refusal(404, "NoSuchUpload"),
        refusal(404, "NoSuchUpload"),
        Answer(headers={"x-amz-meta-sha256": hashlib.sha256(data).hexdigest()}),
    ]
    open_store(Options(attempts=2)).put("a.png", data)
    assert server.methods == ["POST", "PUT", "PUT", "POST", "POST", "DELETE", "HEAD"]


def test_a_store_that_deletes_no_batches_is_asked_one_by_one(
    server: ToldServer, open_store: Open
) -> None:
    server.answers = [refusal(400, "MissingContentMD5"), Answer(status=204)]
    open_store().delete(["a", "b"])
    assert server.methods == ["POST", "DELETE", "DELETE"]


def test_what_may_not_be_deleted_is_said(server: ToldServer, open_store: Open) -> None:
    server.answers = [
        Answer(
            body=b"<DeleteResult><Error><Key>of/a</Key><Code>AccessDenied</Code>"
            b"<Message>no</Message></Error></DeleteResult>"
        )
    ]
    with pytest.raises(StoreUnavailable, match=r"access is denied \(AccessDenied: no\)"):
        open_store().delete(["a", "b"])


@pytest.mark.parametrize(
    "body",
    [b"<html><body>Welcome!</body></html>", b"<html><br></html>", b"{}", b"\x00\x01"],
    ids=["page", "sloppy page", "json", "bytes"],
)
def test_a_server_that_does_not_speak_s3_is_found_out(
    server: ToldServer, open_store: Open, body: bytes
) -> None:
    server.answers = [Answer(body=body)]
    with pytest.raises(StoreUnavailable) as caught:
        open_store(IMPATIENT).check()
    assert "check that the endpoint" in str(caught.value.hint)


def test_folder_markers_and_keys_of_others_are_no_objects(
    server: ToldServer, open_store: Open
) -> None:
    names = ("of/", "of/a/", "of/a/1.png", "of/a//2.png")
    listed = "".join(f"<Contents><Key>{name}</Key><Size>7</Size></Contents>" for name in names)
    server.answers = [Answer(body=f"<ListBucketResult>{listed}</ListBucketResult>".encode())]
    assert list(open_store().keys("")) == ["a/1.png"]


def checking(date: float, *, conditions: bool) -> list[Answer]:
    """The answers to a check: list, put, get, put again, delete."""
    probe = b"Rendermill was here to see whether it may write.\n"
    listed = replace(EMPTY_LIST, headers={"Date": formatdate(date, usegmt=True)})
    return [listed, Answer(), Answer(body=probe), EXISTS if conditions else Answer(), Answer()]


def test_a_check_says_that_a_store_overwrites_in_spite_of_conditions(
    server: ToldServer, open_store: Open
) -> None:
    server.answers = checking(time.time(), conditions=False)
    (note,) = open_store().check()
    assert "does not refuse to overwrite" in note
    assert server.methods == ["GET", "PUT", "GET", "PUT", "DELETE"]


@pytest.mark.parametrize(
    ("seconds", "said"), [(-120, "ahead of the store's"), (120, "behind the store's"), (2, None)]
)
def test_a_check_says_that_the_clocks_differ(
    server: ToldServer, open_store: Open, seconds: float, said: str | None
) -> None:
    server.answers = checking(time.time() + seconds, conditions=True)
    notes = open_store().check()
    assert [said in note for note in notes if said] == ([True] if said else [])
    assert len(notes) == (said is not None)


def test_a_check_finds_what_comes_back_changed_and_tidies_up(
    server: ToldServer, open_store: Open
) -> None:
    server.answers = [EMPTY_LIST, Answer(), Answer(body=b"something else"), Answer()]
    with pytest.raises(StoreUnavailable, match="comes back changed"):
        open_store().check()
    assert server.methods[-1] == "DELETE"


def test_a_check_that_may_not_delete_says_so(server: ToldServer, open_store: Open) -> None:
    server.answers = [*checking(time.time(), conditions=True)[:-1], refusal(403, "AccessDenied")]
    with pytest.raises(StoreUnavailable, match="access is denied"):
        open_store().check()


def test_without_credentials_the_way_to_set_them_is_shown(
    server: ToldServer, open_store: Open, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("AWS_ACCESS_KEY_ID")
    monkeypatch.delenv("AWS_SECRET_ACCESS_KEY")
    with pytest.raises(StoreUnavailable, match="no credentials were found") as caught:
        open_store(IMPATIENT).put("a", DATA)
    assert "AWS_ACCESS_KEY_ID" in str(caught.value.hint)
    with pytest.raises(StoreUnavailable, match="no credentials were found"):
        open_store(IMPATIENT).presign("a", 60)
    assert server.asked == []


def test_a_profile_that_is_not_there_is_said(
    server: ToldServer, open_store: Open, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_PROFILE", "nobody")
    with pytest.raises(StoreUnavailable, match="no such AWS profile"):
        open_store(IMPATIENT).put("a", DATA)


def test_credentials_reach_neither_messages_nor_addresses(
    server: ToldServer, open_store: Open
) -> None:
    server.answers = [refusal(403, "SignatureDoesNotMatch")]
    store = open_store(IMPATIENT)
    with pytest.raises(StoreUnavailable, match="the credentials are refused") as caught:
        store.put("a", DATA)
    said = f"{caught.value}{caught.value.hint}{store.locate('a')}{store.address!r}"
    assert "hush" not in said
    assert "somebody" not in said
    assert "hush" not in str(store.presign("a", 60))


def test_presigned_urls_name_the_server_as_others_see_it(server: ToldServer) -> None:
    store = open_s3(
        f"s3://pictures?endpoint=http://127.0.0.1:{server.server_port}"
        "&public=https://pictures.example&region=eu-north-1"
    )
    url = str(store.presign("a b.png", 10**9))
    assert url.startswith("https://pictures.example/pictures/a%20b.png?")
    assert "eu-north-1" in url
    assert "X-Amz-Expires=604800" in url
    store.close()


# One client in each process


def test_threads_share_one_client_that_is_made_once(
    monkeypatch: pytest.MonkeyPatch, server: ToldServer, open_store: Open
) -> None:
    made: list[Any] = []
    original = s3_client._make

    def make(*arguments: Any) -> Any:
        made.append(original(*arguments))
        return made[-1]

    monkeypatch.setattr(s3_client, "_make", make)
    server.answers = [Answer()]
    store = open_store()
    together = threading.Barrier(4)

    def put(number: int) -> None:
        together.wait()
        store.put(f"{number}", DATA)

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(put, range(4)))
    assert len(made) == 1
    assert len(server.asked) == 4


def test_a_forked_process_makes_a_client_of_its_own(
    monkeypatch: pytest.MonkeyPatch, open_store: Open
) -> None:
    clients = Clients(open_store().address, IMPATIENT)
    ours = clients.get()
    assert clients.get() is ours
    pid = os.getpid()
    with monkeypatch.context() as patch:
        patch.setattr(os, "getpid", lambda: pid + 1)
        theirs = clients.get()
        assert theirs is not ours
        clients.close()
    ours.close()


def test_without_boto3_the_way_to_install_it_is_shown(
    monkeypatch: pytest.MonkeyPatch, open_store: Open
) -> None:
    monkeypatch.setitem(sys.modules, "boto3.session", None)
    with pytest.raises(SettingError, match="boto3 is not installed") as caught:
        open_store().check()
    assert caught.value.hint == "pip install 'rendermill[farm]'"


def test_importing_the_store_loads_no_boto3() -> None:
    program = (
        "import sys, storage.objects.s3; "
        "print([name for name in ('boto3', 'botocore', 's3transfer') if name in sys.modules])"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == "[]"
