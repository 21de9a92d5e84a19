"""Profiles: what was measured adds up, per model, mode and kind of device."""

from __future__ import annotations

from typing import Any

from storage.db import profiles
from storage.db.engine import Ledger
from storage.db.profiles import Profile, Sample


def add(ledger: Ledger, **overrides: Any) -> None:
    values: dict[str, Any] = {
        "profile_key": "starter 64x64",
        "mode": "cpu",
        "device_kind": "cpu/1",
        "images": 10,
        "seconds": 5.0,
        "bytes": 1000,
        "peak_bytes": 7,
    }
    with ledger.write() as connection:
        profiles.add(connection, Sample(**(values | overrides)), now=1.0)


def measured(ledger: Ledger, device_kind: str = "cpu/1") -> dict[str, Profile]:
    with ledger.read() as connection:
        return profiles.of_device(connection, device_kind)


def test_samples_add_up_to_an_average_and_the_largest_peak(ledger: Ledger) -> None:
    add(ledger)
    add(ledger, images=30, seconds=3.0, bytes=7000, peak_bytes=9)
    add(ledger, images=10, seconds=2.0, bytes=2000, peak_bytes=8)
    assert measured(ledger) == {
        "starter 64x64": Profile(
            images=50, seconds_per_image=0.2, bytes_per_image=200.0, peak_bytes=9
        )
    }


def test_models_and_kinds_of_device_are_kept_apart(ledger: Ledger) -> None:
    add(ledger)
    add(ledger, profile_key="starter 128x128", seconds=40.0)
    add(ledger, device_kind="cpu/2", seconds=1.0)
    speeds = {key: found.seconds_per_image for key, found in measured(ledger).items()}
    assert speeds == {"starter 64x64": 0.5, "starter 128x128": 4.0}
    assert measured(ledger, "NVIDIA H200") == {}


def test_of_several_modes_the_fastest_counts(ledger: Ledger) -> None:
    for mode, seconds in (("lean", 3.0), ("resident", 2.0), ("phased", 4.0)):
        add(ledger, mode=mode, seconds=seconds)
    assert measured(ledger)["starter 64x64"].seconds_per_image == 0.2


def test_a_profile_without_images_says_nothing(ledger: Ledger) -> None:
    add(ledger, images=0)
    assert measured(ledger) == {}
