"""What goes into the picture's file: Automatic1111's text, and our own canonical JSON.

Both are functions of the item and of what decided its pixels: no times, no names of machines.
So the same picture is the same file, byte for byte, whoever rendered it.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from functools import lru_cache
from typing import Any, Final

import msgspec

from storage.contract.claims import ClaimedTask, Rendering
from storage.contract.items import GroupSpec, Item
from storage.contract.keys import render_key
from storage.contract.output import Embed, OutputOptions
from storage.contract.record import item_fields
from storage.contract.reuse import ReuseKeys, reuse_keys
from storage.embedded.xmp import SourceType
from workers.engine.ports import Facts, Picture
from workers.output.encode import NO_TEXTS, Texts

FORMAT_VERSION: Final = 1

_AS_MOST: Final = OutputOptions()

_A1111_SAMPLERS: Final = {
    "ddim": "DDIM",
    "plms": "PLMS",
    "euler": "Euler",
    "euler_a": "Euler a",
    "heun": "Heun",
    "lms": "LMS",
    "lms_karras": "LMS Karras",
    "dpm2": "DPM2",
    "dpm2_karras": "DPM2 Karras",
    "dpm2_a": "DPM2 a",
    "dpm2_a_karras": "DPM2 a Karras",
    "dpm++_2m": "DPM++ 2M",
    "dpm++_2m_karras": "DPM++ 2M Karras",
    "dpm++_2m_sde": "DPM++ 2M SDE",
    "dpm++_2m_sde_karras": "DPM++ 2M SDE Karras",
    "unipc": "UniPC",
    "lcm": "LCM",
}

_AMBIGUOUS: Final = re.compile(r"\r?\n(?=\s*Negative prompt:)")


def rendering_of(task: ClaimedTask, facts: Facts, picture: Picture) -> Rendering:
    """How these pixels came to be."""
    return Rendering(
        mode=facts.mode or task.mode,
        dtype=picture.retried_in or facts.dtype,
        device=facts.device,
        batch=(facts.batch or task.spec.batch).denoise,
        weights=facts.weights,
        versions=facts.versions,
        steps_down=facts.steps_down,
        retried_in=picture.retried_in,
        retried_phase=picture.retried_phase,
        loras=dict(facts.loras),
        attention=facts.attention,
        compiled=facts.compiled,
        plain=facts.plain,
        lossy=facts.lossy,
    )


def key_of(item: Item, spec: GroupSpec, rendering: Rendering) -> str:
    """The render key: all that decides the pixels; the weights by hash, not by name."""
    fields = item_fields(item, spec)
    for name in ("model", "revision", "tags"):
        fields.pop(name, None)
    return render_key(
        {
            **fields,
            "kind": spec.kind,
            "batch": msgspec.structs.asdict(spec.batch),
            "weights": rendering.weights,
            "dtype": rendering.dtype,
            "device": rendering.device,
            "versions": rendering.versions,
            # A lesser mode changes no bit of the pixels; a lesser shape does.
            "steps_down": [step for step in rendering.steps_down if "mode " not in step],
            "lora_hashes": rendering.loras,  # "loras" says with which weights
            "attention": rendering.attention,
            "compiled": rendering.compiled,
        }
    )


def reuse_key_of(item: Item, task: ClaimedTask, facts: Facts, picture: Picture) -> str | None:
    """The key under which a later job finds this image; None if it must not be given for another.

    That is where the pixels are not what the row alone decides: computed at a smaller shape,
    again in another dtype, by compiled kernels, or by a pipeline whose batches are its own.
    """
    shrunk = any("mode " not in step for step in facts.steps_down)
    other = facts.batch is not None and facts.batch != task.spec.batch
    if shrunk or other or picture.retried_in or facts.compiled or facts.plain:
        return None
    keys = _reuse_keys(task.spec, task.output, facts.weights, tuple(sorted(facts.versions.items())))
    return keys.of(item) if keys is not None else None


@lru_cache(maxsize=16)
def _reuse_keys(
    spec: GroupSpec, output: OutputOptions, weights: str, versions: tuple[tuple[str, str], ...]
) -> ReuseKeys | None:
    return reuse_keys(spec, output, weights=weights, versions=dict(versions))


def texts_of(
    item: Item, item_number: int, task: ClaimedTask, rendering: Rendering, *, key: str, pixels: str
) -> Texts:
    """What the file says of itself, as far as the job wants it to say anything.

    `key` is the render key, `pixels` the SHA-256 of the pixels as rendered.
    """
    embed = task.output.metadata
    if embed is Embed.NONE:
        return NO_TEXTS
    source = source_of(task.spec)
    if embed is Embed.MINIMAL:
        record = msgspec.json.encode({"format": FORMAT_VERSION, "render_key": key}).decode()
        return Texts(record=record, source=source)
    return Texts(
        parameters=parameters_text(item, task.spec, rendering),
        record=canonical_json(item, item_number, task, rendering, key=key, pixels=pixels),
        source=source,
    )


def source_of(spec: GroupSpec) -> SourceType:
    """How IPTC calls pictures of this kind."""
    return SourceType.COMPOSED if spec.needs_picture else SourceType.MADE


def canonical_json(
    item: Item,
    item_number: int,
    task: ClaimedTask,
    rendering: Rendering,
    *,
    key: str,
    pixels: str | None = None,
) -> str:
    """Our own record, in one stable form; `key` and `pixels` as in `texts_of`."""
    record: dict[str, Any] = {
        "format": FORMAT_VERSION,
        "item": item_fields(item, task.spec),
        "source": {
            "job": task.job_name,
            "item": item_number,
            "row": item.row,
            "line": item.line,
            "image_no": item.image_no,
        },
        "rendering": rendering,
        "batch": task.spec.batch,
        "render_key": key,
    }
    if item.template is not None:
        record["template"] = item.template
    if item.negative_template is not None:
        record["negative_template"] = item.negative_template
    if task.output != _AS_MOST:
        record["output"] = task.output
    if pixels is not None:
        record["pixels_sha256"] = pixels
    return msgspec.json.encode(record, order="sorted").decode()


def parameters_text(item: Item, spec: GroupSpec, rendering: Rendering) -> str:
    """Automatic1111's infotext: prompt, negative prompt, and one last line of settings."""
    lines = [_joined(item.prompt)]
    if item.negative_prompt:
        lines.append(f"Negative prompt: {_joined(item.negative_prompt)}")
    before, after = _around_seed(spec, rendering.weights)
    lines.append(f"{before}, Seed: {item.seed}, {after}")
    return "\n".join(lines)


