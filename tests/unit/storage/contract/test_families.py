"""Model families."""

from __future__ import annotations

import pytest

from storage.contract.families.record import Family
from storage.contract.families.registry import FAMILIES, family_of
from storage.contract.families.stable_diffusion import STABLE_DIFFUSION
from storage.testing.factories import make_card


@pytest.mark.parametrize("family", FAMILIES, ids=lambda one: one.name)
def test_a_family_covers_its_pipelines_and_no_other_family_does(family: Family) -> None:
    assert family.covers
    assert [family_of(name) for name in family.covers] == [family] * len(family.covers)


@pytest.mark.parametrize("family", FAMILIES, ids=lambda one: one.name)
def test_components_come_in_the_order_of_the_phases(family: Family) -> None:
    encoders = tuple(encoder for _, encoder in family.text_encoders)
    assert family.components == (*encoders, family.denoiser, family.vae)


@pytest.mark.parametrize("family", FAMILIES, ids=lambda one: one.name)
def test_the_smallest_size_is_one_the_model_can_render(family: Family) -> None:
    assert family.min_size > 0
    assert family.min_size % family.size_multiple == 0


def test_a_pipeline_no_family_covers_has_none() -> None:
    assert family_of("Lumina2Pipeline") is None
    assert make_card(pipeline="Lumina2Pipeline").is_plain


def test_a_card_knows_its_family() -> None:
    assert make_card().family is STABLE_DIFFUSION
