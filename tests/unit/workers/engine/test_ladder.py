from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from storage.contract.capability import Mode, ModeNeed
from storage.contract.items import BatchShape
from workers.engine.families.base import Phase
from workers.engine.ladder import Rung, first_rung, next_rung

SHAPE = BatchShape(encode=8, denoise=4, decode=2)


def begun(mode: Mode, batch: int = 0, tiled: bool = False) -> Rung:
    return first_rung(ModeNeed(mode=mode, memory_bytes=0, batch=batch, tiled=tiled), SHAPE)


def test_modes_that_leave_pixels_alone_come_first() -> None:
    lean = next_rung(begun(Mode.RESIDENT), Phase.DENOISE)
    assert lean is not None
    phased = next_rung(lean, Phase.DENOISE)
    assert phased is not None

    assert (lean.mode, phased.mode) == (Mode.LEAN, Mode.PHASED)
    assert phased.shape == SHAPE


def test_weights_that_do_not_fit_need_another_mode_and_no_smaller_batch() -> None:
    rung = next_rung(begun(Mode.PHASED), None)

    assert rung is not None
    assert (rung.mode, rung.shape) == (Mode.OFFLOAD, SHAPE)
    assert next_rung(rung, None) is None


def test_streaming_begins_at_the_whole_batch_again() -> None:
    rung = begun(Mode.PHASED, batch=1)
    assert rung.steps == ("batch 1",)

    streamed = next_rung(rung, Phase.DENOISE)

    assert streamed is not None
    assert streamed.shape == SHAPE
    assert streamed.steps == ("mode offload",)


def test_a_smaller_batch_is_decoded_no_wider() -> None:
    assert begun(Mode.PHASED, batch=1).shape == BatchShape(encode=8, denoise=1, decode=1)


@given(
    mode=st.sampled_from(list(Mode)),
    phases=st.lists(st.sampled_from([None, *Phase]), min_size=40, max_size=40),
    shape=st.builds(
        BatchShape,
        encode=st.integers(1, 16),
        denoise=st.integers(1, 16),
        decode=st.integers(1, 16),
    ),
)
def test_the_ladder_ends_and_says_every_step(
    mode: Mode, phases: list[Phase | None], shape: BatchShape
) -> None:
    rung = first_rung(ModeNeed(mode=mode, memory_bytes=0), shape)
    seen = {rung}
    for phase in phases:
        below = next_rung(rung, phase)
        if below is None:
            return
        assert below not in seen
        assert below.steps
        assert below.steps[-1] not in rung.steps
        assert min(below.shape.encode, below.shape.denoise, below.shape.decode) >= 1
        seen.add(below)
        rung = below
    pytest.fail("the ladder does not end")
