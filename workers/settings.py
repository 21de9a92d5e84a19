"""What a worker process is told by whoever starts it. Travels as command-line options."""

from __future__ import annotations

from pathlib import Path
from typing import Final

import msgspec

GRACE_SECONDS: Final = 30.0

RENDERERS: Final = ("diffusers", "fake")

EXIT_SURROUNDINGS: Final = 4
"""Exit code of a worker whose surroundings failed it (disk, ledger, device): the items are not
to blame, and a new process may do better."""


class WorkerSettings(msgspec.Struct, frozen=True, kw_only=True):
    """One worker process. Where ledger, broker and store are stands in its environment."""

    home: Path
    device: str = "cpu"
    threads: int = 1
    slot: int = 0  #: tells workers on one device apart
    job_id: int | None = None  #: work for this job only, and leave when it needs no more
    grace: float = GRACE_SECONDS  #: seconds to reach the end of a batch when told to stop
    renderer: str = "diffusers"
    fake_seconds: float = 0.0  #: time an image takes the fake renderer
    vram_limit: int | None = None  #: bytes; the device passes for one with this much
    vram_class: str | None = None  #: of its queue; None: it takes no tickets
    name: str | None = None  #: what this machine is called in the fleet; default: its host name
    sleep: str | None = None  #: "22:00-06:00": claims nothing between these hours

    @property
    def place(self) -> str:
        """The worker's place on its host: the name of its files, and of it after a restart."""
        device = self.device.replace(":", "-")
        return f"{device}-{self.slot}"

    def encode(self) -> str:
        """As JSON, for a process that is born without its parent's memory."""
        return msgspec.json.encode(self, enc_hook=str).decode()

    @classmethod
    def decode(cls, text: str) -> WorkerSettings:
        """The inverse of `encode`."""
        return msgspec.json.decode(text, type=cls, dec_hook=lambda kind, value: kind(value))
