"""Loaded by every Python process of a farm under measurement: its folder is on PYTHONPATH.

The product knows nothing of it: functions are replaced when their modules are imported, as
these variables say.

BENCH_NULL=1      no pixels are drawn or encoded, and the object store drops pictures
BENCH_SLEEP=0.25  the same, but an image takes that long
BENCH_BATCH=4     size of the batches of jobs that are submitted
BENCH_CHUNK=64    most items of a task
BENCH_LOSSY=PATH  while there is such a file, the next tickets are lost, and it is removed
"""

from __future__ import annotations

import importlib.abc
import importlib.machinery
import os
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from types import ModuleType
from typing import Any

PICTURES = ("renders/", "thumbnails/")
FILE = b"a picture"


class NullRenderer:
    """Every picture is the same one, and costs nothing but the time it is told to take."""

    def __init__(self, seconds: float) -> None:
        import numpy as np

        self._seconds = seconds
        self._pixels = np.zeros((8, 8, 3), np.uint8)
        self.loaded_model: str | None = None

    def render(self, spec: Any, _mode: Any, batches: Sequence[Any], watch: Any) -> Iterator[Any]:
        """One batch after the other."""
        from workers.engine.ports import Facts, Picture

        self.loaded_model = spec.model
        facts = Facts(dtype="float32", device="null", weights="null", versions={"null": "1"})
        for number, batch in enumerate(batches, 1):
            watch.tell("denoise", number, spec.num_inference_steps)
            if self._seconds:
                time.sleep(self._seconds * batch.size)
            pictures = [Picture(item=item, pixels=self._pixels) for _, item in batch.wanted]
            yield facts, pictures
            if watch.stop_after_batch():
                return


class NullStore:
    """Drops pictures and keeps all else, which is what the scheduler wrote for the workers."""

    def __init__(self, inner: Any) -> None:
        self._inner = inner

    def put(self, key: str, data: bytes, *, durable: bool = True, overwrite: bool = True) -> None:
        """Drop a picture."""
        if not key.startswith(PICTURES):
            self._inner.put(key, data, durable=durable, overwrite=overwrite)

    def delete(self, keys: Iterable[str]) -> None:
        """Remove what was not dropped."""
        self._inner.delete(key for key in keys if not key.startswith(PICTURES))

    def __getattr__(self, name: str) -> Any:
        return getattr(self._inner, name)


def _wiring(module: Any) -> None:
    seconds = float(os.environ.get("BENCH_SLEEP", "0"))
    module._make_renderer = lambda _settings, _capability: NullRenderer(seconds)


def _opening(module: Any) -> None:
    inner = module.open_store
    module.open_store = lambda *given, **more: NullStore(inner(*given, **more))


def _encode(module: Any) -> None:
    module.encode_picture = lambda *_given: FILE
    module.encode_thumbnail = lambda _pixels: FILE


def _estimate(module: Any) -> None:
    from storage.contract.items import BatchShape

    size = int(os.environ["BENCH_BATCH"])
    module.batch_shape = lambda *_given, **_more: BatchShape(encode=8, denoise=size, decode=size)


def _chunks(module: Any) -> None:
    module.MAX_TASK_ITEMS = int(os.environ["BENCH_CHUNK"])


def _tickets(module: Any) -> None:
    lossy, inner = Path(os.environ["BENCH_LOSSY"]), module.Tickets.publish

    def publish(self: Any, counts: Mapping[str, int]) -> int:
        if not lossy.exists():
            return int(inner(self, counts))
        lossy.unlink()
        return sum(counts.values())

    module.Tickets.publish = publish


REPLACED: dict[str, tuple[str, Callable[[Any], None]]] = {
    "workers.wiring": ("BENCH_NULL", _wiring),
    "storage.opening": ("BENCH_NULL", _opening),
    "workers.output.encode": ("BENCH_NULL", _encode),
    "scheduler.estimate": ("BENCH_BATCH", _estimate),
    "scheduler.policy.chunks": ("BENCH_CHUNK", _chunks),
    "storage.broker.tickets": ("BENCH_LOSSY", _tickets),
}


class _Finder(importlib.abc.MetaPathFinder):
    """Finds the modules above as others do, and changes them once they are loaded."""

    def find_spec(
        self, name: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> importlib.machinery.ModuleSpec | None:
        variable, change = REPLACED.get(name, ("", None))
        if change is None or variable not in os.environ:
            return None
        for finder in sys.meta_path:
            spec = None if finder is self else finder.find_spec(name, path, target)
            if spec is not None and spec.loader is not None:
                _change_after(spec.loader, change)
                return spec
        return None


def _change_after(loader: Any, change: Callable[[Any], None]) -> None:
    execute = loader.exec_module

    def exec_module(module: ModuleType) -> None:
        execute(module)
        change(module)

    loader.exec_module = exec_module


sys.meta_path.insert(0, _Finder())
