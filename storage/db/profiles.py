"""Profiles: measured speed and memory of (model, size, steps, batch, mode, kind of device)."""

from __future__ import annotations

import msgspec
import sqlalchemy as sa
from sqlalchemy.engine import Connection

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


class Profile(msgspec.Struct, frozen=True, kw_only=True):
    """All samples of one kind together."""

    images: int
    seconds_per_image: float
    bytes_per_image: float
    peak_bytes: int


def add(connection: Connection, sample: Sample, *, now: float) -> None:
    """Add a sample to its profile."""
    where = (
        profiles.c.profile_key == sample.profile_key,
        profiles.c.mode == sample.mode,
        profiles.c.device_kind == sample.device_kind,
    )
    changed = connection.execute(
        sa.update(profiles)
        .where(*where)
        .values(
            images=profiles.c.images + sample.images,
            seconds=profiles.c.seconds + sample.seconds,
            bytes=profiles.c.bytes + sample.bytes,
            peak_bytes=sa.case(
                (profiles.c.peak_bytes < sample.peak_bytes, sample.peak_bytes),
                else_=profiles.c.peak_bytes,
            ),
            updated_at=now,
        )
    )
    if changed.rowcount == 0:
        values = msgspec.structs.asdict(sample)
        connection.execute(sa.insert(profiles).values(**values, updated_at=now))


def of_device(connection: Connection, device_kind: str) -> dict[str, Profile]:
    """What was measured on that kind of device, by profile key, fastest mode each."""
    found: dict[str, Profile] = {}
    rows = connection.execute(
        sa.select(profiles).where(profiles.c.device_kind == device_kind, profiles.c.images > 0)
    )
    for row in rows:
        profile = Profile(
            images=row.images,
            seconds_per_image=row.seconds / row.images,
            bytes_per_image=row.bytes / row.images,
            peak_bytes=row.peak_bytes,
        )
        best = found.get(row.profile_key)
        if best is None or profile.seconds_per_image < best.seconds_per_image:
            found[row.profile_key] = profile
    return found
