"""An export that was killed and run again equals an undisturbed one, byte for byte."""

from __future__ import annotations

import hashlib
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import msgspec
import pytest

from scheduler.service.export.options import ExportOptions, Form, ShardSize
from scheduler.service.export.run import MANIFEST, Progress, export
from scheduler.service.export.target import FolderTarget, StoreTarget, Written
from scheduler.service.finding import catch_up
from storage.contract.errors import InputError
from storage.db import tasks
from storage.objects.memory import MemoryStore
from storage.opening import Mill
from storage.testing.factories import add_job, add_worker, cut_task, make_image_row, ref_of

SPLITS = {"train": 0.7, "test": 0.3}

KILLED = """
import os, signal, sys
from pathlib import Path
import msgspec
from scheduler.service.export.options import ExportOptions
from scheduler.service.export.run import export
from scheduler.service.export.target import FolderTarget
from scheduler.service.home import open_home

def strike(now):
    if now.phase == "writing" and now.images == int(sys.argv[4]):
        os.kill(os.getpid(), signal.SIGKILL)

options = msgspec.json.decode(sys.argv[3], type=ExportOptions)
with open_home(Path(sys.argv[1])) as mill:
    export(mill, FolderTarget(Path(sys.argv[2])), options, progress=strike)
"""


def options_of(form: Form, **more: Any) -> ExportOptions:
    splits: dict[str, Any] = {} if form is Form.DIFFUSIONDB else {"splits": SPLITS}
    return ExportOptions(query="*", format=form, shard=ShardSize(images=6), **splits, **more)


def tree(root: Path) -> dict[str, str]:
    """Every file below a folder, hidden ones too, with its hash."""
    return {
        path.relative_to(root).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in root.rglob("*")
        if path.is_file()
    }


@pytest.mark.parametrize("form", Form)
def test_an_export_killed_in_the_middle_of_a_shard_ends_the_same(
    mill: Mill, home: Path, tmp_path: Path, form: Form
) -> None:
    options = options_of(form)
    export(mill, FolderTarget(tmp_path / "whole"), options)
    killed = tmp_path / "killed"
    arguments = [str(home), str(killed), msgspec.json.encode(options).decode(), "9"]
    ended = subprocess.run([sys.executable, "-c", KILLED, *arguments], check=False)
    assert ended.returncode == -signal.SIGKILL
    assert (killed / ".export" / "done").is_dir()
    assert not msgspec.json.decode((killed / MANIFEST).read_bytes())["complete"]
    _render_more(mill)
    done = export(mill, FolderTarget(killed), options)
    assert tree(killed) == tree(tmp_path / "whole")
    assert done.complete


class Struck(BaseException):
    """The process is gone."""


class Fragile(StoreTarget):
    """A target whose process ends before or after a file is put."""

    def __init__(self, store: MemoryStore, at: int, *, after: bool) -> None:
        super().__init__(store)
        self.left = at
        self.after = after

    def put(self, name: str, data: bytes) -> Written:
        self.left -= 1
        if self.left < 0 and not self.after:
            raise Struck
        written = super().put(name, data)
        if self.left < 0:
            raise Struck
        return written

    def clear(self) -> None:
        self.left -= 1
        if self.left < 0:
            raise Struck
        super().clear()


@pytest.mark.parametrize("after", [False, True], ids=["before", "after"])
@pytest.mark.parametrize("form", [Form.WEBDATASET, Form.FILES, Form.DIFFUSIONDB, Form.CSV])
def test_it_does_not_matter_at_which_file_it_ends(mill: Mill, form: Form, after: bool) -> None:
    options = options_of(form)
    whole, broken = MemoryStore(), MemoryStore()
    export(mill, StoreTarget(whole), options)
    strikes = step = 0
    while True:
        # Each run gets a little further than what the last one left.
        try:
            export(mill, Fragile(broken, step, after=after), options)
        except Struck:
            strikes += 1
            step += 1 if strikes % 3 == 0 else 0
        else:
            break
    assert strikes > 8
    assert broken.objects == whole.objects


