"""The list of all families."""

from __future__ import annotations

from typing import Final

from storage.contract.families.record import Family
from storage.contract.families.stable_diffusion import STABLE_DIFFUSION

FAMILIES: Final[tuple[Family, ...]] = (STABLE_DIFFUSION,)


def family_of(pipeline_class: str) -> Family | None:
    """The family whose models name `pipeline_class` in their model_index.json, or None."""
    return next((f for f in FAMILIES if pipeline_class in f.covers), None)
