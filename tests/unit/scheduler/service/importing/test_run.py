"""Importing a folder: what becomes of its pictures, and of an import that is repeated."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import msgspec
import pytest
import sqlalchemy as sa

from scheduler.service import finding
from scheduler.service.checking.findings import Wanted as WantedCheck
from scheduler.service.checking.journal import Journal
from scheduler.service.checking.run import check
from scheduler.service.importing import jobs as import_jobs
from scheduler.service.importing import run
from scheduler.service.importing.folders import pictures
from scheduler.service.importing.run import Broken, Counts, Wanted, import_folder
from storage.contract.errors import InputError
from storage.db import images, jobs, offers
from storage.db.engine import Ledger
from storage.db.images import ImageRow
from storage.db.tables import groups
from storage.objects.folder import FolderStore
from storage.objects.memory import MemoryStore
from storage.opening import Mill
from storage.settings import Connections
from tests.unit.scheduler.service.importing.peers import jpeg, png, write_all


@pytest.fixture
def mill(ledger: Any, tmp_path: Path) -> Mill:
    home = tmp_path / "home"
    home.mkdir()
    return Mill(connections=Connections(home=home), ledger=ledger, store=FolderStore(home))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Nine pictures of seven programs and none."""
    made = tmp_path / "My Pictures"
    write_all(made)
    return made


def rows_of(mill: Mill, name: str = "my-pictures") -> list[ImageRow]:
    with mill.ledger.read() as connection:
        job = jobs.find(connection, name)
        return list(images.of_items(connection, job.id, range(job.item_count)))


def take(mill: Mill, folder: Path, **options: Any) -> Counts:
    return import_folder(mill, Wanted(folder=folder, **options))[1]


def test_pictures_of_every_program_become_images(mill: Mill, folder: Path) -> None:
    counts = take(mill, folder)
    assert (counts.imported, counts.silent, counts.broken) == (8, 1, 0)
    assert counts.by_program == {
        "Automatic1111": 2,
        "ComfyUI": 1,
        "DiffusionDB": 1,
        "dgenerate": 1,
        "InvokeAI": 1,
        "SwarmUI": 1,
        "unknown": 1,
    }
    rows = {msgspec.json.decode(row.tags)["file"]: row for row in rows_of(mill)}
    for file, row in rows.items():
        data = (folder / file).read_bytes()
        assert mill.store.get(row.object_key or "") == data
        assert mill.store.size(row.thumbnail_key or "")
        assert (row.width, row.height, row.bytes) == (64, 48, len(data))
        assert row.created_at == (folder / file).stat().st_mtime
        if file != "plain.png":
            assert row.prompt.startswith("a red fox")
    assert (rows["plain.png"].seed, rows["plain.png"].prompt) == (-1, "")
    assert str(rows["a1111/00002.jpg"].object_key).endswith(".jpg")


def test_imported_pictures_are_found_by_what_they_say(mill: Mill, folder: Path) -> None:
    take(mill, folder)
    finding.catch_up(mill.ledger)
    query = "fox AND tag.program:ComfyUI AND seed:156680208700286 AND sampler:dpm*"
    found = finding.find(
        mill.ledger, finding.Ask(query=query), sort=finding.sort_of("created"), limit=5
    )
    assert [row.model for _, row in found.images] == ["v1-5.safetensors"]


def test_the_job_is_finished_and_nothing_of_it_can_be_claimed(mill: Mill, folder: Path) -> None:
    take(mill, folder)
    with mill.ledger.read() as connection:
        job = jobs.find(connection, "my-pictures")
        group = connection.execute(sa.select(groups)).one()
        assert list(offers.open_groups(connection, limit=5, job_id=job.id)) == []
    assert (job.state, job.item_count, job.done, job.failed) == ("finished", 8, 8, 0)
    assert (group.first_item, group.stop_item, group.done, group.claimable) == (0, 8, 8, 0)


def test_a_picture_is_imported_once_whatever_its_name(mill: Mill, folder: Path) -> None:
    take(mill, folder)
    (folder / "copy of plain.png").write_bytes((folder / "plain.png").read_bytes())
    (folder / "new.png").write_bytes(png(99))
    counts = take(mill, folder)
    assert (counts.imported, counts.known) == (1, 9)
    assert len(rows_of(mill)) == 9


class Killed(Exception):
    """An import ends in its middle."""


