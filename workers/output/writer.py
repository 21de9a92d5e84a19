"""Encoding, storing and recording a task's pictures while the next batch is rendered.

Pictures go through two stages beside the renderer: a small pool encodes and stores them, and
one thread records them in SQL, whole denoising batches at a time, about once a second. An
object is always stored before its row is written. The queue is bounded, so a slow disk holds
the renderer back instead of filling memory.

A worker that was stopped past its lease and wakes must not damage what the next holder stored
under the same key. So a picture is put where there is none; where there is one, it is replaced
only after the lease was confirmed in SQL.
"""

from __future__ import annotations

import hashlib
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import Final

import msgspec

from storage.contract.claims import ClaimedTask
from storage.contract.errors import LedgerError, ObjectExists, RendermillError
from storage.contract.items import Item
from storage.contract.keys import image_key, thumbnail_key
from storage.contract.outcomes import Outcome, Reason
from storage.db.images import ImageRow
from storage.ports import ObjectStore
from workers.engine.ports import Facts, Picture
from workers.output.metadata import canonical_json, key_of, parameters_text, rendering_of
from workers.output.png import encode_png, encode_thumbnail

COMMIT_SECONDS: Final = 1.0
WAITING_BATCHES: Final = 2
WAITING_BYTES: Final = 4 * 2**20
"""Batches of pixels that may wait to be finished: two, or more of small pictures. To pass each
small batch on by itself costs more than its rows."""

STORE_THREADS: Final = 2

Commit = Callable[[Sequence[ImageRow]], None]

