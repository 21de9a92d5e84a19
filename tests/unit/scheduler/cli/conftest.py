"""Fixtures for the tests of the command line: a home with two jobs in it."""

from __future__ import annotations

import io
import json
import shutil
import signal
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest
from PIL import Image
from typer.testing import CliRunner, Result

from scheduler.cli.main import app, main
from scheduler.service.home import open_home
from storage.contract.claims import ClaimedTask, Rendering
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
    ref_of,
)

RENDERING = Rendering(mode="cpu", dtype="float32", device="cpu/1", batch=4, weights="abc")


class Printed(msgspec.Struct, frozen=True):
    """What the program said, and how it ended."""

    code: int
    out: str
    err: str


@pytest.fixture(scope="session")
def filled_home(tmp_path_factory: pytest.TempPathFactory, migrated_catalog: Path) -> Path:
    """A home with two jobs, made once.

    ``shapes`` has eight items: 0 to 3 rendered, 4 failed, the rest undone. ``birds`` has two,
    both rendered, and is finished.
    """
    path = tmp_path_factory.mktemp("filled")
    shutil.copy(migrated_catalog, path / CATALOG)
    with open_home(path) as opened:
        worker_id = add_worker(opened.ledger)
        add_job(opened.ledger, opened.store, name="shapes")
        birds = [make_item(number) for number in range(2)]
        add_job(opened.ledger, opened.store, birds, name="birds")
        shapes_task = _cut(opened, worker_id, 1, 8)
        _commit(opened, shapes_task, [_shape(shapes_task, item) for item in range(5)])
        birds_task = _cut(opened, worker_id, 2, 2)
        _commit(opened, birds_task, [_bird(birds_task, item) for item in range(2)])
        for row in range(4):
            _paint(opened, f"renders/shapes/{row}.png")
        with opened.ledger.write() as connection:
            for ref in tasks.leased_by(connection, worker_id):
                tasks.hand_back(connection, ref, now=3.0)
    return path


@pytest.fixture
def home(tmp_path: Path, filled_home: Path) -> Path:
    """A home with two jobs, for this test alone."""
    return Path(shutil.copytree(filled_home, tmp_path / "home"))


@pytest.fixture
def run(home: Path) -> Callable[..., Result]:
    """Runs a command on that home; it must end with `code`."""

    def invoke(*arguments: str, code: int = 0, at: Path = home) -> Result:
        result = CliRunner().invoke(app, [*arguments, "--home", str(at)], catch_exceptions=False)
        assert result.exit_code == code, result.output
        return result

    return invoke


@pytest.fixture
def read_json(run: Callable[..., Result]) -> Callable[..., Any]:
    """Runs a command on that home with ``--json``; what it printed."""

    def invoke(*arguments: str) -> Any:
        return json.loads(run(*arguments, "--json").stdout)

    return invoke


@pytest.fixture
def program(
    home: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Iterator[Callable[..., Printed]]:
    """Runs the whole program, as the shell does, on that home."""
    handlers = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}

    def call(*arguments: str, at: Path | None = home) -> Printed:
        where = [] if at is None else ["--home", str(at)]
        monkeypatch.setattr(sys, "argv", ["rendermill", *arguments, *where])
        with pytest.raises(SystemExit) as left:
            main()
        printed = capsys.readouterr()
        code = left.value.code
        assert code is None or isinstance(code, int)
        return Printed(code or 0, printed.out, printed.err)

    yield call
    for number, handler in handlers.items():
        signal.signal(number, handler)


def _cut(home: Mill, worker_id: int, group_id: int, items: int) -> ClaimedTask:
    task = cut_task(home.ledger, worker_id, items=items, group_id=group_id, lease=group_id)
    assert task is not None
    return task


def _commit(home: Mill, task: ClaimedTask, rows: list[ImageRow]) -> None:
    with home.ledger.write() as connection:
        tasks.commit(connection, ref_of(task), rows, expires_at=99.0, now=2.0)


def _shape(task: ClaimedTask, item: int) -> ImageRow:
    failed = item == 4
    return make_image_row(
        task,
        item,
        prompt=("a red star", "a [bold]blue[/] star \\[/b]", "A RED moon", "100% sun", "a tree")[
            item
        ],
        tags=json.dumps({"kind": ("star", "star", "moon", "sun", "plant")[item]}),
        truncated_tokens=3 if item == 3 else 0,
        outcome=Outcome.FAILED if failed else Outcome.RENDERED,
        reason=Reason.NAN if failed else None,
        detail="attempt 1 (worker 1): nan: not finite" if failed else None,
        object_key=None if failed else f"renders/shapes/{item}.png",
        rendering=None if failed else msgspec.json.encode(RENDERING).decode(),
    )


def _bird(task: ClaimedTask, item: int) -> ImageRow:
    return make_image_row(
        task,
        item,
        prompt="a bird",
        seed=2**32 - 1 - item,
        model="/models/my birds",
        tags=json.dumps({"kind": "bird", "a=b": "c"}),
    )


def _paint(home: Mill, key: str) -> None:
    written = io.BytesIO()
    Image.new("RGB", (64, 64), (255, 0, 0)).save(written, "PNG")
    home.store.put(key, written.getvalue())
