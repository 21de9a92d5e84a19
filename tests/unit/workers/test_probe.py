from __future__ import annotations

import socket
from pathlib import Path

import psutil

from workers.probe import probe


def test_a_cpu_is_known_by_its_threads_because_they_decide_bits(tmp_path: Path) -> None:
    one = probe("cpu", threads=1, home=tmp_path)
    four = probe("cpu", threads=4, home=tmp_path)

    assert (one.kind, four.kind) == ("cpu/1", "cpu/4")
    assert one.vram_class == "cpu"
    assert one.host == socket.gethostname()
    assert one.name
    assert 0 < one.ram_bytes <= psutil.virtual_memory().total
    assert one.disk_bytes > 0
