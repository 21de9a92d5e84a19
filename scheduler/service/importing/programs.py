"""Metadata that is JSON: InvokeAI's, SwarmUI's, our own; and dgenerate's script.

sd-parsers looks for a model's name where InvokeAI had it until 2023, and knows neither SwarmUI
nor dgenerate.
"""

from __future__ import annotations

import json
import shlex
from collections.abc import Mapping
from typing import Any, Final

import msgspec

from scheduler.service.importing.described import (
    Described,
    real,
    sampler_of,
    some,
    text_of,
    whole,
)
from storage.contract.claims import Rendering

OURS: Final = "rendermill"
INVOKE: Final = "InvokeAI"
SWARM: Final = "SwarmUI"
DGENERATE: Final = "dgenerate"


def invokeai(text: str) -> Described | None:
    """The JSON of ``invokeai_metadata``."""
    said = _object(text)
    if said is None or not {"positive_prompt", "app_version", "seed"} & said.keys():
        return None
    model = said.get("model")
    named: Mapping[str, Any] = model if isinstance(model, dict) else {}
    loras = said.get("loras")
    return Described(
        program=INVOKE,
        prompt=text_of(said.get("positive_prompt")),
        negative_prompt=text_of(said.get("negative_prompt")),
        model=text_of(named.get("name")) or text_of(named.get("model_name")) or text_of(model),
        seed=whole(said.get("seed")),
        steps=whole(said.get("steps")),
        cfg=real(said.get("cfg_scale")),
        sampler=sampler_of(said.get("scheduler")),
        tags=some(
            {
                "model_hash": text_of(named.get("hash")),
                "app_version": text_of(said.get("app_version")),
                "loras": ", ".join(_lora_names(loras)) if isinstance(loras, list) else "",
            }
        ),
    )


def swarmui(text: str) -> Described | None:
    """The JSON with ``sui_image_params``; its values may be texts."""
    said = _object(text) if "sui_image_params" in text else None
    asked = said.get("sui_image_params") if said else None
    if said is None or not isinstance(asked, dict):
        return None
    models = said.get("sui_models")
    hashes = [one.get("hash") for one in _objects(models) if one.get("param") == "model"]
    return Described(
        program=SWARM,
        prompt=text_of(asked.get("prompt")),
        negative_prompt=text_of(asked.get("negativeprompt")),
        model=text_of(asked.get("model")),
        seed=whole(asked.get("seed")),
        steps=whole(asked.get("steps")),
        cfg=real(asked.get("cfgscale")),
        sampler=sampler_of(asked.get("sampler"), asked.get("scheduler")),
        tags=some(
            {
                "model_hash": text_of(hashes[0]) if hashes else "",
                "swarm_version": text_of(asked.get("swarm_version")),
            }
        ),
    )


def dgenerate(text: str) -> Described | None:
    """A script of one invocation: the model, then options; a prompt's negative follows a ``;``."""
    if "dgenerate" not in text and "--prompts" not in text:
        return None
    lines = [line for line in text.splitlines() if not line.lstrip().startswith(("#", "\\"))]
    try:
        words = shlex.split("\n".join(lines).replace("\\\n", " "))
    except ValueError:
        return None
    if not words or words[0].startswith("-"):
        return None
    asked = _options(words[1:])
    if "prompts" not in asked and "seeds" not in asked:
        return None
    prompt, _, negative = asked.get("prompts", "").partition(";")
    return Described(
        program=DGENERATE,
        prompt=prompt.strip(),
        negative_prompt=negative.strip(),
        model=words[0],
        revision=asked.get("revision"),
        seed=whole(asked.get("seeds")),
        steps=whole(asked.get("inference-steps")),
        cfg=real(asked.get("guidance-scales")),
        sampler=sampler_of(asked.get("scheduler", asked.get("schedulers", "")).partition(";")[0]),
        tags=some({"model_type": asked.get("model-type")}),
    )


def ours(record: Mapping[str, Any]) -> Described | None:
    """Our own record: a manifest row, and how it was rendered."""
    item = record.get("item")
    if not isinstance(item, dict):
        return None
    tags = item.get("tags")
    return Described(
        program=OURS,
        prompt=text_of(item.get("prompt")),
        negative_prompt=text_of(item.get("negative_prompt")),
        model=text_of(item.get("model")),
        revision=text_of(item.get("revision")) or None,
        seed=whole(item.get("seed")),
        steps=whole(item.get("num_inference_steps")),
        cfg=real(item.get("guidance_scale")),
        sampler=text_of(item.get("scheduler")),
        tags=some(tags) if isinstance(tags, dict) else {},
        render_key=text_of(record.get("render_key")) or None,
        rendering=_rendering(record.get("rendering")),
    )


def _rendering(said: object) -> str | None:
    """As JSON, if it is what it should be."""
    try:
        return msgspec.json.encode(msgspec.convert(said, Rendering)).decode()
    except msgspec.ValidationError:
        return None


def _options(words: list[str]) -> dict[str, str]:
    """Long options with their first value."""
    found: dict[str, str] = {}
    for word, value in zip(words, [*words[1:], ""], strict=True):
        if word.startswith("--"):
            found.setdefault(word[2:], "" if value.startswith("--") else value)
    return found


def _lora_names(loras: list[Any]) -> list[str]:
    models = [one.get("model", one.get("lora")) for one in _objects(loras)]
    return [name for one in _objects(models) if (name := text_of(one.get("name")))]


def _objects(value: object) -> list[dict[str, Any]]:
    return [one for one in value if isinstance(one, dict)] if isinstance(value, list) else []


def _object(text: str) -> dict[str, Any] | None:
    try:
        said = json.loads(text)
    except (ValueError, RecursionError):
        return None
    return said if isinstance(said, dict) else None
