from __future__ import annotations

import socket
from pathlib import Path

import psutil
import pytest

from storage.contract.errors import DeviceLost
from workers.probe import class_at, probe


def test_a_cpu_is_known_by_its_threads_because_they_decide_bits(tmp_path: Path) -> None:
    one = probe("cpu", threads=1, home=tmp_path)
    four = probe("cpu", threads=4, home=tmp_path)

    assert (one.kind, four.kind) == ("cpu/1", "cpu/4")
    assert one.vram_class == "cpu"
    assert one.host == socket.gethostname()
    assert one.name
    assert 0 < one.ram_bytes <= psutil.virtual_memory().total
    assert one.disk_bytes > 0


def test_a_cpu_passes_for_a_card_of_the_size_it_is_told(tmp_path: Path) -> None:
    found = probe("cpu", threads=1, home=tmp_path, vram_limit=8 << 30)

    assert found.vram_bytes == 8 << 30
    assert found.vram_class == class_at("cpu", 8 << 30) == "gpu8"


def test_the_class_of_a_cpu_needs_no_driver(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "")

    assert class_at("cpu", None) == "cpu"


@pytest.fixture
def driver(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A driver's tool that knows cards 0, 1 and GPU-c, and keeps what it was asked."""
    tool = tmp_path / "nvidia-smi"
    tool.write_text(
        "#!/bin/sh\n"
        f'echo "$@" >> {tmp_path}/asked\n'
        'case "$*" in\n'
        "*--id=0) echo 24564;;\n*--id=1) echo 8188;;\n*--id=GPU-c) echo 81559;;\n"
        "*) echo no such card; exit 6;;\nesac\n"
    )
    tool.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:/bin:/usr/bin")
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    return tmp_path


@pytest.mark.parametrize(
    ("device", "limit", "label"),
    [
        ("cuda:0", None, "gpu24"),
        ("cuda", None, "gpu24"),
        ("cuda:1", None, "gpu8"),
        ("cuda:0", 12 << 30, "gpu12"),
        ("cuda:1", 12 << 30, "gpu8"),
    ],
)
def test_a_cards_class_is_told_by_the_driver_and_the_limit(
    driver: Path, device: str, limit: int | None, label: str
) -> None:
    assert class_at(device, limit) == label


def test_cards_are_counted_among_those_that_are_visible(
    driver: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "1, GPU-c")

    assert [class_at(f"cuda:{number}", None) for number in (0, 1)] == ["gpu8", "gpu80"]
    with pytest.raises(DeviceLost, match="cuda:2 is hidden by CUDA_VISIBLE_DEVICES"):
        class_at("cuda:2", None)


def test_a_card_that_does_not_answer_is_lost(driver: Path) -> None:
    with pytest.raises(DeviceLost, match="cuda:7 does not answer") as lost:
        class_at("cuda:7", None)
    assert "nvidia-smi" in (lost.value.hint or "")


def test_without_a_driver_there_are_no_cards(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "")

    with pytest.raises(DeviceLost, match="no driver") as lost:
        class_at("cuda:0", None)
    assert "--device cpu" in (lost.value.hint or "")
