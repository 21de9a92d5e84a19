"""Opening the mill a command works on: the home it names, or the farm of the environment."""

from __future__ import annotations

import os
from pathlib import Path

from storage.opening import Mill, open_mill
from storage.settings import read_connections


def open_home(path: Path, *, create: bool = False) -> Mill:
    """The mill; where the environment names no other parts, all of it lives in `path`."""
    return open_mill(read_connections(os.environ, path), create=create)
