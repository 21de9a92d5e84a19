"""Profiles: measured speed and memory of (model, size, steps, batch, mode, kind of device)."""

from __future__ import annotations

from typing import Any

import msgspec
import sqlalchemy as sa
from sqlalchemy.engine import Connection

from storage.db.rows import upsert
from storage.db.tables import profiles


class Sample(msgspec.Struct, frozen=True, kw_only=True):
    """What one task measured."""

    profile_key: str
    mode: str
    device_kind: str
    images: int
    seconds: float
    bytes: int
    peak_bytes: int


_LOAD = "load"
"""The mode of a profile of loading: an "image" of it is one time a model was loaded."""


def load_sample(of: Sample, model: str, seconds: float) -> Sample:
    """That loading the model took so long, where `of` was measured."""
    key = f"{_LOAD} {model}"
    return msgspec.structs.replace(
        of, profile_key=key, mode=_LOAD, images=1, seconds=seconds, bytes=0
    )


class Profile(msgspec.Struct, frozen=True, kw_only=True):
    """All samples of one kind together."""

    images: int
    seconds_per_image: float
    bytes_per_image: float
    peak_bytes: int


def add(connection: Connection, sample: Sample, *, now: float) -> None:
    """Add a sample to its profile."""
    values = msgspec.structs.asdict(sample) | {"updated_at": now}
    insert = upsert(connection, profiles).values(**values)
    fresh = insert.excluded
    connection.execute(
        insert.on_conflict_do_update(
            index_elements=["profile_key", "mode", "device_kind"],
            set_={
                "images": profiles.c.images + fresh.images,
                "seconds": profiles.c.seconds + fresh.seconds,
                "bytes": profiles.c.bytes + fresh.bytes,
                "peak_bytes": sa.case(
                    (profiles.c.peak_bytes < fresh.peak_bytes, fresh.peak_bytes),
                    else_=profiles.c.peak_bytes,
                ),
                "updated_at": now,
            },
        )
    )


def of_device(connection: Connection, device_kind: str) -> dict[str, Profile]:
    """What was measured on that kind of device, by profile key, fastest mode each."""
    only = profiles.c.device_kind == device_kind
    return _fastest(connection, only).get(device_kind, {})


def by_device(connection: Connection) -> dict[str, dict[str, Profile]]:
    """The same for every kind of device."""
    return _fastest(connection, sa.true())


def loads_of(connection: Connection, device_kind: str) -> dict[str, float]:
    """Seconds that loading takes on that kind of device, by model."""
    found = connection.execute(
        sa.select(profiles).where(
            profiles.c.device_kind == device_kind, profiles.c.mode == _LOAD, profiles.c.images > 0
        )
    )
    return {row.profile_key.removeprefix(f"{_LOAD} "): row.seconds / row.images for row in found}


def _rendering(where: sa.ColumnElement[bool]) -> sa.Select[Any]:
    return sa.select(profiles).where(where, profiles.c.images > 0, profiles.c.mode != _LOAD)


def _fastest(
    connection: Connection, where: sa.ColumnElement[bool]
) -> dict[str, dict[str, Profile]]:
    found: dict[str, dict[str, Profile]] = {}
    for row in connection.execute(_rendering(where)):
        profile = Profile(
            images=row.images,
            seconds_per_image=row.seconds / row.images,
            bytes_per_image=row.bytes / row.images,
            peak_bytes=row.peak_bytes,
        )
        of_kind = found.setdefault(row.device_kind, {})
        best = of_kind.get(row.profile_key)
        if best is None or profile.seconds_per_image < best.seconds_per_image:
            of_kind[row.profile_key] = profile
    return found
