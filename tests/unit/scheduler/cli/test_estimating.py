"""``rendermill estimate``."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest

from scheduler.cli import console, estimating
from scheduler.cli.estimating import parse_size
from storage.contract.errors import InputError
from storage.testing.factories import make_card

Program = Callable[..., Any]

SD15 = make_card(
    model="someone/sd15",
    revision="a" * 40,
    width=512,
    height=512,
    parameters={"text_encoder": 123_060_480, "unet": 859_520_964, "vae": 83_653_863},
    weight_bytes=2_130_000_000,
    licence="own-1.0",
)


@pytest.fixture(autouse=True)
def _cards(monkeypatch: pytest.MonkeyPatch) -> None:
    cards = {"sd15": SD15, "new": make_card(pipeline="SomethingNewPipeline")}
    monkeypatch.setattr(estimating, "describe", lambda model, revision: cards[model])


def test_the_table_names_modes_and_what_a_card_would_do(program: Program) -> None:
    printed = program("estimate", "sd15", "--vram", "8", at=None)
    assert printed.code == 0
    assert printed.out.splitlines()[0].split() == ["mode", "batch", "memory", "card", "speed"]
    for mode in ("resident", "lean", "phased", "offload", "cpu", "cpu-phased"):
        assert f"\n{mode} " in printed.out
    assert "a card of 8 GiB renders it resident in batches of 4" in printed.out
    assert "own-1.0" in printed.out


def test_a_card_that_is_too_small_is_told(program: Program) -> None:
    printed = program("estimate", "sd15", "--vram", "0.9", "--size", "1024", at=None)
    assert "does not fit 0.9 GiB in any mode; a CPU can do it" in printed.out


def test_the_table_fits_a_terminal(program: Program, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(console.out, "width", 80)
    printed = program("estimate", "sd15", "--size", "1024x768", "--batch", "16", at=None)
    assert max(len(line) for line in printed.out.splitlines()) <= 80


def test_a_program_gets_all_of_it(program: Program) -> None:
    options = ("--json", "--vram", "8", "--size", "768", "--batch", "2", "--dtype", "float32")
    found = json.loads(program("estimate", "sd15", *options, at=None).out)
    assert (found["width"], found["height"], found["dtype"]) == (768, 768, "float32")
    assert found["takes"] in found["rungs"]
    assert found["rungs"][0]["batch"] == 2
    assert found["vram_bytes"] == 8 << 30
    assert found["parameters"] == SD15.parameters


def test_a_model_no_record_covers_is_said_to_go_through_the_plain_call(program: Program) -> None:
    printed = program("estimate", "new", at=None)
    assert "no record covers this pipeline" in " ".join(printed.out.split())


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (("--size", "large"), "--size 'large': must be like 1024 or 1024x768"),
        (("--dtype", "int3"), "--dtype 'int3': must be one of auto, float32"),
        (("--kind", "video"), "--kind 'video': must be one of text-to-image"),
        (("--kind", "upscale"), "do not do upscale; they do: text-to-image"),
    ],
)
def test_what_makes_no_sense_is_answered_with_what_does(
    program: Program, options: tuple[str, ...], said: str
) -> None:
    printed = program("estimate", "sd15", *options, at=None)
    assert printed.code != 0
    assert said in " ".join(printed.err.split())


def test_a_size_is_a_side_or_two() -> None:
    assert parse_size(None) == (None, None)
    assert parse_size("512") == (512, 512)
    assert parse_size("1024x768") == (1024, 768)
    for wrong in ("", "x", "512x", "1e3", "-8", "512x512x3"):
        with pytest.raises(InputError):
            parse_size(wrong)
