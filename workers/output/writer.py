"""Encoding, storing and recording a task's pictures while the next batch is rendered.

Pictures go through two stages beside the renderer: a small pool encodes and stores them, and
one thread records them in SQL, whole denoising batches at a time, about once a second. An
object is always stored before its row is written. The queue is bounded, so a slow disk holds
the renderer back instead of filling memory.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import Final

from storage.contract.errors import LedgerError
from storage.contract.items import Item
from storage.db.images import ImageRow
from workers.engine.ports import Facts, Picture
from workers.engine.safety import inspection
from workers.output.finish import Destination, Finisher

COMMIT_SECONDS: Final = 1.0
WAITING_BATCHES: Final = 2
WAITING_BYTES: Final = 4 * 2**20
"""Batches of pixels that may wait to be finished: two, or more of small pictures. To pass each
small batch on by itself costs more than its rows."""

STORE_THREADS: Final = 2

Commit = Callable[[Sequence[ImageRow]], None]

_Finished = tuple[list[ImageRow], Exception | None]
"""What became rows, and what kept the rest from it."""


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
        """`commit` records rows in one transaction; it runs in the recording thread.

        Raises `OutputUnusable` if this worker cannot make the files the job asks for.
        """
        self._finisher = Finisher(destination)
        self._inspect = inspection(destination.inspector, destination.task)
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
        """Take one batch; `seconds` is the rendering time of each picture.

        The safety checker runs here, in the caller's thread: the device is the renderer's.
        """
        pictures = self._inspect(pictures)
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
                rows.append(self._finisher.finish(item, picture, facts, seconds))
        except Exception as error:
            return rows, error
        return rows, None
