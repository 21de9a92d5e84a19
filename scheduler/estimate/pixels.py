"""Pixels that are computed for an image, which are not always those it has. Pure."""

from __future__ import annotations

from storage.contract.items import GroupSpec
from storage.contract.models import ModelCard


def computed_pixels(card: ModelCard, spec: GroupSpec) -> int:
    """Pixels of one image on the device.

    A family with bins computes at the model's own size nearest in shape, and brings the picture
    to the size that was asked for; all those sizes have about the same area.
    """
    return card.width * card.height if card.family.binned else spec.pixels
