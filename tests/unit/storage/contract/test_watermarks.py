from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from storage.contract.watermarks import bits_of, family_bits
from storage.testing.factories import make_card


@given(st.text(st.characters(exclude_categories=["Cs"]), max_size=32))
def test_a_text_becomes_its_bytes_highest_bit_first(text: str) -> None:
    data = np.frombuffer(text.encode(), dtype=np.uint8)

    assert bits_of(text) == tuple(np.unpackbits(data).tolist())


@pytest.mark.parametrize(
    ("pipeline", "layers", "message"),
    [
        ("StableDiffusionPipeline", 12, bits_of("StableDiffusionV1")),
        ("StableDiffusionImg2ImgPipeline", 12, bits_of("StableDiffusionV1")),
        ("StableDiffusionPipeline", 23, bits_of("SDV2")),
        ("StableDiffusionDepth2ImgPipeline", 23, bits_of("SDV2")),
        ("StableDiffusion3Pipeline", 12, None),
        ("SanaPipeline", 12, None),
    ],
)
def test_each_family_has_the_text_its_scripts_wrote(
    pipeline: str, layers: int, message: tuple[int, ...] | None
) -> None:
    assert family_bits(make_card(pipeline=pipeline, text_layers=layers)) == message


def test_the_message_of_sdxl_is_the_one_diffusers_writes() -> None:
    from diffusers.pipelines.stable_diffusion_xl.watermark import WATERMARK_BITS

    found = family_bits(make_card(pipeline="StableDiffusionXLPipeline"))

    assert found is not None
    assert list(found) == WATERMARK_BITS


def test_the_message_of_flux_is_written_without_its_leading_zeros() -> None:
    found = family_bits(make_card(pipeline="FluxPipeline"))

    assert found is not None
    assert (len(found), found[0]) == (46, 1)
