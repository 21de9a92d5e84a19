"""``rendermill render --dry-run``: what would be made, what it needs, how long it may take."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import msgspec

from scheduler import estimate
from scheduler.cli.console import (
    duration,
    facts,
    out,
    print_json,
    settings,
    short_model,
    size,
    table,
)
from scheduler.service import processes
from scheduler.service.home import open_home
from scheduler.service.local import RunOptions
from scheduler.service.machine import capability_of
from scheduler.service.prepare import Prepared
from storage.contract.capability import Mode, ModeNeed, fitted
from storage.contract.items import GroupSpec
from storage.db import profiles
from storage.db.jobs import NewGroup
from storage.db.profiles import Profile
from storage.home import CATALOG

SHOWN_GROUPS = 40


class GroupEstimate(msgspec.Struct, frozen=True, kw_only=True):
    """One group of what would be made."""

    spec: GroupSpec
    images: int
    memory_bytes: int  #: in the mode of the first device, or the least there is
    modes: tuple[ModeNeed, ...]  #: what each rung needs, best first
    devices: dict[str, str | None]  #: in which mode each would render it; None: it is too small
    seconds: float
    bytes: int
    measured: bool


def show(work: Prepared, home: Path, options: RunOptions, *, as_json: bool) -> None:
    """Print the estimate; nothing is written."""
    cores = processes.cores()
    groups = [_estimate(group, home, options, cores) for group in work.groups]
    total: dict[str, Any] = {
        "rows": work.rows,
        "images": work.items,
        "groups": len(groups),
        "rejected_rows": work.problems.rejected_rows,
        "tags": list(work.tag_names),
        "seconds": sum(group.seconds for group in groups),
        "bytes": sum(group.bytes for group in groups),
        "measured": all(group.measured for group in groups),
    }
    if as_json:
        print_json({"total": total, "groups": groups})
        return
    listing = table(
        "model",
        "settings",
        "images",
        "batch",
        "memory",
        "mode",
        "time",
        right=("images", "batch", "memory", "time"),
        wide="settings",
    )
    for group in groups[:SHOWN_GROUPS]:
        listing.add_row(
            short_model(group.spec.model),
            settings(group.spec),
            f"{group.images:,}",
            str(group.spec.batch.denoise),
            size(group.memory_bytes),
            _modes(group),
            duration(group.seconds),
        )
    out.print(listing)
    if len(groups) > SHOWN_GROUPS:
        out.print(f"... and {len(groups) - SHOWN_GROUPS:,} more groups")
    how = "measured on this machine" if total["measured"] else "a guess: not measured here yet"
    out.print()
    out.print(
        facts(
            [
                ("rows", f"{work.rows:,}"),
                ("rejected", f"{work.problems.rejected_rows:,}" * bool(work.problems.total)),
                ("images", f"{work.items:,}"),
                ("tags", ", ".join(work.tag_names)),
                ("time", f"about {duration(total['seconds'])} ({how})"),
                ("space", f"about {size(total['bytes'])}"),
                ("note", "; ".join(work.notes)),
                ("plain call", _plain(groups)),
                ("written", "nothing (dry run)"),
            ]
        )
    )


def _estimate(group: NewGroup, home: Path, options: RunOptions, cores: int) -> GroupEstimate:
    spec, needs = group.spec, group.requirements
    images = group.stop_item - group.first_item
    on_cpu = "cpu" in options.devices
    threads = options.threads or estimate.cpu_threads(spec, cores)
    workers = options.processes or max(1, cores // threads) if on_cpu else len(options.devices)
    devices = {
        name: capability_of(name, threads=threads, vram_limit=options.vram_limit)
        for name in options.devices
    }
    device = devices[options.devices[0]]
    speeds, seen = _measured(home, device.kind)
    measured = speeds.get(spec.profile_key)
    needs = fitted(needs, seen.get(spec.profile_key, ()))
    each = measured.seconds_per_image if measured else estimate.seconds_per_image(needs, device)
    file_bytes = measured.bytes_per_image if measured else estimate.image_bytes(spec)
    need = needs.fit(device) or needs.smallest(on_cpu=device.vram_bytes == 0)
    return GroupEstimate(
        spec=spec,
        images=images,
        memory_bytes=need.memory_bytes if need else 0,
        modes=needs.modes,
        devices={name: _mode(needs.fit(one)) for name, one in devices.items()},
        seconds=each * images / workers,
        bytes=round(file_bytes * images),
        measured=measured is not None,
    )


def _plain(groups: list[GroupEstimate]) -> str:
    """Models no record covers, which diffusers' own call renders, more slowly."""
    found = {
        group.spec.model
        for group in groups
        if not any(need.mode is Mode.PHASED for need in group.modes)
    }
    return ", ".join(sorted(found))


def _mode(need: ModeNeed | None) -> str | None:
    if need is None:
        return None
    return f"{need.mode}, tiled" if need.tiled else need.mode.value


def _modes(group: GroupEstimate) -> str:
    """How the devices would render it, in words."""
    return "; ".join(dict.fromkeys(mode or "too large" for mode in group.devices.values()))


def _measured(home: Path, device_kind: str) -> tuple[dict[str, Profile], profiles.SeenByKey]:
    """Speed and memory on that kind of device, as this home has measured them."""
    if not (home / CATALOG).exists():
        return {}, {}
    with open_home(home) as opened, opened.ledger.read() as connection:
        return (
            profiles.of_device(connection, device_kind),
            profiles.rungs_of(connection, device_kind),
        )
