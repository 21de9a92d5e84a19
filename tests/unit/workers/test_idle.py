"""Idle workers compute vectors, and lose none when they are stopped in the middle."""

from __future__ import annotations

import io
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from storage.contract.errors import ModelUnusable
from storage.db import images, jobs, vectors
from storage.db.engine import Ledger
from storage.db.search_index import Indexer
from storage.db.vectors import Of, Status
from storage.objects.memory import MemoryStore
from storage.testing.factories import (
    add_groups,
    add_job,
    cut_task,
    make_capability,
    make_image_row,
)
from tests.models.embedding import save_clip
from workers.claiming import Claimer
from workers.engine import embedding
from workers.execute import Tools
from workers.idle import Embedding, enable_by_environment
from workers.loop import work
from workers.stopping import Stop

ITEMS = 6


class Lengths:
    """Embeds a text by its length, and its first letter."""

    def __init__(self) -> None:
        self.calls: list[list[str]] = []
        self.fail: Callable[[str], BaseException | None] = lambda text: None

    def texts(self, texts: Sequence[str]) -> Any:
        self.calls.append(list(texts))
        for text in texts:
            error = self.fail(text)
            if error is not None:
                raise error
        return np.array([[len(text), ord(text[0])] for text in texts], dtype=np.float32)


@pytest.fixture
def model(monkeypatch: pytest.MonkeyPatch) -> Lengths:
    made = Lengths()
    monkeypatch.setattr(embedding, "open_text_embedder", lambda _name: made)
    return made


@pytest.fixture
def catalog(ledger: Ledger, store: MemoryStore, worker_id: int) -> Ledger:
    """A job whose six pictures are of different colours and prompts; the last is missing."""
    add_groups(ledger, (ITEMS, 1))
    task = cut_task(ledger, worker_id, items=ITEMS)
    assert task is not None
    for item in range(ITEMS - 1):
        written = io.BytesIO()
        Image.new("RGB", (40, 40), (item * 40, 0, 0)).save(written, "PNG")
        store.put(f"renders/job/{item}.png", written.getvalue())
    with ledger.write() as connection:
        images.insert(
            connection,
            [
                make_image_row(
                    task,
                    item,
                    prompt=f"{item} prompt",
                    object_key=f"renders/job/{item}.png",
                    pixels_sha256=f"{item:064x}"[::-1],
                )
                for item in range(ITEMS)
            ],
        )
    Indexer(ledger).catch_up(60)
    return ledger


def enable(ledger: Ledger, kind: Of, model: str) -> None:
    with ledger.write() as connection:
        vectors.enable(connection, kind, model, now=1.0)


def status(ledger: Ledger, kind: Of = Of.PROMPT) -> Status:
    with ledger.read() as connection:
        found = vectors.find(connection, kind)
        assert found is not None
        return vectors.status(connection, found, now=ledger.now())


def finish(idle: Embedding) -> None:
    while idle.batch():
        pass


def test_nothing_is_computed_unless_it_is_enabled(
    catalog: Ledger, store: MemoryStore, model: Lengths
) -> None:
    idle = Embedding(ledger=catalog, store=store)
    assert not idle.step()
    assert model.calls == []
    enable_by_environment(catalog, None)
    assert not Embedding(ledger=catalog, store=store).step()


def test_the_environment_enables_what_no_command_chose(catalog: Ledger) -> None:
    enable_by_environment(catalog, "first")
    enable_by_environment(catalog, "second")
    assert status(catalog).model == "first"


def test_a_worker_computes_vectors_when_there_is_nothing_to_claim(
    catalog: Ledger, store: MemoryStore, tools: Tools, stop: Stop, model: Lengths
) -> None:
    enable(catalog, Of.PROMPT, "lengths")
    claimer = Claimer(catalog, tools.worker_id, make_capability(), job_id=None)
    work(tools, claimer, stop, leave=lambda: True, idle=Embedding(ledger=catalog, store=store))
    assert (status(catalog).done, status(catalog).due) == (ITEMS, 0)


def test_rendering_goes_first(
    catalog: Ledger, store: MemoryStore, tools: Tools, stop: Stop, model: Lengths
) -> None:
    enable(catalog, Of.PROMPT, "lengths")
    job = add_job(catalog, store, name="later")
    claimer = Claimer(catalog, tools.worker_id, make_capability(), job_id=job.id)
    asked: list[int] = []

    class Watched(Embedding):
        def step(self) -> bool:
            with self.ledger.read() as connection:
                asked.append(jobs.get(connection, job.id).done)
            return super().step()

    work(tools, claimer, stop, leave=lambda: True, idle=Watched(ledger=catalog, store=store))
    assert asked[0] == job.item_count


def test_one_bad_prompt_is_given_up_and_its_neighbours_are_not(
    catalog: Ledger, store: MemoryStore, model: Lengths
) -> None:
    enable(catalog, Of.PROMPT, "lengths")
    model.fail = lambda text: RuntimeError("no") if text.startswith("3") else None
    idle = Embedding(ledger=catalog, store=store)
    finish(idle)
    told = status(catalog)
    assert (told.done, told.due, told.faults) == (ITEMS - 1, 0, 1)


def test_a_worker_that_is_interrupted_hands_its_batch_back(
    catalog: Ledger, store: MemoryStore, model: Lengths
) -> None:
    enable(catalog, Of.PROMPT, "lengths")
    model.fail = lambda text: KeyboardInterrupt()
    idle = Embedding(ledger=catalog, store=store)
    with pytest.raises(KeyboardInterrupt):
        finish(idle)
    assert (status(catalog).leased, status(catalog).due) == (0, ITEMS)
    model.fail = lambda text: None
    finish(idle)
    assert status(catalog).done == ITEMS


def test_a_model_that_cannot_be_used_does_not_end_the_worker(
    catalog: Ledger, store: MemoryStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    tries: list[str] = []

    def refuse(name: str) -> None:
        tries.append(name)
        raise ModelUnusable("it is damaged")

    monkeypatch.setattr(embedding, "open_text_embedder", refuse)
    enable(catalog, Of.PROMPT, "broken")
    idle = Embedding(ledger=catalog, store=store)
    while idle.step():
        pass
    assert not idle.step()
    assert tries == ["broken"]
    assert status(catalog).leased == 0


def test_pictures_are_read_from_the_store_and_missing_ones_said(
    catalog: Ledger, store: MemoryStore, tmp_path: Path
) -> None:
    save_clip(tmp_path)
    enable(catalog, Of.PICTURE, str(tmp_path))
    idle = Embedding(ledger=catalog, store=store)
    finish(idle)
    told = status(catalog, Of.PICTURE)
    assert (told.done, told.faults, told.dims) == (ITEMS - 1, 1, 8)
