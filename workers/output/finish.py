"""One picture on its way from the renderer to its row: marked, encoded, signed and stored.

A worker that was stopped past its lease and wakes must not damage what the next holder stored
under the same key. So a picture is put where there is none; where there is one, it is replaced
only after the lease was confirmed in SQL.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

import msgspec
from PIL import Image, ImageFilter

from storage.contract.claims import ClaimedTask
from storage.contract.errors import ObjectExists, RendermillError
from storage.contract.items import Item
from storage.contract.keys import image_key, thumbnail_key
from storage.contract.lineage import Lineage, lineage_of, share_of
from storage.contract.outcomes import Outcome, Reason
from storage.contract.output import Produced, SafetyRule, Watermark
from storage.db.images import ImageRow
from storage.ports import ObjectStore
from workers.engine.ports import Facts, Picture, Pixels
from workers.engine.safety import Inspector
from workers.output import watermark
from workers.output.encode import decode_picture, encode_picture, encode_thumbnail
from workers.output.hashes import perceptual_hash, pixels_sha256
from workers.output.metadata import (
    key_of,
    rendering_of,
    reuse_key_of,
    source_of,
    texts_of,
)
from workers.output.signing import FileSigner, needed

BLUR_SHARE: Final = 1 / 16
"""Radius of the blur over flagged pictures, of their shorter side: shapes and colours remain."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Destination:
    """Where pictures of a task go."""

    store: ObjectStore
    task: ClaimedTask
    worker_id: int
    now: Callable[[], float]
    confirm: Callable[[], None]  #: raises `LeaseLost` if others have the task by now
    inspector: Inspector | None = None  #: the worker's, for jobs with a safety checker
    signer: FileSigner | None = None  #: the worker's, if it has a certificate


class Finisher:
    """Finishes the pictures of one task; used by several threads."""

    def __init__(self, destination: Destination) -> None:
        """Raises `OutputUnusable` if this worker cannot make the files the job asks for."""
        self._to = destination
        self._options = destination.task.output
        self._message = watermark.message_of(self._options, destination.task.spec)
        self._signer = needed(destination.signer) if self._options.c2pa else None

    def finish(self, item: Item, picture: Picture, facts: Facts, seconds: float) -> ImageRow:
        """The row of one item; its picture is stored when this returns.

        Raises what is the store's or the ledger's fault. What is the picture's own becomes the
        row of a failed item.
        """
        if picture.pixels is None:
            return failed_row(self._to, item, picture)
        try:
            return self._store(item, picture, facts, seconds)
        except RendermillError:
            raise
        except Exception as error:
            detail = f"cannot be encoded: {type(error).__name__}: {error}"
            fault = Picture(item=picture.item, fault=Reason.ERROR, detail=detail)
            return failed_row(self._to, item, fault)

    def _store(self, item: Item, picture: Picture, facts: Facts, seconds: float) -> ImageRow:
        task = self._to.task
        rendering = rendering_of(task, facts, picture)
        key = key_of(item, task.spec, rendering)
        rendered = pixels_sha256(picture.pixels)
        texts = texts_of(item, picture.item, task, rendering, key=key, pixels=rendered)
        pixels, blurred = self._veiled(picture)
        shown = self._marked(pixels)
        file = encode_picture(shown, self._options, texts)
        found = self._verified(shown, file)
        if self._signer is not None:
            file = self._signer.sign(file, self._options.format, source_of(task.spec))
        object_key = image_key(task.job_name, picture.item, self._options.format.extension)
        self._keep(object_key, file)
        return msgspec.structs.replace(
            _row(self._to, item, picture),
            object_key=object_key,
            thumbnail_key=self._keep_thumbnail(picture.item, pixels),
            bytes=len(file),
            sha256=hashlib.sha256(file).hexdigest(),
            render_key=key,
            rendering=msgspec.json.encode(rendering).decode(),
            seconds=seconds,
            phash=perceptual_hash(pixels),
            pixels_sha256=rendered,
            reuse_key=reuse_key_of(item, task, facts, picture),
            lineage=self._lineage(item, facts),
            produced=_said(
                Produced(
                    format=self._options.format,
                    safety=picture.safety,
                    blurred=blurred,
                    watermark=found,
                    signed=self._signer is not None,
                )
            ),
        )

    def _lineage(self, item: Item, facts: Facts) -> str | None:
        rendered = Lineage(
            attempts=1 + len(self._to.task.failures),
            phase_seconds=share_of(facts.phase_seconds, facts.image_seconds),
            licence=facts.licence,
        )
        return lineage_of(item, rendered).encode()

    def _veiled(self, picture: Picture) -> tuple[Pixels, bool]:
        """The pixels to be kept, and whether they were blurred."""
        flagged = picture.safety is not None and picture.safety.flagged
        if not flagged or self._options.safety is not SafetyRule.BLUR:
            return picture.pixels, False
        return _blurred(picture.pixels), True

    def _marked(self, pixels: Pixels) -> Pixels:
        if self._message is None or not watermark.is_large_enough(pixels):
            return pixels
        return watermark.marked(pixels, self._message)

    def _verified(self, pixels: Pixels, file: bytes) -> Watermark | None:
        """What the finished file still says; None if no watermark was asked for."""
        if self._message is None:
            return None
        if not watermark.is_large_enough(pixels):
            return watermark.too_small()
        return watermark.verify(decode_picture(file), self._message)

    def _keep(self, key: str, file: bytes) -> None:
        """Store a picture; another one under its key is from an earlier attempt, or from us."""
        try:
            self._to.store.put(key, file, overwrite=False)
        except ObjectExists:
            self._to.confirm()
            self._to.store.put(key, file)

    def _keep_thumbnail(self, item: int, pixels: Pixels) -> str | None:
        """Its key, if the job wants thumbnails."""
        if not self._options.thumbnails:
            return None
        key = thumbnail_key(self._to.task.job_name, item)
        # A thumbnail can be made again from its picture, so it need not outlive a power cut.
        self._to.store.put(key, encode_thumbnail(pixels), durable=False)
        return key


