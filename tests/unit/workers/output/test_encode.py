from __future__ import annotations

import io

import msgspec
import numpy as np
import pytest
from PIL import Image
from sd_parsers import ParserManager

from storage.contract.output import Embed, ImageFormat, OutputOptions
from storage.embedded.read import read_embedded
from storage.embedded.xmp import SourceType
from storage.testing.factories import make_item, make_spec
from tests.unit.workers.output.test_metadata import make_rendering, make_task
from workers.output.encode import Texts, decode_picture, encode_picture, encode_thumbnail
from workers.output.metadata import texts_of

PIXELS = np.random.default_rng(0).integers(0, 256, (40, 56, 3), dtype=np.uint8)

formats = pytest.mark.parametrize("form", ImageFormat, ids=str)

PROMPTS = {
    "plain": "a fox in the snow",
    "latin": "naïve café",
    "unicode": "星 ⭐ 🦊 ünïcode\nsecond line",
    "long": "word " * 2000,
    "markup": "a <b>&amp; ]]> \"quoted\" 'text' \\ \x01\x1f\x7f\x85￾ end",
    "negative": "a fox\nNegative prompt: a trap\nSteps: 1, Sampler: x, Seed: 2",
    "brackets": "(red:1.3), [blue], {a|b} <lora:x:0.8>, __colour__",
}


def options(form: ImageFormat, **more: object) -> OutputOptions:
    return msgspec.structs.replace(OutputOptions(format=form), **more)


def encoded(form: ImageFormat, prompt: str, *, embed: Embed = Embed.FULL) -> tuple[bytes, Texts]:
    item = make_item(0, prompt=prompt, negative_prompt=f"not {prompt}")
    task = make_task(spec=make_spec(scheduler="euler_a"), output=options(form, metadata=embed))
    texts = texts_of(item, 0, task, make_rendering(), key="the key", pixels="the pixels")
    return encode_picture(PIXELS, task.output, texts), texts


@formats
@pytest.mark.parametrize("prompt", PROMPTS.values(), ids=PROMPTS)
def test_what_a_file_says_is_read_back_whole(form: ImageFormat, prompt: str) -> None:
    data, texts = encoded(form, prompt)

    found = read_embedded(data)

    assert found.format == form.media_type.partition("/")[2].upper()
    assert (found.width, found.height) == (56, 40)
    assert found.parameters == texts.parameters
    assert found.record is not None
    assert found.record == msgspec.json.decode(str(texts.record))
    assert found.record["item"]["prompt"] == prompt
    assert found.record["pixels_sha256"] == "the pixels"
    assert found.source_type == SourceType.MADE


@pytest.mark.parametrize("size", [30_000, 65_000, 200_000, 1_000_000])
@formats
def test_a_record_of_any_length_is_read_back(form: ImageFormat, size: int) -> None:
    record = '{"prompt":"' + "星⭐<&" * (size // 8) + '"}'
    texts = Texts(parameters="p", record=record, source=SourceType.COMPOSED)

    found = read_embedded(encode_picture(PIXELS, options(form), texts))

    assert found.record == msgspec.json.decode(record)
    assert found.source_type == SourceType.COMPOSED
    assert found.parameters == "p"


def test_a_comment_too_long_for_a_jpeg_is_left_to_the_record() -> None:
    texts = Texts(parameters="星" * 40_000, record='{"a":1}', source=SourceType.MADE)

    found = read_embedded(encode_picture(PIXELS, options(ImageFormat.JPEG), texts))

    assert found.parameters is None
    assert found.record == {"a": 1}


@formats
def test_the_same_picture_is_the_same_file(form: ImageFormat) -> None:
    assert encoded(form, "a fox")[0] == encoded(form, "a fox")[0]


@formats
def test_a_file_that_shall_say_nothing_says_nothing(form: ImageFormat) -> None:
    data, _ = encoded(form, "a secret fox", embed=Embed.NONE)

    found = read_embedded(data)

    assert (found.parameters, found.record, found.source_type) == (None, None, None)
    assert b"secret" not in data
    assert "secret".encode("utf-16-be") not in data
    assert b"trainedAlgorithmicMedia" not in data


@formats
def test_a_file_that_shall_say_little_says_that_a_model_made_it(form: ImageFormat) -> None:
    data, _ = encoded(form, "a secret fox", embed=Embed.MINIMAL)

    found = read_embedded(data)

    assert found.source_type == SourceType.MADE
    assert found.record == {"format": 1, "render_key": "the key"}
    assert found.parameters is None
    assert b"secret" not in data
    assert "secret".encode("utf-16-be") not in data


@pytest.mark.parametrize("form", [ImageFormat.PNG, ImageFormat.WEBP_LOSSLESS], ids=str)
def test_lossless_files_keep_every_pixel(form: ImageFormat) -> None:
    assert form.is_lossless
    assert np.array_equal(decode_picture(encode_picture(PIXELS, options(form))), PIXELS)


@pytest.mark.parametrize("form", [ImageFormat.WEBP, ImageFormat.JPEG, ImageFormat.AVIF], ids=str)
def test_a_higher_quality_is_larger_and_nearer(form: ImageFormat) -> None:
    low, high = (encode_picture(PIXELS, options(form, quality=q)) for q in (30, 95))

    def distance(data: bytes) -> float:
        return float(np.abs(decode_picture(data).astype(int) - PIXELS).mean())

    assert len(high) > len(low)
    assert distance(high) < distance(low)


@pytest.mark.parametrize(("quality", "sampling"), [(95, (1, 1)), (90, (1, 1)), (80, (2, 2))])
def test_jpeg_keeps_colour_whole_at_high_quality(quality: int, sampling: tuple[int, int]) -> None:
    data = encode_picture(PIXELS, options(ImageFormat.JPEG, quality=quality))

    with Image.open(io.BytesIO(data)) as picture:
        assert picture.layer[0][1:3] == sampling  # type: ignore[attr-defined]


def test_a_higher_png_level_makes_smaller_files() -> None:
    flat = np.tile(np.arange(64, dtype=np.uint8)[:, None, None], (4, 64, 3))

    sizes = [len(encode_picture(flat, options(ImageFormat.PNG, png_level=n))) for n in (0, 1, 9)]

    assert sizes == sorted(sizes, reverse=True)
    assert sizes[0] > sizes[2]


@pytest.mark.parametrize("form", sorted(set(ImageFormat) - {ImageFormat.AVIF}), ids=str)
def test_other_programs_read_prompt_and_settings(form: ImageFormat) -> None:
    data, _ = encoded(form, "a fox 星,\nin the snow")

    found = ParserManager().parse(Image.open(io.BytesIO(data)))

    assert found is not None
    assert [prompt.value for prompt in found.prompts] == ["a fox 星,\nin the snow"]
    assert [prompt.value for prompt in found.negative_prompts] == ["not a fox 星,\nin the snow"]
    (sampler,) = found.samplers
    assert sampler.name == "Euler a"
    assert sampler.parameters["seed"] == "0"


@pytest.mark.parametrize(
    ("size", "expected"), [((512, 1024), (128, 256)), ((64, 64), (64, 64)), ((1, 900), (1, 256))]
)
def test_a_thumbnail_fits_its_square_and_keeps_the_shape(
    size: tuple[int, int], expected: tuple[int, int]
) -> None:
    width, height = size
    data = encode_thumbnail(np.zeros((height, width, 3), dtype=np.uint8))

    with Image.open(io.BytesIO(data)) as picture:
        assert picture.size == expected
        assert picture.format == "WEBP"