def test_an_interrupted_import_goes_on_where_it_was(
    mill: Mill, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(run, "AT_ONCE", 3)

    def kill(_: Counts) -> None:
        raise Killed

    with pytest.raises(Killed):
        import_folder(mill, Wanted(folder=folder), told=kill)
    assert len(rows_of(mill)) == 3
    counts = take(mill, folder)
    assert (counts.imported, counts.known) == (5, 0)
    assert len({row.sha256 for row in rows_of(mill)}) == 8


def test_a_batch_that_was_stored_but_not_recorded_is_stored_again(
    mill: Mill, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object) -> None:
        raise Killed

    with monkeypatch.context() as patched:
        patched.setattr(import_jobs, "add", fail)
        with pytest.raises(Killed):
            take(mill, folder)
    assert rows_of(mill) == []
    assert take(mill, folder).imported == 8
    assert checked(mill) == []


def checked(mill: Mill, **wanted: Any) -> list[str]:
    with Journal(mill.home, WantedCheck(deep=True, **wanted)) as journal:
        check(mill, WantedCheck(deep=True, **wanted), journal)
        said = [one.mended or one.kind.value for one in journal.findings()]
        journal.finish()
    return said


def test_a_lost_imported_picture_is_restored_from_its_file(mill: Mill, folder: Path) -> None:
    take(mill, folder)
    lost = rows_of(mill)[0]
    mill.store.delete([lost.object_key or ""])
    assert [said.split(" ")[0] for said in checked(mill, repair=True)] == ["restored"]
    assert checked(mill) == []
    mill.store.delete([lost.object_key or ""])
    file = msgspec.json.decode(lost.tags)["file"]
    (folder / file).unlink()
    assert checked(mill, repair=True) == ["object missing"]


def test_broken_files_are_told_and_passed_over(mill: Mill, folder: Path) -> None:
    (folder / "cut.png").write_bytes(png(50)[:60])
    (folder / "text.jpg").write_text("no picture")
    told: list[Broken] = []
    _, counts = import_folder(mill, Wanted(folder=folder), broken=told.append)
    assert (counts.imported, counts.broken) == (8, 2)
    assert [one.file for one in told] == ["cut.png", "text.jpg"]
    assert all("no picture that can be read" in one.why for one in told)


def test_pictures_that_say_nothing_can_be_left_out(mill: Mill, folder: Path) -> None:
    counts = take(mill, folder, skip_silent=True)
    assert (counts.imported, counts.silent) == (7, 1)


def test_files_can_be_shared_instead_of_copied(mill: Mill, folder: Path) -> None:
    take(mill, folder, link=True)
    assert (folder / "plain.png").stat().st_nlink == 2
    assert checked(mill) == []
    other = Mill(connections=mill.connections, ledger=mill.ledger, store=MemoryStore())
    with pytest.raises(InputError, match="kept in a folder"):
        take(other, folder, link=True)


def test_a_job_of_other_pictures_is_not_added_to(mill: Mill, folder: Path, tmp_path: Path) -> None:
    take(mill, folder, job="mine")
    (tmp_path / "other").mkdir()
    with pytest.raises(InputError, match="not of pictures from"):
        take(mill, tmp_path / "other", job="mine")
    with pytest.raises(InputError, match="no folder"):
        take(mill, tmp_path / "nothing")


def test_folders_are_walked_in_one_order_and_from_any_place(tmp_path: Path) -> None:
    names = ["a/b.png", "a/b/c.png", "a.png", "b/x.jpg", "b/y.WEBP", "z.avif"]
    for name in [*names, "a/.hidden.png", "b/notes.txt"]:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes(b"")
    (tmp_path / "b" / "loop").symlink_to(tmp_path)
    walked = list(pictures(tmp_path))
    assert sorted(walked) == sorted(names)
    for number, name in enumerate(walked):
        assert list(pictures(tmp_path, name)) == walked[number + 1 :]


def test_postgresql_takes_what_pictures_say(
    postgres_ledger: Ledger, folder: Path, tmp_path: Path
) -> None:
    text = "nul \x00 and half a pair\nSteps: 1, Sampler: x, Seed: 99999999999999999999, Size: 1x1"
    (folder / "odd.jpg").write_bytes(jpeg(text))
    (tmp_path / "home").mkdir()
    home = tmp_path / "home"
    mill = Mill(connections=Connections(home=home), ledger=postgres_ledger, store=FolderStore(home))
    assert take(mill, folder).imported == 9
    assert take(mill, folder).known == 9
    assert checked(mill) == []
    finding.catch_up(mill.ledger)
    lost = rows_of(mill)[0]
    mill.store.delete([lost.object_key or ""])
    mill.store.put("renders/my-pictures/00000/000000099.png", b"left over")
    assert sorted(said.split(" ")[0] for said in checked(mill, repair=True)) == [
        "moved",
        "restored",
    ]
    assert checked(mill) == []