def test_what_comes_later_is_not_in_it(mill: Mill, tmp_path: Path) -> None:
    def render_more(now: Progress) -> None:
        if now.phase == "choosing":
            _render_more(mill, name=f"late{now.images}")

    target = FolderTarget(tmp_path / "out")
    done = export(mill, target, options_of(Form.JSONL), progress=render_more)
    assert done.images == 25
    assert export(mill, target, options_of(Form.JSONL)) == done
    assert export(mill, FolderTarget(tmp_path / "new"), options_of(Form.JSONL)).images == 26


def test_the_same_picture_is_always_in_the_same_split(mill: Mill, tmp_path: Path) -> None:
    def splits_of(query: str) -> dict[str, str]:
        out = tmp_path / query.replace(":", "")
        options = ExportOptions(query=query, format=Form.JSONL, splits=SPLITS)
        export(mill, FolderTarget(out), options)
        return {
            msgspec.json.decode(line)["rendermill"]["id"]: path.stem
            for path in out.glob("*.jsonl")
            for line in path.read_text().splitlines()
        }

    every = splits_of("*")
    some = splits_of("job:foxes")
    assert len(some) == 23
    assert some.items() <= every.items()


def test_shards_by_bytes_hold_no_more_than_that(mill: Mill, tmp_path: Path) -> None:
    shard = ShardSize(bytes=400)
    options = ExportOptions(query="*", format=Form.FILES, shard=shard)
    done = export(mill, FolderTarget(tmp_path / "out"), options)
    assert len(done.shards) > 4
    assert all(one.bytes <= 400 or one.images == 1 for one in done.shards)
    assert sum(one.images for one in done.shards) == done.images == 24


def test_another_export_is_not_mixed_with_it(mill: Mill, tmp_path: Path) -> None:
    target = FolderTarget(tmp_path / "out")
    export(mill, target, options_of(Form.JSONL))
    with pytest.raises(InputError, match="holds another export: jsonl"):
        export(mill, target, options_of(Form.CSV))
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "letter.txt").write_text("dear")
    with pytest.raises(InputError, match="is not empty"):
        export(mill, FolderTarget(tmp_path / "mine"), options_of(Form.CSV))
    assert tree(tmp_path / "mine").keys() == {"letter.txt"}


@pytest.mark.parametrize("form", [Form.WEBDATASET, Form.DIFFUSIONDB])
def test_what_is_missing_or_damaged_is_left_out_and_said(
    mill: Mill, tmp_path: Path, form: Form
) -> None:
    mill.store.delete(["renders/foxes/00000/000000002.png"])
    mill.store.put("renders/owls/00000/000000001.png", b"something else")
    done = export(mill, FolderTarget(tmp_path / "out"), options_of(form))
    assert {one.id: one.why for one in done.lost} == {"foxes/2": "missing", "owls/1": "damaged"}
    assert done.images == 22


def test_an_export_goes_to_an_object_store(mill: Mill, s3_url: str, tmp_path: Path) -> None:
    from scheduler.service.export.target import open_target

    options = options_of(Form.WEBDATASET)
    export(mill, FolderTarget(tmp_path / "whole"), options)
    target = open_target(s3_url)

    def strike(now: Progress) -> None:
        if now.images == 9 and now.phase == "writing":
            raise Struck

    with pytest.raises(Struck):
        export(mill, target, options, progress=strike)
    assert target.names(".export/done/")
    export(mill, target, options)
    stored = {
        name: hashlib.sha256(target.read(name) or b"").hexdigest() for name in target.names("")
    }
    assert stored == tree(tmp_path / "whole")


def _render_more(mill: Mill, name: str = "late") -> None:
    job = add_job(mill.ledger, mill.store, name=name)
    with mill.ledger.read() as connection:
        from storage.db import groups

        [group] = list(groups.of_job(connection, job.id, limit=1))
    worker = add_worker(mill.ledger, pid=99)
    task = cut_task(mill.ledger, worker, items=1, group_id=group.id, lease=99)
    assert task is not None
    row = make_image_row(task, 0, prompt="late")
    mill.store.put(str(row.object_key), b"late")
    with mill.ledger.write() as connection:
        tasks.commit(connection, ref_of(task), [row], expires_at=99.0, now=2.0)
    catch_up(mill.ledger)
