"""What rows may name pictures by, and what is taken in of them."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from io import BytesIO
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from scheduler.manifest.inputs import Seen
from scheduler.manifest.limits import Limits
from scheduler.service.intake import Intake
from scheduler.service.references import Sources, read_sources
from storage.contract.errors import NotFoundError, SettingError, StoreUnavailable
from storage.contract.outcomes import Outcome
from storage.db import tasks
from storage.db.engine import Ledger
from storage.objects.memory import MemoryStore
from storage.opening import Mill
from storage.pictures import input_key
from storage.settings import Connections
from storage.testing.factories import (
    add_job,
    add_worker,
    cut_task,
    make_image_row,
    ref_of,
)
from tests.services.told_server import Answer, ToldServer, told_server

Make = Callable[..., Intake]


def png(width: int = 40, height: int = 30, colour: str = "red") -> bytes:
    buffer = BytesIO()
    Image.new("RGB", (width, height), colour).save(buffer, "PNG")
    return buffer.getvalue()


CAT = png()
KEY = input_key(CAT, "png")
SEEN = Seen(KEY, 40, 30)


@pytest.fixture
def server() -> Iterator[ToldServer]:
    with told_server() as running:
        yield running


@pytest.fixture
def make(tmp_path: Path) -> Iterator[Make]:
    """Makes an intake for manifests of `tmp_path`, which holds cat.png."""
    (tmp_path / "cat.png").write_bytes(CAT)
    made: list[Intake] = []

    def make_intake(
        limits: Limits | None = None, *, headers_only: bool = False, **sources: Any
    ) -> Intake:
        given: dict[str, Any] = {"any_address": True} | sources
        intake = Intake(Sources(**given), tmp_path, limits or Limits(), headers_only=headers_only)
        made.append(intake)
        return intake

    yield make_intake
    for intake in made:
        intake.close()


@pytest.fixture
def mill(ledger: Ledger, store: MemoryStore, tmp_path: Path) -> Mill:
    return Mill(connections=Connections(home=tmp_path), ledger=ledger, store=store)


def problem(intake: Intake, reference: str) -> str:
    with pytest.raises(ValueError) as caught:  # noqa: PT011 - what it says is what is tested
        intake.look(reference)
    return str(caught.value)


# Files


def test_a_file_is_named_relative_to_the_manifest_or_whole(make: Make, tmp_path: Path) -> None:
    intake = make()

    for reference in ("cat.png", "./cat.png", str(tmp_path / "cat.png")):
        assert intake.look(reference) == SEEN
    assert intake.look((tmp_path / "cat.png").as_uri()) == SEEN
    assert intake.look(f"file://localhost{tmp_path}/cat.png") == SEEN


def test_what_was_taken_in_is_stored_under_its_hash(make: Make, tmp_path: Path) -> None:
    other = png(8, 8)
    (tmp_path / "again.png").write_bytes(CAT)
    (tmp_path / "other.png").write_bytes(other)
    intake, store = make(), MemoryStore()

    for reference in ("cat.png", "again.png", "other.png", "cat.png"):
        intake.look(reference)
    intake.spool.store_into(store)

    assert store.objects == {KEY: CAT, input_key(other, "png"): other}


@pytest.mark.parametrize(
    ("reference", "said"),
    [
        ("gone.png", "gone.png: there is no such file"),
        ("folder", "folder: is no file"),
        ("text.png", "text.png: is no picture that can be read; allowed: PNG, JPEG,"),
        ("half.png", "half.png: is damaged or cut off"),
        ("file:///gone.png", "file:///gone.png: there is no such file"),
        ("file://elsewhere/a.png", "file://elsewhere/a.png: must be a file of this machine"),
        ("gopher://host/a.png", "gopher://host/a.png: is no address of a kind that is fetched"),
        ("data:image/png;base64,AAAA", "data:image/png;base64,AAAA: is no address of a kind"),
        ("a\0b", "a\0b: there is no such file"),
        ("~nobody/x.png", "~nobody/x.png: there is no such file"),
        ("x" * 5000, "x" * 200 + "...: there is no such file"),
        ("job/12", "job/12: there is no such file"),
        ("s3://bucket/x.png", "s3://bucket/x.png: there is no catalog here"),
    ],
    ids=range(13),
)
def test_what_cannot_be_taken_is_refused_by_its_name(
    make: Make, tmp_path: Path, reference: str, said: str
) -> None:
    (tmp_path / "folder").mkdir()
    (tmp_path / "text.png").write_text("no picture")
    (tmp_path / "half.png").write_bytes(png(200, 200)[:200])

    assert problem(make(), reference).startswith(said)


def test_a_pipe_is_not_waited_for(make: Make, tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.png")

    assert problem(make(), "pipe.png") == "pipe.png: is no file"


def test_limits_are_settings_and_named(make: Make) -> None:
    few_bytes = make(Limits(max_picture_bytes=50))
    few_pixels = make(Limits(max_picture_pixels=1199))

    assert problem(few_bytes, "cat.png") == (
        f"cat.png: has {len(CAT)} bytes; the limit is 50 (RENDERMILL_MAX_PICTURE_BYTES)"
    )
    assert problem(few_pixels, "cat.png") == (
        "cat.png: has 1,200 pixels (40 x 30); the limit is 1,199 (RENDERMILL_MAX_PICTURE_PIXELS)"
    )


def test_a_picture_is_opened_once_however_often_it_is_named(make: Make, tmp_path: Path) -> None:
    intake = make()
    assert intake.look("cat.png") == SEEN
    (tmp_path / "cat.png").unlink()

    assert intake.look("cat.png") == SEEN


def test_pictures_are_opened_before_they_are_asked_for(make: Make, tmp_path: Path) -> None:
    intake = make()
    intake.expect("cat.png")
    intake.expect("gone.png")
    intake.expect("cat.png")

    assert intake.look("cat.png") == SEEN
    assert problem(intake, "gone.png") == "gone.png: there is no such file"


def test_files_may_be_forbidden(make: Make, tmp_path: Path) -> None:
    intake = make(files=False)

    for reference in ("cat.png", str(tmp_path / "cat.png"), f"file://{tmp_path}/cat.png"):
        assert problem(intake, reference).endswith("files of this machine are not read here")


def test_the_digest_follows_pictures_and_their_order(make: Make, tmp_path: Path) -> None:
    (tmp_path / "dog.png").write_bytes(png(8, 8))

    def digest(*references: str) -> tuple[str, ...]:
        intake = make()
        for reference in references:
            intake.look(reference)
        return intake.digests

    assert digest() == ()
    assert digest("cat.png") == digest("./cat.png")
    assert len({digest("cat.png", "dog.png"), digest("dog.png", "cat.png"), digest("cat.png")}) == 3


# URLs


def test_a_url_is_fetched_once_and_kept(make: Make, server: ToldServer) -> None:
    server.answers = [Answer(body=CAT)]
    url = f"http://127.0.0.1:{server.server_port}/cat"
    intake, store = make(), MemoryStore()

    assert intake.look(url) == intake.look(url) == SEEN
    intake.spool.store_into(store)

    assert store.objects == {KEY: CAT}
    assert len(server.asked) == 1


def test_urls_may_be_forbidden_and_private_ones_are(make: Make, server: ToldServer) -> None:
    server.answers = [Answer(body=CAT)]
    url = f"http://127.0.0.1:{server.server_port}/cat"

    assert "RENDERMILL_ALLOW_URLS is 0" in problem(make(urls=False), url)
    assert "private address" in problem(make(any_address=False), url)
    assert server.asked == []


# The catalog and the store


def test_an_image_of_the_catalog_is_named_by_its_id(
    make: Make, mill: Mill, ledger: Ledger, store: MemoryStore
) -> None:
    add_job(ledger, store)
    task = cut_task(ledger, add_worker(ledger))
    assert task is not None
    rows = [
        make_image_row(task, 0, object_key="renders/job/0.png"),
        make_image_row(task, 1, outcome=Outcome.FAILED, object_key=None),
    ]
    with ledger.write() as connection:
        tasks.commit(connection, ref_of(task), rows, expires_at=9e12, now=1.0)
    store.objects["renders/job/0.png"] = CAT
    intake, other = make(open_mill=lambda: mill), MemoryStore()

    assert intake.look(f"{task.job_name}/0") == SEEN
    assert "is an image that failed" in problem(intake, f"{task.job_name}/1")
    assert "neither such a file nor such an image" in problem(intake, f"{task.job_name}/2")
    intake.spool.store_into(other)
    assert other.objects == {KEY: CAT}, "a copy: the image itself may be deleted"


def test_objects_are_named_by_their_key(make: Make, mill: Mill, store: MemoryStore) -> None:
    store.objects |= {KEY: CAT, "uploads/a.png": CAT}
    intake, other = make(open_mill=lambda: mill), MemoryStore()

    assert intake.look(KEY) == SEEN
    intake.spool.store_into(other)
    assert other.objects == {}, "it lies there already"
    assert intake.look("uploads/a.png") == SEEN
    assert "no such file or object" in problem(intake, "uploads/b.png")
    assert "no such file or object" in problem(intake, "inputs/" + "0" * 64 + ".png")


def test_an_object_too_large_is_not_read(make: Make, mill: Mill, store: MemoryStore) -> None:
    store.objects["uploads/a.png"] = CAT
    intake = make(Limits(max_picture_bytes=50), open_mill=lambda: mill)

    assert "the limit is 50" in problem(intake, "uploads/a.png")


def test_a_store_that_is_away_is_not_the_rows_fault(make: Make, mill: Mill) -> None:
    def away() -> Mill:
        raise StoreUnavailable("gone")

    with pytest.raises(StoreUnavailable):
        make(open_mill=away).look(KEY)


def test_where_there_is_no_catalog_yet_there_is_no_such_file(make: Make) -> None:
    def none() -> Mill:
        raise NotFoundError("there is no catalog in ./home")

    assert problem(make(open_mill=none), "shapes/12") == "shapes/12: there is no such file"


def test_s3_addresses_are_of_the_farms_own_store(make: Make, mill: Mill) -> None:
    class Bucket(MemoryStore):
        def locate(self, key: str) -> str:
            return f"s3://bucket/prefix/{key}"

    bucket = Bucket()
    bucket.objects["uploads/a.png"] = CAT
    there = Mill(connections=mill.connections, ledger=mill.ledger, store=bucket)
    intake = make(open_mill=lambda: there)

    assert intake.look("s3://bucket/prefix/uploads/a.png") == SEEN
    assert "outside this farm's object store" in problem(intake, "s3://other/uploads/a.png")


# A dry run


def test_a_dry_run_reads_headers_and_keeps_nothing(make: Make, tmp_path: Path) -> None:
    (tmp_path / "half.png").write_bytes(png(200, 100)[:100])
    intake, store = make(headers_only=True), MemoryStore()

    assert intake.look("cat.png") == Seen("", 40, 30)
    assert intake.look("half.png") == Seen("", 200, 100), "the rest was not read"
    intake.spool.store_into(store)
    assert store.objects == {}


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "WEBP", "GIF", "BMP", "TIFF"])
def test_a_dry_run_reads_of_a_url_what_it_needs(make: Make, server: ToldServer, kind: str) -> None:
    buffer = BytesIO()
    Image.effect_noise((600, 400), 80).save(buffer, kind)
    server.answers = [Answer(body=buffer.getvalue())]

    seen = make(headers_only=True).look(f"http://127.0.0.1:{server.server_port}/a")

    assert (seen.width, seen.height) == (600, 400)


# Settings


def test_where_pictures_may_come_from_is_a_setting(mill: Mill) -> None:
    def read(**environ: str) -> tuple[bool, bool]:
        found = read_sources(environ, lambda: mill)
        return found.urls, found.any_address

    assert read() == read(RENDERMILL_ALLOW_URLS="", RENDERMILL_URLS_ANY_ADDRESS="0")
    assert read() == (True, False)
    assert read(RENDERMILL_ALLOW_URLS="0", RENDERMILL_URLS_ANY_ADDRESS="1") == (False, True)
    with pytest.raises(SettingError, match="RENDERMILL_ALLOW_URLS is 1 or 0, not 'yes'"):
        read(RENDERMILL_ALLOW_URLS="yes")
