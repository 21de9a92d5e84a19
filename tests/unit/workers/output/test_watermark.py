from __future__ import annotations

import importlib.util
from typing import Any

import numpy as np
import pytest
from imwatermark import WatermarkDecoder

from storage.contract.errors import OutputUnusable
from storage.contract.output import ImageFormat, OutputOptions
from storage.contract.watermarks import bits_of
from storage.testing.factories import make_card, make_spec
from tests.unit.workers.output.scenery import scenery
from workers.output import watermark
from workers.output.encode import decode_picture, encode_picture


def through(form: ImageFormat, pixels: Any, **more: Any) -> Any:
    return decode_picture(encode_picture(pixels, OutputOptions(format=form, **more)))


@pytest.mark.parametrize("text", ["StableDiffusionV1", "SDV2"])
@pytest.mark.parametrize("form", [ImageFormat.PNG, ImageFormat.WEBP_LOSSLESS], ids=str)
def test_the_official_decoder_reads_the_text_from_the_file(form: ImageFormat, text: str) -> None:
    marked = watermark.marked(scenery(512), bits_of(text))

    kept = through(form, marked)
    decoder = WatermarkDecoder("bytes", 8 * len(text))
    found = decoder.decode(np.ascontiguousarray(kept[..., ::-1]), "dwtDct")

    assert found == text.encode()
    assert watermark.verify(kept, bits_of(text)).is_verified


def test_the_mark_is_hardly_seen() -> None:
    pixels = scenery(512)

    marked = watermark.marked(pixels, bits_of("StableDiffusionV1"))

    error = np.square(marked.astype(float) - pixels).mean()
    assert marked.shape == pixels.shape
    assert marked.dtype == np.uint8
    assert 0 < error < 10  # more than 38 dB


def test_a_text_that_does_not_survive_is_recorded_with_its_wrong_bits() -> None:
    message = bits_of("StableDiffusionV1")
    marked = watermark.marked(scenery(512), message)

    found = watermark.verify(through(ImageFormat.JPEG, marked, quality=20), message)

    assert not found.is_verified
    assert found.bits == 136
    assert found.wrong is not None
    assert 10 < found.wrong <= 136


def test_a_picture_without_a_mark_is_not_taken_for_one_with_it() -> None:
    assert not watermark.verify(scenery(512), bits_of("StableDiffusionV1")).is_verified


@pytest.mark.parametrize(("shape", "large"), [((256, 256), True), ((255, 900), False)])
def test_small_pictures_are_not_marked(shape: tuple[int, int], large: bool) -> None:
    assert watermark.is_large_enough(np.zeros((*shape, 3), dtype=np.uint8)) is large
    assert "256" in str(watermark.too_small().note)


def test_a_jobs_own_text_is_its_bits() -> None:
    assert watermark.message_of(OutputOptions(watermark="ours"), make_spec()) == bits_of("ours")
    assert watermark.message_of(OutputOptions(), make_spec()) is None


def test_the_familys_text_is_found_by_the_models_card() -> None:
    found = watermark.message_of(OutputOptions(watermark="family"), make_spec(model="starter"))

    assert found == bits_of("StableDiffusionV1")


def test_a_family_without_a_text_is_said_before_anything_is_rendered(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    card = make_card(model="some/sana", pipeline="SanaPipeline")
    monkeypatch.setattr(watermark, "describe", lambda *_: card)

    with pytest.raises(OutputUnusable, match="wrote no watermark"):
        watermark.message_of(OutputOptions(watermark="family"), make_spec(model="some/sana"))


def test_a_missing_package_is_said_with_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda _name: None)

    with pytest.raises(OutputUnusable) as caught:
        watermark.message_of(OutputOptions(watermark="ours"), make_spec())
    assert "rendermill[watermark]" in str(caught.value.hint)
