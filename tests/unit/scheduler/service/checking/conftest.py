"""A finished job with pictures and thumbnails, in a folder and in S3."""

from __future__ import annotations

import hashlib
import io
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest
from PIL import Image

from scheduler.service.checking.findings import Finding, Summary, Wanted
from scheduler.service.checking.journal import Journal
from scheduler.service.checking.run import check
from storage.contract.claims import ClaimedTask
from storage.contract.keys import image_key, thumbnail_key
from storage.db import tasks
from storage.db.images import ImageRow
from storage.home import CATALOG
from storage.opening import Mill, open_mill
from storage.settings import Connections
from storage.testing.factories import (
    add_job,
    add_worker,
    cut_task,
    make_image_row,
    make_item,
    ref_of,
)
from storage.thumbnails import encode_thumbnail

ITEMS = 21
"""More than are worth a listing, so that both ways of asking for sizes are taken."""


class Checked(msgspec.Struct, frozen=True):
    """What came of a check."""

    summary: Summary
    findings: list[Finding]

    @property
    def kinds(self) -> list[str]:
        """The kinds of the findings, in order."""
        return [one.kind.value for one in self.findings]


@pytest.fixture
def folder_mill(tmp_path: Path, migrated_catalog: Path) -> Iterator[Mill]:
    """An empty mill whose objects lie in a folder."""
    with _opened(tmp_path, migrated_catalog, None) as opened:
        yield opened


@pytest.fixture(params=["folder", "s3"])
def mill(request: pytest.FixtureRequest, tmp_path: Path, migrated_catalog: Path) -> Iterator[Mill]:
    """An empty mill whose objects lie in a folder, or in a bucket."""
    url = request.getfixturevalue("s3_url") if request.param == "s3" else None
    with _opened(tmp_path, migrated_catalog, url) as opened:
        yield opened


def _opened(home: Path, catalog: Path, url: str | None) -> Mill:
    shutil.copy(catalog, home / CATALOG)
    return open_mill(Connections(home=home, storage_url=url))


@pytest.fixture
def filled(mill: Mill) -> Mill:
    """The same with the job ``shapes``, finished."""
    fill(mill, "shapes")
    return mill


@pytest.fixture
def look(mill: Mill) -> Callable[..., Checked]:
    """Checks that mill to the end."""

    def run(**wanted: Any) -> Checked:
        with Journal(mill.home, Wanted(**wanted)) as journal:
            summary = check(mill, Wanted(**wanted), journal)
            findings = list(journal.findings())
            journal.finish()
        return Checked(summary, findings)

    return run


def fill(mill: Mill, name: str, items: int = ITEMS) -> None:
    """Add a job and render all of it."""
    worker = add_worker(mill.ledger, pid=len(name))
    job = add_job(
        mill.ledger, mill.store, [make_item(number) for number in range(items)], name=name
    )
    render(mill, worker, job.id)


def render(mill: Mill, worker: int, group_id: int) -> None:
    """Render whatever can be claimed of a group."""
    while task := cut_task(mill.ledger, worker, group_id=group_id, items=ITEMS, now=9e9):
        rows = [stored(mill, task, item) for item in range(task.first_item, task.stop_item)]
        with mill.ledger.write() as connection:
            tasks.commit(connection, ref_of(task), rows, expires_at=9e10, now=9e9)


def stored(mill: Mill, task: ClaimedTask, item: int) -> ImageRow:
    """Store the picture and thumbnail of an item; its row."""
    picture = Image.new("RGB", (64, 64), (item, 0, 99))
    written = io.BytesIO()
    picture.save(written, "PNG")
    key, small = image_key(task.job_name, item), thumbnail_key(task.job_name, item)
    mill.store.put(key, written.getvalue())
    mill.store.put(small, encode_thumbnail(picture))
    return make_image_row(
        task,
        item,
        object_key=key,
        thumbnail_key=small,
        bytes=len(written.getvalue()),
        sha256=hashlib.sha256(written.getvalue()).hexdigest(),
    )
