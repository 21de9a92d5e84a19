from __future__ import annotations

from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from storage.contract.output import (
    DEFAULT_QUALITY,
    Embed,
    ImageFormat,
    OutputOptions,
    SafetyRule,
    Watermark,
    conflict,
    decode_output,
    field_problem,
    options_from,
)

GOOD: dict[str, list[Any]] = {
    "format": list(ImageFormat),
    "quality": [1, 90, 100],
    "png_level": [0, 1, 9],
    "metadata": list(Embed),
    "thumbnails": [True, False],
    "safety": list(SafetyRule),
    "safety_model": ["CompVis/stable-diffusion-safety-checker", "/models/checker"],
    "watermark": ["family", "off", "ours", "x" * 32, "é" * 16],
    "c2pa": [True, False],
}

BAD: dict[str, list[Any]] = {
    "format": ["gif", "PNG", 1, None, ""],
    "quality": [0, 101, "90", 90.0, True, None],
    "png_level": [-1, 10, "1"],
    "metadata": ["all", True],
    "thumbnails": ["yes", 1],
    "safety": ["on", True, False],
    "safety_model": ["", "  ", 1, "x" * 501],
    "watermark": ["", " ", "x" * 33, "é" * 17, "a\nb", "a\0b", True, 5],
    "c2pa": ["yes", 1],
}

values = pytest.mark.parametrize


@values(("name", "value"), [(name, value) for name in GOOD for value in GOOD[name]])
def test_what_is_good_is_taken(name: str, value: Any) -> None:
    assert field_problem(name, value) is None
    options_from({name: value})


@values(("name", "value"), [(name, value) for name in BAD for value in BAD[name]])
def test_what_is_bad_is_said(name: str, value: Any) -> None:
    said = field_problem(name, value)

    assert said is not None
    assert said.startswith(("must be", "may have"))


def test_every_field_has_its_check() -> None:
    assert set(GOOD) == set(OutputOptions.__struct_fields__)
    assert "is not known" in str(field_problem("qualty", 90))


@st.composite
def asked(draw: st.DrawFn) -> dict[str, Any]:
    names = draw(st.sets(st.sampled_from(sorted(GOOD))))
    return {name: draw(st.sampled_from(GOOD[name])) for name in names}


@given(asked())
def test_options_travel_as_json(values: dict[str, Any]) -> None:
    options = options_from(values)

    assert decode_output(options.encode()) == options
    assert msgspec.json.decode(msgspec.json.encode(options), type=OutputOptions) == options


def test_the_defaults_take_no_room_in_the_ledger() -> None:
    assert OutputOptions().encode() == ""
    assert options_from({"watermark": "off", "format": "png"}).encode() == ""


@values(
    ("said", "field"),
    [
        ({"quality": 90}, "quality"),
        ({"format": "webp-lossless", "quality": 90}, "quality"),
        ({"format": "jpeg", "png_level": 9}, "png_level"),
        ({"safety_model": "some/checker"}, "safety_model"),
    ],
)
def test_what_contradicts_itself_is_refused(said: dict[str, Any], field: str) -> None:
    found = conflict(options_from(said))

    assert found is not None
    assert found[0] == field


@values(
    "said",
    [
        {},
        {"format": "jpeg", "quality": 90},
        {"png_level": 9},
        {"safety": "blur", "safety_model": "some/checker"},
    ],
)
def test_what_agrees_is_taken(said: dict[str, Any]) -> None:
    assert conflict(options_from(said)) is None


@values("form", ImageFormat)
def test_formats_know_their_names(form: ImageFormat) -> None:
    assert form.media_type in ("image/png", "image/webp", "image/jpeg", "image/avif")
    assert form.extension in ("png", "webp", "jpg", "avif")
    assert OutputOptions(format=form).effective_quality == DEFAULT_QUALITY.get(form)
    assert (form in DEFAULT_QUALITY) != form.is_lossless


@values(
    ("watermark", "verified"),
    [
        (Watermark(bits=32, wrong=0), True),
        (Watermark(bits=32, wrong=1), False),
        (Watermark(note="too small"), False),
    ],
)
def test_a_watermark_is_verified_if_every_bit_was_read(
    watermark: Watermark, verified: bool
) -> None:
    assert watermark.is_verified is verified
