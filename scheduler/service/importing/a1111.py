"""Automatic1111's ``parameters``: prompt, negative prompt, and a last line of settings.

Written anew rather than taken from sd-parsers, which splits the line at every comma: values in
quotes (models named with commas, hashes) are lost there.
"""

from __future__ import annotations

import json
import re
from typing import Final

from scheduler.service.importing.described import (
    Described,
    real,
    sampler_of,
    some,
    text_of,
    whole,
)

PROGRAM: Final = "Automatic1111"

_PAIR: Final = re.compile(r'\s*([\w][\w \-/]*):\s*("(?:\\.|[^\\"])*"|[^,]*)(?:,|$)')
_NEGATIVE: Final = "Negative prompt:"
_FEWEST: Final = 3
"""Pairs that make a line one of settings, as that program has it."""


def described(text: str) -> Described | None:
    """What the text says; None if it is none of that program's."""
    lines = text.strip().split("\n")
    pairs = _pairs(lines[-1])
    if len(pairs) < _FEWEST or "Steps" not in pairs:
        return None
    prompt, negative = _prompts(lines[:-1])
    return Described(
        program=pairs["Version"] if pairs.get("Version") == "rendermill" else PROGRAM,
        prompt=prompt,
        negative_prompt=negative,
        model=pairs.get("Model") or pairs.get("Model hash") or "",
        seed=whole(pairs.get("Seed")),
        steps=whole(pairs.get("Steps")),
        cfg=real(pairs.get("CFG scale")),
        sampler=sampler_of(pairs.get("Sampler"), pairs.get("Schedule type")),
        tags=some({"model_hash": pairs.get("Model hash"), "vae": pairs.get("VAE")}),
    )


def _pairs(line: str) -> dict[str, str]:
    return {match[1].strip(): _unquoted(match[2].strip()) for match in _PAIR.finditer(line)}


def _unquoted(value: str) -> str:
    if not value.startswith('"'):
        return value
    try:
        return text_of(json.loads(value))
    except ValueError:
        return value.strip('"')


def _prompts(lines: list[str]) -> tuple[str, str]:
    """The prompt's lines, and those of the negative prompt that follow."""
    for number, line in enumerate(lines):
        if line.strip().startswith(_NEGATIVE):
            first = line.strip().removeprefix(_NEGATIVE).strip()
            negative = "\n".join([first, *lines[number + 1 :]])
            return "\n".join(lines[:number]).strip(), negative.strip()
    return "\n".join(lines).strip(), ""