@lru_cache(maxsize=16)
def _around_seed(spec: GroupSpec, weights: str) -> tuple[str, str]:
    """The line of settings, which is the same for a whole group but for the seed."""
    before = {
        "Steps": spec.num_inference_steps,
        "Sampler": _A1111_SAMPLERS.get(spec.scheduler, spec.scheduler),
        "CFG scale": f"{spec.guidance_scale:g}",
    }
    after = {
        "Size": f"{spec.width}x{spec.height}",
        "Model hash": weights[:10],
        "Model": spec.model,
        "Denoising strength": None if spec.strength is None else f"{spec.strength:g}",
        "Clip skip": None if spec.clip_skip is None else spec.clip_skip + 1,
        "RNG": "CPU",  # readers take a missing one for the GPU's
        "Version": "rendermill",
    }
    return _listed(before), _listed(after)


def _listed(settings: Mapping[str, object]) -> str:
    return ", ".join(f"{k}: {_quoted(v)}" for k, v in settings.items() if v is not None)


def _joined(text: str) -> str:
    """A line of a prompt that starts like the negative prompt would be read as one."""
    joined = _AMBIGUOUS.sub(" ", text)
    return " " + joined if joined.lstrip().startswith("Negative prompt:") else joined


def _quoted(value: object) -> str:
    text = str(value)
    if not any(mark in text for mark in ",:\n"):
        return text
    return json.dumps(text, ensure_ascii=False)
