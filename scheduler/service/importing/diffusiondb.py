"""DiffusionDB's parts: pictures beside a JSON file, or one Parquet file for all."""

from __future__ import annotations

import re
from functools import lru_cache
from pathlib import Path
from typing import Any, Final

import msgspec

from scheduler.service.importing.described import Described, real, sampler_of, text_of, whole

PROGRAM: Final = "DiffusionDB"

_PART: Final = re.compile(r"part-(\d{6})")
_PARQUET: Final = ("metadata.parquet", "metadata-large.parquet")
_SAMPLERS: Final = (
    "ddim",
    "plms",
    "k_euler",
    "k_euler_ancestral",
    "k_heun",
    "k_dpm_2",
    "k_dpm_2_ancestral",
    "k_lms",
)
"""By their number, from 1; 9 is any other."""

_COLUMNS: Final = ("image_name", "prompt", "seed", "step", "cfg", "sampler")


def described(file: Path) -> Described | None:
    """What its part says of a picture; None if it lies in no part, or the part is silent."""
    if not _PART.fullmatch(file.parent.name):
        return None
    return _part(file.parent).get(file.name)


@lru_cache(maxsize=2)
def _part(folder: Path) -> dict[str, Described]:
    for place in (folder / f"{folder.name}.json", folder.with_suffix(".json")):
        if place.is_file():
            return _from_json(place)
    for above in (folder.parent, folder.parent.parent):
        for name in _PARQUET:
            if (above / name).is_file():
                return _from_parquet(above / name, int(folder.name[-6:]))
    return {}


def _from_json(place: Path) -> dict[str, Described]:
    try:
        said = msgspec.json.decode(place.read_bytes(), type=dict[str, dict[str, Any]])
    except (msgspec.MsgspecError, OSError):
        return {}
    return {
        name: _made(one.get("p"), one.get("se"), one.get("st"), one.get("c"), one.get("sa"))
        for name, one in said.items()
    }


def _from_parquet(place: Path, part: int) -> dict[str, Described]:
    """The rows of one part; without pyarrow nothing is known."""
    try:
        import pyarrow.parquet as pq
    except ImportError:
        return {}
    table = pq.read_table(place, columns=list(_COLUMNS), filters=[("part_id", "=", part)])
    return {
        row["image_name"]: _made(
            row["prompt"], row["seed"], row["step"], row["cfg"], row["sampler"]
        )
        for row in table.to_pylist()
    }


def _made(prompt: object, seed: object, steps: object, cfg: object, sampler: object) -> Described:
    number = whole(sampler)
    if number is not None:
        sampler = _SAMPLERS[number - 1] if 1 <= number <= len(_SAMPLERS) else "other"
    return Described(
        program=PROGRAM,
        prompt=text_of(prompt),
        seed=whole(seed),
        steps=whole(steps),
        cfg=real(cfg),
        sampler=sampler_of(sampler),
    )
