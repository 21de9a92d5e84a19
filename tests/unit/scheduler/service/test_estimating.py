"""What a model needs in each mode, and what a card of some size would do with it."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from scheduler.estimate.table import reference_card
from scheduler.service.estimating import Wish, estimate_model, smallest_card
from scheduler.service.machine import CUDA_CONTEXT
from storage.contract.capability import Mode
from storage.contract.classes import GIB, VRAM_CLASSES
from storage.contract.errors import InputError
from storage.contract.families.references import FLUX_1_DEV, SDXL
from storage.contract.families.registry import FAMILIES
from storage.contract.items import INPAINT, UPSCALE
from storage.contract.models import ModelCard
from storage.testing.factories import make_card

BY_NAME = {family.name: family for family in FAMILIES}


def card_of(name: str) -> ModelCard:
    reference = {"sdxl": SDXL, "flux": FLUX_1_DEV}[name]
    return reference_card(reference, BY_NAME[reference.family])


def takes(name: str, gib: float, **wish: object) -> str | None:
    found = estimate_model(card_of(name), Wish(**wish), vram_bytes=int(gib * GIB))  # type: ignore[arg-type]
    return None if found.takes is None else found.takes.mode.value


def test_the_smaller_the_card_the_slower_the_mode() -> None:
    assert [takes("sdxl", gib, dtype="float16") for gib in (16, 10, 8, 2)] == [
        "resident",
        "lean",
        "phased",
        None,
    ]
    assert [takes("flux", gib) for gib in (48, 24, 12)] == ["resident", "offload", "offload"]


def test_what_is_asked_for_replaces_what_the_model_does_itself() -> None:
    own = estimate_model(card_of("sdxl"), Wish())
    assert (own.width, own.height, own.kind, own.takes) == (1024, 1024, "text-to-image", None)
    wish = Wish(width=512, height=768, batch=3, kind=INPAINT, dtype="float32")
    found = estimate_model(card_of("sdxl"), wish)
    assert (found.width, found.height, found.kind) == (512, 768, INPAINT)
    assert found.rungs[0].batch == 3
    assert found.rungs[0].mode is Mode.RESIDENT


def test_a_cpu_needs_no_card_and_is_not_asked_whether_it_fits_one() -> None:
    rungs = estimate_model(card_of("sdxl"), Wish(), vram_bytes=8 * GIB).rungs
    for rung in rungs:
        assert (rung.fits is None) == rung.mode.on_cpu
        assert (rung.card is None) == rung.mode.on_cpu


def test_a_kind_the_family_does_not_do_is_answered_with_those_it_does() -> None:
    with pytest.raises(InputError, match="do not do upscale; they do: text-to-image, "):
        estimate_model(card_of("sdxl"), Wish(kind=UPSCALE))


@pytest.mark.parametrize("side", [0, 1, 1023, 4])
def test_a_size_the_family_cannot_make_is_refused(side: int) -> None:
    with pytest.raises(InputError, match="must be divisible by 8 and at least 8"):
        estimate_model(card_of("sdxl"), Wish(width=side or -8))


def test_a_model_no_record_covers_says_so() -> None:
    found = estimate_model(make_card(pipeline="SomethingNewPipeline"), Wish())
    assert found.plain
    assert [rung.mode for rung in found.rungs] == [Mode.RESIDENT, Mode.CPU]


@given(st.integers(0, 200 * GIB))
def test_the_smallest_card_has_room_and_the_next_smaller_has_not(needed: int) -> None:
    label = smallest_card(needed)
    rooms = {name: gib * GIB - CUDA_CONTEXT for name, gib in VRAM_CLASSES.items() if gib}
    fitting = [name for name, room in rooms.items() if room >= needed]
    assert label == (fitting[0] if fitting else None)
