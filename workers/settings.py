"""What a worker process is told by whoever starts it. Travels as command-line options."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Final

GRACE_SECONDS: Final = 30.0

RENDERERS: Final = ("diffusers", "fake")

EXIT_SURROUNDINGS: Final = 4
"""Exit code of a worker whose surroundings failed it (disk, ledger, device): the items are not
to blame, and a new process may do better."""


@dataclass(frozen=True, kw_only=True, slots=True)
class WorkerSettings:
    """One worker process."""

    home: Path
    device: str = "cpu"
    threads: int = 1
    slot: int = 0  #: tells workers on one device apart
    job_id: int | None = None  #: work for this job only, and leave when it needs no more
    grace: float = GRACE_SECONDS  #: seconds to reach the end of a batch when told to stop
    renderer: str = "diffusers"
    fake_seconds: float = 0.0  #: time an image takes the fake renderer
