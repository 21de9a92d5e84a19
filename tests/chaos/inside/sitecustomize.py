"""Loaded by every Python process of a farm under chaos: its folder is on their PYTHONPATH.

It lets a test hold a process at a named point. To arm a point is to make a file
``armed/POINT`` in the folder CHAOS_POINTS; the first process that gets there renames it to
``held/POINT.PID`` and waits until that file is gone. The product itself knows nothing of this:
its functions are wrapped when their modules are imported.
"""

from __future__ import annotations

import functools
import importlib.abc
import importlib.machinery
import os
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from types import ModuleType
from typing import Any

HOLD_SECONDS = 60.0
"""A test that forgot a process must not hold it for ever."""

_folder = Path(os.environ["CHAOS_POINTS"])


def reach(point: str) -> None:
    """Wait here if the point is armed."""
    held = _folder / "held" / f"{point}.{os.getpid()}"
    try:
        (_folder / "armed" / point).rename(held)
    except FileNotFoundError:
        return
    deadline = time.monotonic() + HOLD_SECONDS
    while held.exists() and time.monotonic() < deadline:
        time.sleep(0.005)


def _around(
    owner: Any, name: str, step: str, *, where: Callable[..., bool] = lambda *_: True
) -> None:
    """Put points before and after a function; `where` tells the calls that count."""
    inner = getattr(owner, name)

    @functools.wraps(inner)
    def outer(*args: Any, **more: Any) -> Any:
        counts = where(*args)
        if counts:
            reach(f"before-{step}")
        answer = inner(*args, **more)
        if counts and answer != ():  # a claim that got nothing is none
            reach(f"after-{step}")
        return answer

    setattr(owner, name, outer)


def _within(owner: Any, name: str, step: str) -> None:
    """A point at the end of a function that runs inside a transaction, which is not committed."""
    inner = getattr(owner, name)

    @functools.wraps(inner)
    def outer(*args: Any, **more: Any) -> Any:
        answer = inner(*args, **more)
        if answer is not None:
            reach(f"within-{step}")
        return answer

    setattr(owner, name, outer)


def _tickets(module: ModuleType) -> None:
    _around(module.Tickets, "publish", "publish")
    inner = module.Tickets.publish

    def publish(self: Any, counts: dict[str, int]) -> int:
        """A broker that takes tickets and loses them all, while ``lossy`` lies in the folder."""
        if not (_folder / "lossy").exists():
            return int(inner(self, counts))
        (_folder / "lost").touch()
        return sum(counts.values())

    module.Tickets.publish = publish


def _policy(module: ModuleType) -> None:
    if seconds := os.environ.get("CHAOS_LEASE_SECONDS"):
        module.lease_seconds = lambda _batch: float(seconds)  # type: ignore[attr-defined]


def _rescue(module: ModuleType) -> None:
    if seconds := os.environ.get("CHAOS_SILENT_SECONDS"):
        module.SILENT_SECONDS = float(seconds)  # type: ignore[attr-defined]


def _is_picture(_store: object, key: str, *_more: object) -> bool:
    return key.startswith("renders/")


WRAPPED: dict[str, Callable[[Any], None]] = {
    "workers.claiming": lambda m: _around(m.Claimer, "claim", "claim"),
    "storage.db.cutting": lambda m: _within(m, "cut", "claim"),
    "storage.objects.s3": lambda m: _around(m.S3Store, "put", "put", where=_is_picture),
    "workers.execute": lambda m: _around(m, "_commit", "commit"),
    "storage.db.tasks": lambda m: _within(m, "commit", "commit"),
    "kombu.message": lambda m: _around(m.Message, "ack", "ack"),
    "storage.broker.tickets": _tickets,
    "scheduler.policy": _policy,
    "scheduler.loops.rescue": _rescue,
}


class _Finder(importlib.abc.MetaPathFinder):
    """Finds the modules above as others do, and wraps them once they are loaded."""

    def find_spec(
        self, name: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> importlib.machinery.ModuleSpec | None:
        wrap = WRAPPED.get(name)
        if wrap is None:
            return None
        for finder in sys.meta_path:
            if finder is self or not hasattr(finder, "find_spec"):
                continue
            spec = finder.find_spec(name, path, target)
            if spec is not None and spec.loader is not None:
                _wrap_loader(spec.loader, wrap)
                return spec
        return None


def _wrap_loader(loader: Any, wrap: Callable[[Any], None]) -> None:
    execute = loader.exec_module

    def exec_module(module: ModuleType) -> None:
        execute(module)
        wrap(module)

    loader.exec_module = exec_module


sys.meta_path.insert(0, _Finder())