_Finished = tuple[list[ImageRow], Exception | None]
"""What became rows, and what kept the rest from it."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Destination:
    """Where pictures of a task go."""

    store: ObjectStore
    task: ClaimedTask
    worker_id: int
    now: Callable[[], float]
    confirm: Callable[[], None]  #: raises `LeaseLost` if others have the task by now


@dataclass(frozen=True, slots=True)
class _Waiting:
    """A batch under way: what becomes of its pictures, and how much memory those take."""

    futures: list[Future[_Finished]]
    bytes: int


class Writer:
    """Takes batches of pictures; `close` returns when all are recorded.

    An error of encoding, storing or recording is raised by the next call, once.
    """

    def __init__(self, destination: Destination, commit: Commit) -> None:
        """`commit` records rows in one transaction; it runs in the recording thread."""
        self._to = destination
        self._commit = commit
        self._pool = ThreadPoolExecutor(STORE_THREADS, thread_name_prefix="store")
        self._waiting: deque[_Waiting | None] = deque()
        self._bytes = 0  #: of pixels that wait
        self._changed = threading.Condition()
        self._error: BaseException | None = None
        self._recorder = threading.Thread(target=self._record, name="record", daemon=True)
        self._recorder.start()

    def put(
        self, items: Sequence[Item], pictures: Sequence[Picture], facts: Facts, seconds: float
    ) -> None:
        """Take one batch; `seconds` is the rendering time of each picture."""
        with self._changed:
            self._changed.wait_for(lambda: self._has_room() or self._error)
        self._raise()
        pairs = list(zip(items, pictures, strict=True))
        share = -(-len(pairs) // STORE_THREADS)
        futures = [
            self._pool.submit(self._finish_all, pairs[start : start + share], facts, seconds)
            for start in range(0, len(pairs), share)
        ]
        size = sum(picture.pixels.nbytes for picture in pictures if picture.pixels is not None)
        with self._changed:
            self._waiting.append(_Waiting(futures, size))
            self._bytes += size
            self._changed.notify_all()

    def _has_room(self) -> bool:
        return len(self._waiting) < WAITING_BATCHES or self._bytes < WAITING_BYTES

    def close(self) -> None:
        """Wait until everything put in is recorded."""
        self._end()
        self._raise()

    def abandon(self) -> None:
        """Stop early: what is under way is finished, errors are dropped."""
        self._end()

    def _end(self) -> None:
        with self._changed:
            self._waiting.append(None)
            self._changed.notify_all()
        self._recorder.join()
        self._pool.shutdown(cancel_futures=True)

    def _raise(self) -> None:
        if self._error is not None:
            raise self._error

    def _record(self) -> None:
        """Commit whole batches, the waiting ones together."""
        rows: list[ImageRow] = []
        due = 0.0
        try:
            while (batch := self._next(due if rows else None)) is not None:
                if not rows:
                    due = time.monotonic() + COMMIT_SECONDS
                for future in batch.futures:
                    finished, error = future.result()
                    rows += finished
                    if error is not None:
                        raise error
                if rows and time.monotonic() >= due:
                    self._commit(rows)
                    rows = []
        except BaseException as error:  # raised again by the next call
            self._fail(error)
        try:
            if rows and not isinstance(self._error, LedgerError):
                self._commit(rows)  # what is stored is kept, also when a neighbour failed
        except BaseException as error:
            self._fail(error)

    def _fail(self, error: BaseException) -> None:
        with self._changed:
            self._error = self._error or error
            self._changed.notify_all()

    def _next(self, due: float | None) -> _Waiting | None:
        """The next batch, None at the end; an empty one when rows are `due` to be committed."""
        with self._changed:
            timeout = None if due is None else max(0.0, due - time.monotonic())
            if not self._changed.wait_for(lambda: self._waiting, timeout):
                return _Waiting([], 0)
            batch = self._waiting.popleft()
            if batch is not None:
                self._bytes -= batch.bytes
            self._changed.notify_all()
            return batch

    def _finish_all(
        self, pairs: Sequence[tuple[Item, Picture]], facts: Facts, seconds: float
    ) -> _Finished:
        """One thread's share of a batch: a job per picture would cost more than its row."""
        rows: list[ImageRow] = []
        try:
            for item, picture in pairs:
                rows.append(self._finish(item, picture, facts, seconds))
        except Exception as error:
            return rows, error
        return rows, None

    def _finish(self, item: Item, picture: Picture, facts: Facts, seconds: float) -> ImageRow:
        if picture.pixels is None:
            return failed_row(self._to, item, picture)
        try:
            return self._store(item, picture, facts, seconds)
        except RendermillError:
            raise  # the store's or the ledger's fault, not the item's
        except Exception as error:
            detail = f"cannot be encoded: {type(error).__name__}: {error}"
            fault = Picture(item=picture.item, fault=Reason.ERROR, detail=detail)
            return failed_row(self._to, item, fault)

    def _store(self, item: Item, picture: Picture, facts: Facts, seconds: float) -> ImageRow:
        task = self._to.task
        rendering = rendering_of(task, facts, picture)
        key = key_of(item, task.spec, rendering)
        png = encode_png(
            picture.pixels,
            parameters=parameters_text(item, task.spec, rendering),
            record=canonical_json(item, picture.item, task, rendering, key=key),
        )
        object_key = image_key(task.job_name, picture.item)
        small_key = thumbnail_key(task.job_name, picture.item)
        self._keep(object_key, png)
        # A thumbnail can be made again from its picture, so it need not outlive a power cut.
        self._to.store.put(small_key, encode_thumbnail(picture.pixels), durable=False)
        return msgspec.structs.replace(
            _row(self._to, item, picture),
            object_key=object_key,
            thumbnail_key=small_key,
            bytes=len(png),
            sha256=hashlib.sha256(png).hexdigest(),
            render_key=key,
            rendering=msgspec.json.encode(rendering).decode(),
            seconds=seconds,
        )

    def _keep(self, key: str, png: bytes) -> None:
        """Store a picture; another one under its key is from an earlier attempt, or from us."""
        try:
            self._to.store.put(key, png, overwrite=False)
        except ObjectExists:
            self._to.confirm()
            self._to.store.put(key, png)


def failed_row(to: Destination, item: Item, picture: Picture) -> ImageRow:
    """The row of an item that ends without a picture."""
    return msgspec.structs.replace(
        _row(to, item, picture),
        outcome=Outcome.FAILED,
        reason=picture.fault,
        detail=picture.detail,
    )


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
    )
