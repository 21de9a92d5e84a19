"""Searching by meaning: vectors of what is asked for, and how far those of the catalog are.

Models are loaded by a process of the workers' side, so this one needs no torch.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable, Generator
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import sqlalchemy as sa

from scheduler.service.finding import Ask, tree_of
from scheduler.service.nearest import Nearest, Sight, shown
from storage.contract.errors import InputError, RendermillError, SettingError
from storage.db import vectors
from storage.db.engine import Ledger
from storage.db.search_keys import picture_key
from storage.db.search_near import Near
from storage.db.search_sql import bounded
from storage.db.tables import vectors as table
from storage.db.vectors import Embedder, Of, Status

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Vector = NDArray[np.float32]

DEFAULT_MODEL: Final = "wordllama"
MODEL: Final = "RENDERMILL_EMBEDDING_MODEL"
SECONDS: Final = 60.0
"""A search by meaning may take: all vectors are compared."""

Steps = Generator[list[Status], None, None]

_QUIET: Final = {"TOKENIZERS_PARALLELISM": "false", "TRANSFORMERS_VERBOSITY": "error"}


def by_meaning(ledger: Ledger, ask: Ask, text: str, *, limit: int) -> Nearest:
    """Images that match, those first whose prompt means most nearly what `text` does.

    Where only pictures have vectors, those whose picture shows it.
    """
    embedder = _enabled(ledger, Of.PROMPT) or _enabled(ledger, Of.PICTURE)
    if embedder is None:
        raise InputError("searching by meaning is off", hint=_TURN_ON)
    wanted = _embedded({"kind": embedder.kind, "model": embedder.model, "text": text})
    return _nearest(ledger, ask, embedder, wanted, limit=limit)


def by_picture(ledger: Ledger, ask: Ask, sight: Sight, file: str, *, limit: int) -> Nearest | None:
    """Images that match, by how near their picture's vector is; None: there are no vectors."""
    embedder = _enabled(ledger, Of.PICTURE)
    if embedder is None or not embedder.dims:
        return None
    if sight.row is None:
        picture = str(Path(file).resolve())
        wanted = _embedded({"kind": embedder.kind, "model": embedder.model, "picture": picture})
    else:
        known = _kept(ledger, embedder, picture_key(sight.row))
        if known is None:
            return None
        wanted = known
    return _nearest(ledger, ask, embedder, wanted, limit=limit, without=sight)


def statuses(ledger: Ledger) -> list[Status]:
    """How far the vectors of each kind are."""
    with ledger.read() as connection:
        kinds = vectors.enabled(connection)
        return [vectors.status(connection, one, now=ledger.now()) for one in kinds]


def build(ledger: Ledger, home: Path, *, seconds: float = 0.5) -> Steps:
    """Compute all vectors that are due, in a process of its own; yields how far they are.

    Left early, the process ends after its batch. Raises what that process ended with.
    """
    command = [sys.executable, "-m", "workers.embed", "build", "--home", str(home)]
    with tempfile.TemporaryFile() as said:
        process = subprocess.Popen(  # noqa: S603 - our own program
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=said,
            env=os.environ | _QUIET,
        )
        try:
            while _runs(process, seconds):
                yield statuses(ledger)
        finally:
            if process.stdin is not None:
                process.stdin.close()
            process.wait()
        yield statuses(ledger)
        if process.returncode:
            said.seek(0)
            raise RendermillError(f"vectors: {_last_line(said.read())}")


def _runs(process: subprocess.Popen[bytes], seconds: float) -> bool:
    try:
        process.wait(seconds)
    except subprocess.TimeoutExpired:
        return True
    return False


def _enabled(ledger: Ledger, kind: Of) -> Embedder | None:
    with ledger.read() as connection:
        return vectors.find(connection, kind)


def _nearest(
    ledger: Ledger,
    ask: Ask,
    embedder: Embedder,
    wanted: Vector,
    *,
    limit: int,
    without: Sight | None = None,
) -> Nearest:
    from storage.db.vector_search import nearest

    own = None
    if without is not None and without.row is not None:
        own = (without.row.job_id, without.row.item)
    with ledger.read() as connection, bounded(connection, SECONDS):
        tree = tree_of(connection, ask, now=ledger.now())
        found: list[Near] = nearest(connection, embedder.kind, wanted, tree, limit=limit + 1)
        told = vectors.status(connection, embedder, now=ledger.now())
    if not told.done:
        raise InputError(
            "there are no vectors yet",
            hint="idle workers compute them; now: rendermill vectors build",
        )
    others = [one for one in found if (one.job_id, one.item) != own]
    page = shown(ledger, others[:limit])
    return Nearest(
        images=page.images,
        distances=page.distances,
        waiting=page.waiting + told.due + told.unseen,
    )


def _kept(ledger: Ledger, embedder: Embedder, key: int | None) -> Vector | None:
    """The vector of a picture of the catalog, if it is computed."""
    import numpy as np

    with ledger.read() as connection:
        found = connection.execute(
            sa.select(table.c.vector).where(table.c.kind == embedder.kind, table.c.key == key)
        ).scalar()
    return None if found is None else np.frombuffer(found, "<f2").astype(np.float32)


def _embedded(asked: dict[str, Any], run: Callable[..., Any] = subprocess.run) -> Vector:
    try:
        import numpy as np
    except ImportError as error:
        raise SettingError(
            "searching by meaning needs the package numpy",
            hint="install it: pip install 'rendermill[vectors]'",
        ) from error
    done = run(
        [sys.executable, "-m", "workers.embed", "query"],
        input=json.dumps(asked).encode(),
        capture_output=True,
        check=False,
        env=os.environ | _QUIET,
    )
    if done.returncode:
        raise InputError(_last_line(done.stderr))
    return np.array(json.loads(done.stdout), dtype=np.float32)


def _last_line(said: bytes) -> str:
    lines = [line for line in said.decode(errors="replace").splitlines() if line.strip()]
    return lines[-1] if lines else "the process that computes them ended without a word"


_TURN_ON: Final = (
    f"turn it on: rendermill vectors enable {DEFAULT_MODEL}; then rendermill vectors build"
)
