"""The README's table of families: what each does, and what a released model of it needs.

``python -m scheduler.estimate.table <README.md`` prints the README with the table of now (`make
readme` writes it).
"""

from __future__ import annotations

import sys
from typing import Final

from scheduler.estimate.batches import batch_shape
from scheduler.estimate.memory import mode_bytes
from storage.contract.capability import Mode
from storage.contract.classes import GIB
from storage.contract.families.record import Family
from storage.contract.families.references import REFERENCES, Reference
from storage.contract.families.registry import FAMILIES
from storage.contract.items import GroupSpec
from storage.contract.models import ModelCard

START: Final = "<!-- families: written by scheduler/estimate/table.py, held equal by a test -->"
END: Final = "<!-- end of families -->"

MODES: Final = (Mode.RESIDENT, Mode.LEAN, Mode.PHASED, Mode.OFFLOAD)
_LENGTH: Final = 1000  # images of the group that is estimated

_WORDS: Final = {
    "text-to-image": "text",
    "image-to-image": "image",
    "inpaint": "inpaint",
    "depth-to-image": "depth",
    "upscale": "upscale",
}


def reference_card(reference: Reference, family: Family) -> ModelCard:
    """The card of a released model, in 16 bit."""
    parameters = dict(reference.parameters)
    return ModelCard(
        model=reference.title,
        revision=None,
        path=None,
        pipeline=family.covers[0],
        width=reference.side,
        height=reference.side,
        num_inference_steps=family.num_inference_steps,
        guidance_scale=family.guidance_scale,
        scheduler="",
        parameters=parameters,
        weight_bytes=2 * sum(parameters.values()),
        token_limit=family.token_limit,
        latent_scale=family.latent_scale,
        force_upcast=reference.force_upcast,
        streamed=parameters | {family.denoiser: reference.streamed},
    )


def reference_spec(card: ModelCard, family: Family) -> GroupSpec:
    """A group of a thousand pictures of the model's own size, for GPUs."""
    shape = batch_shape(card, card.width, card.height, _LENGTH, on_cpu=False)
    return GroupSpec(
        kind=next(iter(family.pipelines)),
        model=card.model,
        width=card.width,
        height=card.height,
        num_inference_steps=card.num_inference_steps,
        guidance_scale=card.guidance_scale,
        scheduler=card.scheduler,
        dtype="float16",
        batch=shape,
    )


def table() -> str:
    """The table in Markdown."""
    lines = [
        "| Family | makes pictures from | with | for example | "
        + " | ".join(mode.value for mode in MODES)
        + " |",
        "|---|---|---|---|" + "--:|" * len(MODES),
    ]
    lines += [_line(family, one) for family in FAMILIES for one in _references(family)]
    return "\n".join(lines)


def _references(family: Family) -> list[Reference]:
    return [one for one in REFERENCES if one.family == family.name]


def _line(family: Family, reference: Reference) -> str:
    card = reference_card(reference, family)
    spec = reference_spec(card, family)
    gib = (f"{mode_bytes(card, spec, mode) / GIB:.1f}" for mode in MODES)
    kinds = ", ".join(_WORDS[kind] for kind in family.pipelines)
    batch = f" x {spec.batch.denoise}" if spec.batch.denoise > 1 else ""
    example = f"{reference.title}, {spec.width}²{batch}"
    return f"| {family.title} | {kinds} | {_with(family)} | {example} | {' | '.join(gib)} |"


def _with(family: Family) -> str:
    there = {
        "ControlNet": bool(family.controlnet_pipelines),
        "LoRA": family.loras,
        "IP-Adapter": family.ip_adapters,
    }
    return ", ".join(name for name, has in there.items() if has)


def written(readme: str) -> str:
    """The README with the table of now between its marks; `ValueError` if it has no marks."""
    before, start, rest = readme.partition(START)
    _, end, after = rest.partition(END)
    if not start or not end:
        raise ValueError(f"the README has no lines {START!r} and {END!r}")
    return f"{before}{START}\n{table()}\n{END}{after}"


if __name__ == "__main__":
    sys.stdout.write(written(sys.stdin.read()))
