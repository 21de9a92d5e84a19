"""``python -m workers.embed``: vectors computed for ``rendermill vectors`` and ``images``.

``build`` computes what is due until nothing is, or standard input ends. ``query`` reads
``{"kind", "model", "text"}`` or ``{"kind", "model", "picture"}`` and writes the vector as JSON.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import threading
from pathlib import Path
from typing import Any, Final

from storage import pictures
from storage.contract.errors import RendermillError
from storage.db import vectors
from storage.db.vectors import Of
from storage.opening import Mill, open_mill
from storage.settings import read_connections
from workers.engine.embedding import open_picture_embedder, open_text_embedder
from workers.idle import MODEL, Embedding, enable_by_environment
from workers.logs import configure_logs

LEASE_LOOK_SECONDS: Final = 1.0


def main(arguments: list[str] | None = None) -> int:
    """Do what the command line says; the exit code."""
    parser = argparse.ArgumentParser(prog="python -m workers.embed", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    commands.add_parser("query")
    commands.add_parser("build").add_argument("--home", type=Path, required=True)
    options = parser.parse_args(arguments)
    configure_logs()
    try:
        if options.command == "query":
            json.dump(answer(json.load(sys.stdin)), sys.stdout)
        else:
            build(options.home, _left())
    except RendermillError as error:
        hint = f" ({error.hint})" if error.hint else ""
        sys.stderr.write(f"{error.message}{hint}\n")
        return error.exit_code
    return 0


def answer(asked: dict[str, Any]) -> list[float]:
    """The vector of one text or picture."""
    if asked["kind"] == Of.PROMPT:
        found = open_text_embedder(asked["model"]).texts([asked["text"]])
    elif "text" in asked:
        found = open_picture_embedder(asked["model"]).texts([asked["text"]])
    else:
        picture = pictures.as_image(Path(asked["picture"]).read_bytes())
        found = open_picture_embedder(asked["model"]).pictures([picture])
    return [float(one) for one in found[0]]


def build(home: Path, left: threading.Event) -> None:
    """Compute all that is due, or until nobody waits any more."""
    with open_mill(read_connections(os.environ, home)) as mill:
        enable_by_environment(mill.ledger, os.environ.get(MODEL))
        embedding = Embedding(ledger=mill.ledger, store=mill.store, indexes=True)
        while not left.is_set():
            # What others hold is waited for: they may have died, and their leases lapse.
            if not embedding.batch() and (not _is_due(mill) or left.wait(LEASE_LOOK_SECONDS)):
                return


def _is_due(mill: Mill) -> bool:
    with mill.ledger.read() as connection:
        now = mill.ledger.now()
        kinds = vectors.enabled(connection)
        return any(vectors.status(connection, one, now=now).due for one in kinds)


def _left() -> threading.Event:
    """Set once standard input ends: the parent held its other end."""
    left = threading.Event()

    def watch() -> None:
        while os.read(0, 4096):
            pass
        left.set()

    if not sys.stdin.isatty():
        threading.Thread(target=watch, name="parent", daemon=True).start()
    return left


if __name__ == "__main__":
    sys.exit(main())
