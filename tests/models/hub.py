"""Models in the cache of the hub's client, as if they had been fetched."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

COMMIT = "0123456789abcdef0123456789abcdef01234567"


def put_in_cache(cache: Path, repository: str, build: Callable[[Path], object]) -> Path:
    """Have `build` fill the snapshot of `repository`; `cache` is what HF_HUB_CACHE names."""
    place = cache / f"models--{repository.replace('/', '--')}"
    snapshot = place / "snapshots" / COMMIT
    snapshot.parent.mkdir(parents=True)
    build(snapshot)
    (place / "refs").mkdir()
    (place / "refs" / "main").write_text(COMMIT)
    return snapshot
