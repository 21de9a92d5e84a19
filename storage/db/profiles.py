"""Profiles: measured speed and memory of (model, size, steps, batch, mode, kind of device).

Speed is kept by mode. Memory is kept by rung of the ladder: a mode at some batch, its decoding
tiled or not, with the largest memory it took and the largest in which it ran out. A claim
corrects a group's requirements by that (`storage.contract.capability.fitted`), so what ran out of
memory once is not tried again on the like.
"""

from __future__ import annotations

from typing import Any

import msgspec
import sqlalchemy as sa
from sqlalchemy.engine import Connection

from storage.contract.capability import Mode, Seen
from storage.db.rows import upsert
from storage.db.tables import profiles, rungs

SeenByKey = dict[str, tuple[Seen, ...]]
"""What was seen of the rungs, by profile key."""


class Sample(msgspec.Struct, frozen=True, kw_only=True):
    """What one task measured."""

    profile_key: str
    mode: str
    device_kind: str
    images: int
    seconds: float
    bytes: int
    peak_bytes: int  #: of the task alone, all of the device that its process held; 0: not known
    batch: int = 0  #: images denoised at once; 0: as the group's batch shape says
    tiled: bool = False  #: pictures were decoded in tiles
    encode_seconds: float = 0.0  #: of `seconds`, by phase, where it was told
    condition_seconds: float = 0.0
    denoise_seconds: float = 0.0
    decode_seconds: float = 0.0


_LOAD = "load"
"""The mode of a profile of loading: an "image" of it is one time a model was loaded."""


def load_sample(of: Sample, model: str, seconds: float) -> Sample:
    """That loading the model took so long, where `of` was measured."""
    key = f"{_LOAD} {model}"
    return Sample(
        profile_key=key,
        mode=_LOAD,
        device_kind=of.device_kind,
        images=1,
        seconds=seconds,
        bytes=0,
        peak_bytes=of.peak_bytes,
    )


class Profile(msgspec.Struct, frozen=True, kw_only=True):
    """All samples of one kind together."""

    images: int
    seconds_per_image: float
    bytes_per_image: float
    peak_bytes: int
    #: Of the seconds per image, by phase: encode, condition, denoise, decode; those told of.
    phase_seconds: dict[str, float] = {}


_PHASES = ("encode", "condition", "denoise", "decode")


def add(connection: Connection, sample: Sample, *, now: float) -> None:
    """Add a sample to its profile, and its peak to its rung."""
    values = msgspec.structs.asdict(sample) | {"updated_at": now}
    batch, tiled = values.pop("batch"), values.pop("tiled")
    insert = upsert(connection, profiles).values(**values)
    fresh = insert.excluded
    sums = ("images", "seconds", "bytes", *(f"{phase}_seconds" for phase in _PHASES))
    connection.execute(
        insert.on_conflict_do_update(
            index_elements=["profile_key", "mode", "device_kind"],
            set_={
                **{name: profiles.c[name] + fresh[name] for name in sums},
                "peak_bytes": _larger(profiles.c.peak_bytes, fresh.peak_bytes),
                "updated_at": now,
            },
        )
    )
    if sample.mode != _LOAD and sample.peak_bytes and sample.images:
        seen = Seen(mode=Mode(sample.mode), batch=batch, tiled=tiled, peak_bytes=sample.peak_bytes)
        _see(connection, sample.profile_key, sample.device_kind, seen, now=now)


def did_not_fit(
    connection: Connection,
    *,
    profile_key: str,
    mode: Mode,
    device_kind: str,
    room_bytes: int,
    now: float,
    batch: int = 0,
    tiled: bool = False,
) -> None:
    """Note that a rung ran out of memory, so that it is not offered to the like again.

    Call it once for each rung that the ladder stepped down from, in a write transaction (the
    same as `tasks.hand_back` where nothing was left to step down to; a task that is handed back
    is blamed on nobody). `room_bytes` is all the memory of the device that the process could
    have: what it held itself, plus what was free. `batch` and `tiled` say how it was tried:
    0 is the group's own batch. ``batch=1, tiled=True`` says that the mode does not fit at all.

    From then on the mode, at this batch and at larger ones, untiled too unless `tiled`, counts as
    needing more than `room_bytes` on this kind of device (`Requirements` by way of `fitted`).
    """
    seen = Seen(mode=mode, batch=batch, tiled=tiled, failed_bytes=room_bytes)
    _see(connection, profile_key, device_kind, seen, now=now)


def rungs_of(connection: Connection, device_kind: str) -> SeenByKey:
    """What was seen of the rungs on that kind of device, by profile key."""
    return _rungs(connection, rungs.c.device_kind == device_kind).get(device_kind, {})


def rungs_by_device(connection: Connection) -> dict[str, SeenByKey]:
    """The same for every kind of device."""
    return _rungs(connection, sa.true())


def _rungs(connection: Connection, where: sa.ColumnElement[bool]) -> dict[str, SeenByKey]:
    found: dict[str, SeenByKey] = {}
    for row in connection.execute(sa.select(rungs).where(where)):
        seen = Seen(
            mode=Mode(row.mode),
            batch=row.batch,
            tiled=bool(row.tiled),
            peak_bytes=row.peak_bytes,
            failed_bytes=row.failed_bytes,
        )
        of_kind = found.setdefault(row.device_kind, {})
        of_kind[row.profile_key] = (*of_kind.get(row.profile_key, ()), seen)
    return found


def _see(
    connection: Connection, profile_key: str, device_kind: str, seen: Seen, *, now: float
) -> None:
    insert = upsert(connection, rungs).values(
        profile_key=profile_key,
        mode=seen.mode,
        device_kind=device_kind,
        batch=seen.batch,
        tiled=int(seen.tiled),
        peak_bytes=seen.peak_bytes,
        failed_bytes=seen.failed_bytes,
        updated_at=now,
    )
    fresh = insert.excluded
    connection.execute(
        insert.on_conflict_do_update(
            index_elements=["profile_key", "mode", "device_kind", "batch", "tiled"],
            set_={
                "peak_bytes": _larger(rungs.c.peak_bytes, fresh.peak_bytes),
                "failed_bytes": _larger(rungs.c.failed_bytes, fresh.failed_bytes),
                "updated_at": now,
            },
        )
    )


def _larger(old: sa.ColumnElement[int], new: sa.ColumnElement[int]) -> sa.ColumnElement[int]:
    return sa.case((old < new, new), else_=old)


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
            phase_seconds=_by_phase(row),
        )
        of_kind = found.setdefault(row.device_kind, {})
        best = of_kind.get(row.profile_key)
        if best is None or profile.seconds_per_image < best.seconds_per_image:
            of_kind[row.profile_key] = profile
    return found


def _by_phase(row: sa.Row[Any]) -> dict[str, float]:
    told = {phase: getattr(row, f"{phase}_seconds") for phase in _PHASES}
    return {phase: seconds / row.images for phase, seconds in told.items() if seconds > 0}
