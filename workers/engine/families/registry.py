"""Which adapter renders which family."""

from __future__ import annotations

from typing import Final

from storage.contract.families.record import Family
from workers.engine.families.base import FamilyAdapter
from workers.engine.families.stable_diffusion import StableDiffusion

ADAPTERS: Final[dict[str, FamilyAdapter]] = {
    "stable-diffusion": StableDiffusion(),
}
"""By the name of the family's record."""


def adapter_of(family: Family) -> FamilyAdapter:
    """The adapter of `family`; every record has one (a test sees to it)."""
    return ADAPTERS[family.name]