def failed_row(to: Destination, item: Item, picture: Picture) -> ImageRow:
    """The row of an item that ends without a picture."""
    return msgspec.structs.replace(
        _row(to, item, picture),
        outcome=Outcome.FAILED,
        reason=picture.fault,
        detail=picture.detail,
        produced=_said(Produced(safety=picture.safety)),
    )


def _blurred(pixels: Pixels) -> Pixels:
    import numpy as np

    radius = min(pixels.shape[:2]) * BLUR_SHARE
    return np.asarray(Image.fromarray(pixels).filter(ImageFilter.GaussianBlur(radius)))


def _said(produced: Produced) -> str | None:
    """As JSON; nothing where there is nothing to say, as of most pictures."""
    if produced == _AS_MOST:
        return None
    return msgspec.json.encode(produced).decode()


_AS_MOST: Final = Produced()


def _row(to: Destination, item: Item, picture: Picture) -> ImageRow:
    task, spec = to.task, to.task.spec
    return ImageRow(
        job_id=task.job_id,
        item=picture.item,
        group_id=task.group_id,
        task_id=task.task_id,
        worker_id=to.worker_id,
        outcome=Outcome.RENDERED,
        reason=None,
        detail=None,
        row=item.row,
        line=item.line,
        image_no=item.image_no,
        prompt=item.prompt,
        negative_prompt=item.negative_prompt,
        seed=item.seed,
        model=spec.model,
        revision=spec.revision,
        width=spec.width,
        height=spec.height,
        num_inference_steps=spec.num_inference_steps,
        guidance_scale=spec.guidance_scale,
        scheduler=spec.scheduler,
        tags=msgspec.json.encode(item.tags).decode(),
        object_key=None,
        thumbnail_key=None,
        bytes=None,
        sha256=None,
        render_key=None,
        rendering=None,
        truncated_tokens=picture.truncated_tokens,
        seconds=None,
        created_at=to.now(),
        flagged=None if picture.safety is None else int(picture.safety.flagged),
    )
