"""Printing for people and for programs."""

from __future__ import annotations

import io
import json
import time
import unicodedata
from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console
from rich.text import Text

from scheduler.cli import console
from storage.contract.items import Lora, Upscaler
from storage.testing.factories import make_spec


def printed(renderable: object, *, width: int = 60) -> str:
    file = io.StringIO()
    Console(file=file, width=width, highlight=False, emoji=False).print(renderable)
    return file.getvalue()


@pytest.fixture
def _in_utc(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setenv("TZ", "UTC")
    time.tzset()
    yield
    monkeypatch.undo()
    time.tzset()


@pytest.mark.parametrize(
    ("seconds", "words"),
    [
        (0, "0.0 s"),
        (0.44, "0.4 s"),
        (9.94, "9.9 s"),
        (10, "10 s"),
        (59.4, "59 s"),
        (59.6, "1 m 00 s"),
        (128, "2 m 08 s"),
        (3599.4, "59 m 59 s"),
        (3599.6, "1 h 00 m"),
        (3900, "1 h 05 m"),
        (47 * 3600, "47 h 00 m"),
        (48 * 3600, "2 d 0 h"),
        (10**7, "115 d 17 h"),
    ],
)
def test_durations_are_told_in_two_units(seconds: float, words: str) -> None:
    assert console.duration(seconds) == words


@pytest.mark.parametrize(
    ("count", "words"),
    [
        (0, "0 B"),
        (1023, "1023 B"),
        (1024, "1.0 KiB"),
        (1536, "1.5 KiB"),
        (5 << 20, "5.0 MiB"),
        (3 << 30, "3.0 GiB"),
        (2 << 40, "2.0 TiB"),
        (5 << 50, "5120.0 TiB"),
    ],
)
def test_sizes_are_told_in_binary_units(count: float, words: str) -> None:
    assert console.size(count) == words


@pytest.mark.usefixtures("_in_utc")
@pytest.mark.parametrize(
    ("at", "words"), [(None, ""), (0.0, "1970-01-01 00:00"), (1.7e9, "2023-11-14 22:13")]
)
def test_moments_are_told_by_date_and_time(at: float | None, words: str) -> None:
    assert console.moment(at) == words


def test_text_for_a_table_has_no_line_ends() -> None:
    assert console.one_line(" a\r\n\tb \n") == "a b"


@pytest.mark.parametrize(
    ("model", "shown"),
    [
        ("starter", "starter"),
        (
            "stable-diffusion-v1-5/stable-diffusion-v1-5",
            "stable-diffusion-v1-5/stable-diffusion-v1-5",
        ),
        ("/data/models/my-model", ".../my-model"),
        ("/data/[red]model", ".../[red]model"),
    ],
)
def test_a_model_is_named_by_its_last_part_if_it_is_a_folder(model: str, shown: str) -> None:
    assert Text.from_markup(console.short_model(model)).plain == shown


def test_settings_of_a_group_fit_a_table() -> None:
    spec = make_spec(scheduler="EulerDiscreteScheduler", guidance_scale=7.5)
    assert console.settings(spec) == "64x64, 2 steps, cfg 7.5, EulerDiscrete"


MARKUP = st.text(st.sampled_from("\\[]/ab#@=1. ")) | st.text()


@given(MARKUP)
def test_escaped_text_is_shown_as_it_is(text: str) -> None:
    plain = Text.from_markup(console.escaped(text), emoji=False).plain
    assert len(plain) == len(text)
    assert all(
        now == before or unicodedata.category(before) == "Cc"
        for now, before in zip(plain, text, strict=True)
    )


@given(st.text(st.characters(categories=["Cc"]) | st.characters(codec="ascii")))
def test_no_control_character_reaches_the_terminal(text: str) -> None:
    shown = console.visible(text)
    assert {c for c in shown if unicodedata.category(c) == "Cc"} <= {"\t", "\n"}


def test_an_escape_sequence_is_shown_and_not_obeyed() -> None:
    assert console.visible("a\x1b[31m\tb\n\x7f\x9b") == "a␛[31m\tb\n␡\ufffd"
    assert printed(console.facts([("prompt", "a\x1b[2J")])) == "prompt  a␛[2J\n"


def test_facts_are_names_and_values_and_leave_out_what_is_not_there() -> None:
    said = printed(
        console.facts(
            [("rows", 0), ("none", None), ("empty", ""), ("path", "/a/[old]/b\\[/x]"), ("", "more")]
        )
    )
    assert [line.rstrip() for line in said.splitlines()] == [
        "rows  0",
        "path  /a/[old]/b\\[/x]",
        "      more",
    ]


def test_a_long_value_is_folded_and_not_cut() -> None:
    said = printed(console.facts([("path", "x" * 200)]), width=40)
    assert said.count("x") == 200


def test_only_the_wide_column_of_a_table_is_cut() -> None:
    made = console.table("image", "prompt", right=("image",), wide="prompt")
    made.add_row("shapes/1", "y" * 200)
    head, row = printed(made, width=40).splitlines()
    assert head.split() == ["image", "prompt"]
    assert row.startswith("shapes/1")
    assert row.rstrip().endswith("…")
    assert len(row) == 40


def test_json_is_one_document(capsys: pytest.CaptureFixture[str]) -> None:
    console.print_json({"spec": make_spec(), "text": "日本\n", "none": None, "list": [1, 2.5]})
    said = capsys.readouterr().out
    assert said.endswith("}\n")
    found = json.loads(said)
    assert found["spec"]["width"] == 64
    assert found["text"] == "日本\n"


def test_a_groups_settings_say_what_it_is_made_from() -> None:
    plain = make_spec()
    rich = make_spec(
        kind="image-to-image", strength=0.5, loras=(Lora(id="a"),), upscaler=Upscaler(model="u")
    )

    assert console.settings(plain) == "64x64, 2 steps, cfg 4, ddim"
    assert console.settings(rich) == (
        "64x64, image-to-image, strength 0.5, 1 LoRAs, upscaled, 2 steps, cfg 4, ddim"
    )
