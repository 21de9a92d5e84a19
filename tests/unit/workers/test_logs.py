"""The log of a worker, also where it cannot be written."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

SAY = """
import structlog
from workers.logs import configure_logs

configure_logs()
try:
    raise ValueError("odd")
except ValueError:
    structlog.get_logger().exception("it broke", action="broke", task=3)
structlog.get_logger().info("it goes on: é", action="on")
print("alive")
"""


def test_events_are_json_lines_with_their_exception(tmp_path: Path) -> None:
    with open(tmp_path / "log", "wb") as log:
        subprocess.run(
            [sys.executable, "-c", SAY], stderr=log, check=True, stdout=subprocess.DEVNULL
        )
    first, second = map(json.loads, (tmp_path / "log").read_text().splitlines())
    assert (first["event"], first["action"], first["task"]) == ("it broke", "broke", 3)
    assert "ValueError: odd" in first["exception"]
    assert (second["event"], second["level"]) == ("it goes on: é", "info")


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="a device that is always full")
def test_a_full_disk_costs_the_log_and_nothing_else() -> None:
    with open("/dev/full", "wb") as full:
        done = subprocess.run(
            [sys.executable, "-c", SAY], stderr=full, stdout=subprocess.PIPE, check=True
        )
    assert done.stdout == b"alive\n"
