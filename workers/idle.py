"""What a worker does when there is nothing to render: vectors of prompts and pictures.

It is claimed like everything else, a batch at a time, and a batch takes seconds: a job that
comes meanwhile waits no longer than that. A worker that dies loses its batch to the next one.
"""

from __future__ import annotations

import secrets
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

import structlog

from storage import pictures
from storage.contract.errors import (
    LeaseLost,
    ModelUnusable,
    ObjectMissing,
    SettingError,
)
from storage.db import search_notes, vectors
from storage.db.engine import Ledger
from storage.db.search_index import Indexer
from storage.db.vectors import Batch, Embedder, Of
from storage.ports import ObjectStore
from workers.engine import embedding

if TYPE_CHECKING:
    from PIL import Image

MODEL: Final = "RENDERMILL_EMBEDDING_MODEL"
LOOK_SECONDS: Final = 5.0
"""Between two looks when there was nothing to do."""

REST_SECONDS: Final = 300.0
"""Before a model that could not be used is tried again."""

AT_ONCE: Final = {Of.PROMPT: 256, Of.PICTURE: 16}

log = structlog.get_logger()


@dataclass(kw_only=True)
class Embedding:
    """Computes vectors for whoever asks it to, batch by batch; keeps its models loaded."""

    ledger: Ledger
    store: ObjectStore
    indexes: bool = False  #: makes new images searchable first, where no scheduler is at it
    _models: dict[tuple[str, str], Any] = field(default_factory=dict)
    _not_before: float = 0.0

    def step(self) -> bool:
        """Do a batch of what is due; whether there was any. Faults of a model are only logged."""
        if time.monotonic() < self._not_before:
            return False
        try:
            if self.batch():
                return True
            self._not_before = time.monotonic() + LOOK_SECONDS
        except (ModelUnusable, SettingError) as error:
            log.warning(error.message, action="embedding_failed", hint=error.hint)
            self._not_before = time.monotonic() + REST_SECONDS
        return False

    def batch(self) -> bool:
        """Note what is new, or compute a batch; False: nothing is due, or nothing is enabled."""
        with self.ledger.read() as connection:
            kinds = vectors.enabled(connection)
            behind = self.indexes and bool(kinds) and search_notes.waiting(connection)
        if behind and Indexer(self.ledger).catch_up(1.0):
            return True
        return any(self._noted(one) or self._computed(one) for one in kinds)

    def _noted(self, one: Embedder) -> bool:
        with self.ledger.write() as connection:
            return vectors.note(connection, one.kind) > 0

    def _computed(self, one: Embedder) -> bool:
        lease, now = secrets.randbits(62), self.ledger.now()
        model = self._model(one.kind, one.model)  # not under a lease: it may have to be fetched
        with self.ledger.write() as connection:
            most = AT_ONCE[Of(one.kind)]
            claimed = vectors.claim(connection, one.kind, lease=lease, most=most, now=now)
        if claimed is None:
            return False
        if claimed.model != one.model:  # changed meanwhile
            self._hand_back(claimed)
            return True
        try:
            self._carry_out(claimed, model)
        except LeaseLost as error:
            log.info(error.message, action="lease_lost", kind=one.kind)
        except BaseException:
            self._hand_back(claimed)
            raise
        return True

    def _carry_out(self, claimed: Batch, model: Any) -> None:
        faults: dict[int, str] = {}
        if claimed.kind == Of.PROMPT:
            inputs = {work.key: work.image.prompt for work in claimed.works}
            made = _computed(model.texts, inputs, faults)
        else:
            made = _computed(model.pictures, self._opened(claimed, faults), faults)
        with self.ledger.write() as connection:
            vectors.commit(connection, claimed, made, faults)

    def _opened(self, claimed: Batch, faults: dict[int, str]) -> dict[int, Image.Image]:
        opened: dict[int, Image.Image] = {}
        for work in claimed.works:
            try:
                opened[work.key] = pictures.as_image(self.store.get(work.image.object_key or ""))
            except (ObjectMissing, pictures.PictureError) as error:
                faults[work.key] = str(error)
        return opened

    def _model(self, kind: str, model: str) -> Any:
        if (kind, model) not in self._models:
            self._models.clear()
            is_prompt = kind == Of.PROMPT
            load = embedding.open_text_embedder if is_prompt else embedding.open_picture_embedder
            self._models[kind, model] = load(model)
        return self._models[kind, model]

    def _hand_back(self, claimed: Batch) -> None:
        with self.ledger.write() as connection:
            vectors.hand_back(connection, claimed)


def enable_by_environment(ledger: Ledger, model: str | None) -> None:
    """Have vectors of prompts made by that model, unless another one was chosen by command."""
    if not model:
        return
    with ledger.read() as connection:
        chosen = vectors.find(connection, Of.PROMPT)
    if chosen is None:
        with ledger.write() as connection:
            vectors.enable(connection, Of.PROMPT, model, now=ledger.now())


def _computed(
    model: Callable[[list[Any]], Any], inputs: Mapping[int, Any], faults: dict[int, str]
) -> dict[int, bytes]:
    """Vectors by key, as they are kept; of what a model cannot take, the others all the same."""
    if not inputs:
        return {}
    try:
        return _encoded(list(inputs), model(list(inputs.values())))
    except Exception as error:  # a bad input must not end the worker, nor spoil its neighbours
        if len(inputs) == 1:
            faults[next(iter(inputs))] = f"{type(error).__name__}: {error}"
            return {}
    made: dict[int, bytes] = {}
    for key, one in inputs.items():
        made |= _computed(model, {key: one}, faults)
    return made


def _encoded(keys: list[int], found: Any) -> dict[int, bytes]:
    """Vectors as float16, the lower byte first."""
    rows = found.astype("<f2")
    return {key: row.tobytes() for key, row in zip(keys, rows, strict=True)}
