"""A home with pictures to take out."""

from __future__ import annotations

import hashlib
import io
import json
import shutil
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest
from PIL import Image

from scheduler.service.finding import catch_up
from scheduler.service.home import open_home
from storage.contract.claims import ClaimedTask, Rendering
from storage.contract.keys import image_key
from storage.contract.outcomes import Outcome, Reason
from storage.db import tasks
from storage.db.images import ImageRow
from storage.home import CATALOG
from storage.opening import Mill
from storage.testing.factories import (
    add_job,
    add_worker,
    cut_task,
    make_image_row,
    make_item,
    make_spec,
    ref_of,
)

RENDERING = Rendering(mode="cpu", dtype="float32", device="cpu/1", batch=4, weights="abc")
PROMPTS = ("a red fox", 'two "birds", one\nline', "élan 日本 🦊", "../../etc/passwd", "")
ITEMS = 23
FAILED = 7


@pytest.fixture(scope="session")
def pictures_home(tmp_path_factory: pytest.TempPathFactory, migrated_catalog: Path) -> Path:
    """A job ``foxes`` of 23 items, the eighth of which failed, and ``owls`` of two."""
    path = tmp_path_factory.mktemp("pictures")
    shutil.copy(migrated_catalog, path / CATALOG)
    with open_home(path) as mill:
        worker = add_worker(mill.ledger)
        _render(mill, worker, "foxes", ITEMS, group=1)
        _render(mill, worker, "owls", 2, group=2)
        catch_up(mill.ledger)
    return path


@pytest.fixture
def home(tmp_path: Path, pictures_home: Path) -> Path:
    """That home, for this test alone."""
    return Path(shutil.copytree(pictures_home, tmp_path / "home"))


@pytest.fixture
def mill(home: Path) -> Iterator[Mill]:
    """That home, open."""
    with open_home(home) as opened:
        yield opened


def picture(number: int) -> bytes:
    """A small picture, another one for each number."""
    written = io.BytesIO()
    Image.new("RGB", (8, 8), (number * 9 % 256, 40, 90)).save(written, "PNG")
    return written.getvalue()


def _render(mill: Mill, worker: int, job: str, count: int, *, group: int) -> None:
    items = [
        make_item(
            number,
            prompt=PROMPTS[number % len(PROMPTS)] or "x",
            seed=2**32 - 1 - number,
            tags={"Category": "Animals, all", "n": str(number)},
        )
        for number in range(count)
    ]
    add_job(mill.ledger, mill.store, items, name=job, spec=make_spec(guidance_scale=7.5))
    task = cut_task(mill.ledger, worker, items=count, group_id=group, lease=group)
    assert task is not None
    rows = [_row(mill, task, number) for number in range(count)]
    with mill.ledger.write() as connection:
        tasks.commit(connection, ref_of(task), rows, expires_at=99.0, now=2.0)


def _row(mill: Mill, task: ClaimedTask, number: int) -> ImageRow:
    failed = number == FAILED
    data = picture(number)
    key = image_key(task.job_name, number)
    if not failed:
        mill.store.put(key, data)
    return make_image_row(
        task,
        number,
        prompt=PROMPTS[number % len(PROMPTS)] or "x",
        seed=2**32 - 1 - number,
        tags=json.dumps({"Category": "Animals, all", "n": str(number)}),
        outcome=Outcome.FAILED if failed else Outcome.RENDERED,
        reason=Reason.NAN if failed else None,
        object_key=None if failed else key,
        bytes=None if failed else len(data),
        sha256=None if failed else hashlib.sha256(data).hexdigest(),
        pixels_sha256=None if failed else f"{number:064x}",
        phash=None if failed else -number,
        flagged=number % 2 if number > 3 else None,
        render_key=f"{number:032x}",
        rendering=None if failed else msgspec.json.encode(RENDERING).decode(),
        created_at=1_700_000_000.0 + number,
    )
