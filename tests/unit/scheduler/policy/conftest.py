"""Fleets and workers for the policy's tests."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from storage.contract.claims import FleetPart, WorkerView
from storage.contract.classes import GIB
from storage.testing.factories import make_capability

Make = Callable[..., Any]


@pytest.fixture
def card() -> Make:
    """Makes the part of a fleet that has cards of `gib`."""

    def make(gib: int, count: int = 1, **overrides: Any) -> FleetPart:
        values: dict[str, Any] = {
            "kind": f"card {gib}" if gib else "cpu/1",
            "vram_bytes": gib * GIB,
            "ram_bytes": 64 * GIB,
            "count": count,
        }
        return FleetPart(**(values | overrides))

    return make


@pytest.fixture
def worker_of() -> Make:
    """Makes a worker of a part, in a fleet that consists of that part and `others`."""

    def make(part: FleetPart, *others: FleetPart, **overrides: Any) -> WorkerView:
        capability = make_capability(
            kind=part.kind,
            name=part.kind,
            vram_bytes=part.vram_bytes,
            ram_bytes=part.ram_bytes,
        )
        values: dict[str, Any] = {
            "capability": capability,
            "seconds_per_image": part.seconds_per_image,
            "fleet": (part, *others),
        }
        return WorkerView(**(values | overrides))

    return make
