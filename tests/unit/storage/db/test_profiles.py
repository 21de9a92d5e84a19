"""Profiles: what was measured adds up, per model, mode and kind of device."""

from __future__ import annotations

from typing import Any

from storage.contract.capability import Mode, Seen
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


# Seconds by phase


def test_seconds_by_phase_are_an_images_own_and_only_those_told_of(ledger: Ledger) -> None:
    add(ledger, images=10, encode_seconds=1.0, denoise_seconds=3.0)
    add(ledger, images=10, encode_seconds=1.0, denoise_seconds=5.0)
    assert measured(ledger)["starter 64x64"].phase_seconds == {"encode": 0.1, "denoise": 0.4}


# Rungs


def seen(ledger: Ledger, device_kind: str = "cpu/1") -> set[Seen]:
    with ledger.read() as connection:
        found = profiles.rungs_of(connection, device_kind)
        assert found == profiles.rungs_by_device(connection).get(device_kind, {})
    return set(found.get("starter 64x64", ()))


def fail(ledger: Ledger, room: int, **rung: Any) -> None:
    with ledger.write() as connection:
        profiles.did_not_fit(
            connection,
            profile_key="starter 64x64",
            mode=Mode.CPU,
            device_kind="cpu/1",
            room_bytes=room,
            now=1.0,
            **rung,
        )


def test_each_rung_keeps_its_own_largest_peak(ledger: Ledger) -> None:
    add(ledger, peak_bytes=900)
    add(ledger, peak_bytes=800)
    add(ledger, peak_bytes=500, batch=4, tiled=True)
    assert seen(ledger) == {
        Seen(mode=Mode.CPU, peak_bytes=900),
        Seen(mode=Mode.CPU, batch=4, tiled=True, peak_bytes=500),
    }
    assert seen(ledger, "cpu/2") == set()


def test_a_rung_that_ran_out_of_memory_keeps_the_largest_in_which_it_did(ledger: Ledger) -> None:
    fail(ledger, 1000)
    fail(ledger, 700)
    fail(ledger, 600, batch=1, tiled=True)
    assert seen(ledger) == {
        Seen(mode=Mode.CPU, failed_bytes=1000),
        Seen(mode=Mode.CPU, batch=1, tiled=True, failed_bytes=600),
    }


def test_a_peak_does_not_make_forget_where_the_rung_ran_out(ledger: Ledger) -> None:
    fail(ledger, 1000)
    add(ledger, peak_bytes=1500)
    assert seen(ledger) == {Seen(mode=Mode.CPU, peak_bytes=1500, failed_bytes=1000)}


def test_loading_and_a_peak_nobody_measured_say_nothing_of_a_rung(ledger: Ledger) -> None:
    add(ledger, peak_bytes=0)
    add(ledger, images=0)
    add(ledger, mode="load")
    assert seen(ledger) == set()
