"""Reading one file: which program made it, and what it says."""

from __future__ import annotations

import io
import warnings
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Final

from PIL import Image

from scheduler.service.importing import a1111, comfyui, diffusiondb, programs
from scheduler.service.importing.described import (
    Described,
    cleaned,
    real,
    sampler_of,
    text_of,
    whole,
)
from storage.embedded.read import PARAMETERS, read_embedded
from storage.thumbnails import FORMATS

_COMMENTS: Final = (programs.swarmui, a1111.described, programs.dgenerate)
"""Programs that write one text; of ``parameters`` chunks, and of EXIF comments."""

_CHUNKS: Final[tuple[tuple[str, Callable[[str], Described | None]], ...]] = (
    ("invokeai_metadata", programs.invokeai),
    ("DgenerateConfig", programs.dgenerate),
    *((PARAMETERS, reader) for reader in _COMMENTS),
    ("prompt", comfyui.described),
)


def described(data: bytes, file: Path) -> Described | None:
    """What a picture's file, or what lies beside it, says; None if nothing does.

    `InputError` if it is no picture that can be read.
    """
    found = _described(data, file)
    return cleaned(found) if found is not None else None


def _described(data: bytes, file: Path) -> Described | None:
    embedded = read_embedded(data)
    if embedded.record is not None and (own := programs.ours(embedded.record)) is not None:
        return own
    chunks = _chunks(data)
    for name, reader in _CHUNKS:
        text = chunks.get(name)
        if text and (found := reader(text)) is not None:
            return found
    for reader in _COMMENTS:
        if embedded.parameters and (found := reader(embedded.parameters)) is not None:
            return found
    return diffusiondb.described(file) or _others(chunks)


def _chunks(data: bytes) -> dict[str, str]:
    """The texts of a PNG file, wherever they lie."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        with Image.open(io.BytesIO(data), formats=FORMATS) as picture:
            if picture.format == "PNG":
                picture.load()  # text may follow the pixels
            found = picture.info.items()
            return {str(name): str(text) for name, text in found if isinstance(text, str)}


def _others(chunks: Mapping[str, str]) -> Described | None:
    """By sd-parsers, where it is installed: Fooocus, NovelAI, InvokeAI's earlier forms.

    Its parsers are called with the texts, not with the file: its reading of EXIF remembers the
    last picture by its place in memory, and may take one for another.
    """
    if not chunks:
        return None
    try:
        from sd_parsers import parsers
        from sd_parsers.exceptions import ParserError
    except ImportError:
        return None
    for parser in (parsers.FooocusParser, parsers.NovelAIParser, parsers.InvokeAIParser):
        try:
            return _converted(parser().parse(dict(chunks)))
        except (ParserError, KeyError, ValueError, TypeError, AttributeError):
            continue
    return None


def _converted(info: Any) -> Described | None:
    if not info.samplers:
        return None
    sampler = info.samplers[0]
    said = sampler.parameters
    return Described(
        program=str(info.generator.value),
        prompt=text_of(info.full_prompt),
        negative_prompt=text_of(info.full_negative_prompt),
        model=str(sampler.model) if sampler.model else "",
        seed=whole(said.get("seed")),
        steps=whole(said.get("steps")),
        cfg=real(said.get("cfg_scale")),
        sampler=sampler_of(sampler.name, said.get("scheduler")),
    )
