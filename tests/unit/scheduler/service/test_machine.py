"""The devices of this machine, told without torch."""

from __future__ import annotations

from pathlib import Path

import pytest

from scheduler.service.machine import CUDA_CONTEXT, capability_of, parse_card


def test_a_cpu_has_the_memory_that_is_free() -> None:
    found = capability_of("cpu", threads=3)
    assert (found.kind, found.threads, found.vram_bytes) == ("cpu/3", 3, 0)
    assert found.ram_bytes > 0


def test_of_a_card_what_is_free_counts_beside_the_context() -> None:
    assert parse_card("NVIDIA L4, 22563\n") == ("NVIDIA L4", (22563 << 20) - CUDA_CONTEXT)
    assert parse_card("A, B card, 100") == ("A, B card", 1)


@pytest.mark.parametrize("told", ["", "No devices were found", "NVIDIA L4, [N/A]", "12"])
def test_what_the_driver_does_not_say_is_not_known(told: str) -> None:
    assert parse_card(told) is None


def test_a_card_the_driver_does_not_know_has_no_room(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))  # no nvidia-smi there
    found = capability_of("cuda:0", threads=1)
    assert (found.device, found.vram_bytes) == ("cuda:0", 1)


def test_the_drivers_own_tool_is_asked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tool = tmp_path / "nvidia-smi"
    tool.write_text('#!/bin/sh\ncase "$*" in *--id=1*) echo "Card One, 9000";; *) exit 6;; esac\n')
    tool.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:/bin:/usr/bin")
    assert capability_of("cuda:1", threads=1).vram_bytes == (9000 << 20) - CUDA_CONTEXT
    assert capability_of("cuda:1", threads=1).kind == "Card One"
    assert capability_of("cuda:0", threads=1).vram_bytes == 1
