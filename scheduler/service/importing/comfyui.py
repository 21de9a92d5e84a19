"""ComfyUI's ``prompt``: the graph that was run, from which the sampler and its inputs are read.

Links are taken from the graph itself. sd-parsers takes them from ``workflow``, which pictures
made through the API do not have.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Any, Final

from scheduler.service.importing.described import (
    Described,
    real,
    sampler_of,
    some,
    text_of,
    whole,
)

PROGRAM: Final = "ComfyUI"

_TEXTS: Final = ("text", "text_g", "t5xxl", "clip_l", "value", "string", "prompt")
_MODELS: Final = ("ckpt_name", "unet_name", "model_name")
_SEEDS: Final = ("seed", "noise_seed")
_MOST_NODES: Final = 2_000

Node = Mapping[str, Any]


def described(text: str) -> Described | None:
    """What the graph says of the sampler that began the picture; None if it has none."""
    try:
        graph = json.loads(text)
    except (ValueError, RecursionError):
        return None
    if not isinstance(graph, dict) or len(graph) > _MOST_NODES:
        return None
    nodes = {
        str(name): node["inputs"]
        for name, node in graph.items()
        if isinstance(node, dict) and isinstance(node.get("inputs"), dict)
    }
    samplers = [inputs for inputs in nodes.values() if _is_sampler(inputs)]
    if not samplers:
        return None
    whole_ones = [one for one in samplers if not _denoises_less(one)]
    return _described(nodes, (whole_ones or samplers)[0])


def _is_sampler(inputs: Node) -> bool:
    """One that has all settings itself, or takes them from other nodes."""
    return {"sampler_name", "steps"} <= inputs.keys() or {"noise", "guider", "sampler"} <= (
        inputs.keys()
    )


def _denoises_less(inputs: Node) -> bool:
    """Whether it goes over a picture that another one made."""
    return (real(inputs.get("denoise")) or 1.0) < 1.0


def _described(nodes: Mapping[str, Node], sampler: Node) -> Described:
    def first(*names: str) -> Any:
        """The nearest value of that name, at the sampler or what it takes its settings from."""
        settings = ("sampler", "sigmas", "noise", "guider", "seed", "noise_seed", "steps", "cfg")
        for inputs in _behind(nodes, sampler, settings):
            for name in names:
                if name in inputs and not _is_link(inputs[name]):
                    return inputs[name]
        return None

    seed = first(*_SEEDS)
    guider = next(_behind(nodes, sampler, ("guider",), skip_first=True), {})
    return Described(
        program=PROGRAM,
        prompt=_prompt(nodes, sampler, "positive") or _prompt(nodes, guider, "conditioning"),
        negative_prompt=_prompt(nodes, sampler, "negative"),
        model=_model(nodes, sampler) or _model(nodes, guider),
        seed=whole(seed),
        steps=whole(first("steps")),
        cfg=real(first("cfg")),
        sampler=sampler_of(first("sampler_name"), first("scheduler")),
        tags=some({"seed": seed if whole(seed) is None else None}),
    )


def _prompt(nodes: Mapping[str, Node], start: Node, name: str) -> str:
    """All texts that lead to an input, those nearest first, each once."""
    found: list[str] = []
    for inputs in _behind(nodes, start, (name,), all_after=True, skip_first=True):
        texts = [text_of(inputs[key]) for key in _TEXTS if isinstance(inputs.get(key), str)]
        found += [text for text in texts if text and text not in found]
    return "\n".join(found)


def _model(nodes: Mapping[str, Node], start: Node) -> str:
    for inputs in _behind(nodes, start, ("model",), all_after=True, skip_first=True):
        for key in _MODELS:
            if name := text_of(inputs.get(key)):
                return name
    return ""


def _behind(
    nodes: Mapping[str, Node],
    start: Node,
    names: tuple[str, ...],
    *,
    all_after: bool = False,
    skip_first: bool = False,
) -> Iterator[Node]:
    """A node and those its inputs of these names come from, nearest first, each once.

    `all_after`: of the nodes behind the first, all inputs but the models' are followed.
    """
    waiting = [start]
    seen: set[str] = set()
    while waiting:
        inputs = waiting.pop(0)
        if not (skip_first and inputs is start):
            yield inputs
        free = all_after and inputs is not start
        for name, value in inputs.items():
            follows = name in names or (free and name not in ("clip", "vae", "image", "pixels"))
            if follows and _is_link(value) and str(value[0]) not in seen:
                seen.add(str(value[0]))
                if str(value[0]) in nodes:
                    waiting.append(nodes[str(value[0])])


def _is_link(value: object) -> bool:
    return isinstance(value, list) and len(value) == 2 and isinstance(value[0], str | int)
