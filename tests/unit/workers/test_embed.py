"""The process that turns what is asked for into vectors."""

from __future__ import annotations

import io
import json
import shutil
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
import sqlalchemy as sa
from PIL import Image

from storage.db import images, tables, vectors
from storage.db.search_index import Indexer
from storage.db.vectors import Of, Status
from storage.home import CATALOG
from storage.opening import Mill, open_mill
from storage.settings import Connections
from storage.testing.factories import add_groups, add_worker, cut_task, make_image_row
from tests.models.embedding import save_clip
from workers import embed


def test_a_text_is_answered_with_its_vector(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    asked = {"kind": Of.PROMPT, "model": "wordllama", "text": "a fox"}
    monkeypatch.setattr("sys.stdin", io.StringIO(json.dumps(asked)))
    assert embed.main(["query"]) == 0
    assert len(json.loads(capsys.readouterr().out)) == 256


def test_clip_answers_pictures_and_texts(tmp_path: Path) -> None:
    save_clip(tmp_path)
    file = tmp_path / "red.png"
    Image.new("RGB", (64, 64), "red").save(file)
    asked = {"kind": Of.PICTURE, "model": str(tmp_path)}
    shown = embed.answer(asked | {"picture": str(file)})
    told = embed.answer(asked | {"text": "a red fox"})
    assert len(shown) == len(told) == 8
    assert shown != told


def test_a_model_that_cannot_be_used_is_one_line_and_an_exit_code(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    asked = {"kind": Of.PROMPT, "model": str(tmp_path), "text": "a fox"}
    monkeypatch.setattr("sys.stdin", io.StringIO(json.dumps(asked)))
    assert embed.main(["query"]) == 1
    said = capsys.readouterr().err
    assert said.count("\n") == 1
    assert str(tmp_path) in said


def filled(home: Path, prompts: int) -> Mill:
    mill = open_mill(Connections(home=home), create=True)
    add_groups(mill.ledger, (prompts, 1))
    task = cut_task(mill.ledger, add_worker(mill.ledger), items=prompts)
    assert task is not None
    rows = [make_image_row(task, item, prompt=f"fox {item} " * 40) for item in range(prompts)]
    with mill.ledger.write() as connection:
        images.insert(connection, rows)
        vectors.enable(connection, Of.PROMPT, "wordllama", now=1.0)
    Indexer(mill.ledger).catch_up(60)
    return mill


def status(mill: Mill) -> Status:
    with mill.ledger.read() as connection:
        embedder = vectors.find(connection, Of.PROMPT)
        assert embedder is not None
        return vectors.status(connection, embedder, now=mill.ledger.now())


def test_killed_in_the_middle_it_goes_on_where_it_was(
    tmp_path: Path, migrated_catalog: Path
) -> None:
    shutil.copy(migrated_catalog, tmp_path / CATALOG)
    with filled(tmp_path, 4_000) as mill:
        command = [sys.executable, "-m", "workers.embed", "build", "--home", str(tmp_path)]
        process = subprocess.Popen(command, stdin=subprocess.PIPE)
        try:
            until = time.monotonic() + 60
            while not 0 < status(mill).done < 4_000:
                assert process.poll() is None
                assert time.monotonic() < until
        finally:
            process.kill()
            process.communicate()
        done = status(mill).done
        assert 0 < done < 4_000

        with mill.ledger.write() as connection:  # its lease lapses
            held = tables.vectors.c.lease.is_not(None)
            connection.execute(sa.update(tables.vectors).where(held).values(lease_expires_at=0.0))
        embed.build(tmp_path, threading.Event())
        told = status(mill)
        assert (told.done, told.due, told.faults) == (4_000, 0, 0)


def test_it_ends_when_nobody_waits_any_more(tmp_path: Path, migrated_catalog: Path) -> None:
    shutil.copy(migrated_catalog, tmp_path / CATALOG)
    left = threading.Event()
    left.set()
    with filled(tmp_path, 10) as mill:
        embed.build(tmp_path, left)
        assert status(mill).done == 0
