"""Names by a template."""

from __future__ import annotations

import re
import unicodedata
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from scheduler.service.export.names import (
    DEFAULT_TEMPLATE,
    check_template,
    folded,
    name_by,
    numbered,
    safe_part,
)
from storage.contract.errors import InputError
from storage.objects.names import is_key

VALUES = {"job": "foxes", "prompt": "a red fox in the snow", "seed": 7, "item": 12,
          "guidance_scale": 7.5, "tag.Kind": "a/b", "model": None}  # fmt: skip


def name(template: str, extension: str = "png", **values: Any) -> str:
    return name_by(template, lambda field: (VALUES | values)[field], extension)


@pytest.mark.parametrize(
    ("template", "made"),
    [
        ("{job}/{prompt:.9}-{seed}.png", "foxes/a red fox-7.png"),
        (DEFAULT_TEMPLATE, "foxes/000012-a red fox in the snow.png"),
        ("{seed:012d}.{ext}", "000000000007.png"),
        ("{guidance_scale}", "7.5.png"),
        ("{tag.Kind}/{seed}.jpg", "a-b/7.png"),
        ("{model}", "_.png"),
        ("../../{job}", "_/_/foxes.png"),
        ("/etc/{job}", "_/etc/foxes.png"),
        ("C:\\x\\{job}", "C--x-foxes.png"),
        ("{{{job}}}", "{foxes}.png"),
    ],
)
def test_templates_make_names(template: str, made: str) -> None:
    assert name(template) == made


@pytest.mark.parametrize(
    "prompt", ["../../etc/passwd", "..\\..\\x", "/", "con", "NUL.txt", "COM¹", "a\0b", ". .", "-"]
)
def test_a_prompt_leads_nowhere(prompt: str) -> None:
    made = name("{job}/{prompt}", prompt=prompt)
    assert made.startswith("foxes/")
    assert made.count("/") == 1
    assert is_key(made)


def test_the_ending_is_that_of_the_file() -> None:
    assert name("{seed}.png", "webp") == "7.webp"
    assert name("{seed}.tiff", "webp") == "7.tiff.webp"


@pytest.mark.parametrize(
    ("template", "said"),
    [
        ("{}", "{} is no field"),
        ("{path}", "{path} is no field"),
        ("{job.__class__}", "is no field"),
        ("{job[0]}", "is no field"),
        ("{job!r}", "!r is not understood"),
        ("{prompt:>40}", "takes a length"),
        ("{seed:{item}}", "takes a width"),
        ("{seed:999999d}", "takes a width"),
        ("{job", "expected '}'"),
        ("a/" * 9, "makes more than 6 folders"),
        ("x" * 301, "is longer than 300"),
        ("{tag.}", "is no field"),
    ],
)
def test_what_no_template_is_is_said(template: str, said: str) -> None:
    with pytest.raises(InputError, match=re.escape(said)):
        check_template(template)


@given(st.text(max_size=400))
def test_every_part_is_safe_everywhere(text: str) -> None:
    part = safe_part(text)
    assert is_key(part)
    assert len(part.encode()) <= 160
    assert not re.search(r'[<>:"/\\|?*]', part)
    assert part == part.strip(". ")
    assert not any(unicodedata.category(one)[0] == "C" for one in part)
    assert safe_part(part) == part or len(text.encode(errors="replace")) > 100
    assert part.split(".")[0].casefold() not in {"con", "prn", "aux", "nul", "com1", "lpt9"}


def test_names_that_some_disk_takes_for_the_same_are_the_same() -> None:
    assert folded("Fox.PNG") == folded("fox.png")
    assert folded("e\u0301") == folded("é")
    assert numbered("a/b.c.png", 2) == "a/b.c-2.png"
