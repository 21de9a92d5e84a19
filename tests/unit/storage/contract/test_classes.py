"""VRAM classes and their queues."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from storage.contract.classes import GIB, VRAM_CLASSES, class_of, queue_of


@pytest.mark.parametrize(
    ("gib", "label"),
    [
        (0, "cpu"),
        (2, "gpu4"),
        (3.9, "gpu4"),
        (7.6, "gpu8"),
        (7.3, "gpu6"),
        (11.7, "gpu12"),
        (15.6, "gpu16"),
        (23.5, "gpu24"),
        (44.4, "gpu48"),
        (79.2, "gpu80"),
        (139.7, "gpu141"),
        (1000, "gpu141"),
    ],
)
def test_a_card_is_in_the_class_it_is_sold_as(gib: float, label: str) -> None:
    assert class_of(int(gib * GIB)) == label


@given(st.integers(0, 200 * GIB), st.integers(0, 200 * GIB))
def test_more_memory_is_never_a_lower_class(one: int, other: int) -> None:
    order = list(VRAM_CLASSES)
    low, high = sorted((one, other))
    assert order.index(class_of(low)) <= order.index(class_of(high))


def test_each_class_has_a_queue_of_its_own() -> None:
    queues = [queue_of(label) for label in VRAM_CLASSES]
    assert len(set(queues)) == len(VRAM_CLASSES)
    assert queue_of("gpu24") == "render.v1.gpu24"


def test_an_unknown_class_is_answered_with_the_known_ones() -> None:
    with pytest.raises(ValueError, match=r"no VRAM class 'gpu5'; there are: cpu, gpu4, gpu6"):
        queue_of("gpu5")
