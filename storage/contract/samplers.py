"""The samplers a row may name, with the diffusers class and settings each stands for.

A diffusers class name is taken as it is and keeps the model's own settings. The short names
fix the settings that make the variant, as in diffusers' own table
(docs, api/schedulers/overview); Automatic1111's spellings and the original scripts' are
aliases. ``from_config`` of the model's scheduler supplies all the rest: bare class defaults
are wrong for Stable Diffusion.
"""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final


@dataclass(frozen=True, kw_only=True, slots=True)
class Sampler:
    """One sampler: a diffusers scheduler class and what overrides the model's own config."""

    name: str
    scheduler_class: str
    overrides: Mapping[str, object] = field(default_factory=dict)
    ancestral: bool = False  #: draws noise at every step, from the item's generator


def _short(
    name: str, scheduler_class: str, *, ancestral: bool = False, **overrides: object
) -> Sampler:
    return Sampler(
        name=name,
        scheduler_class=scheduler_class + "Scheduler",
        overrides=overrides,
        ancestral=ancestral,
    )


_DPM: Final = "DPMSolverMultistep"
_KARRAS: Final = {"use_karras_sigmas": True}
_PLAIN: Final = {"use_karras_sigmas": False}

_SHORT: Final[tuple[Sampler, ...]] = (
    _short("ddim", "DDIM"),
    _short("plms", "PNDM", skip_prk_steps=True),
    _short("euler", "EulerDiscrete", **_PLAIN),
    _short("euler_karras", "EulerDiscrete", **_KARRAS),
    _short("euler_a", "EulerAncestralDiscrete", ancestral=True),
    _short("heun", "HeunDiscrete", **_PLAIN),
    _short("lms", "LMSDiscrete", **_PLAIN),
    _short("lms_karras", "LMSDiscrete", **_KARRAS),
    _short("dpm2", "KDPM2Discrete", **_PLAIN),
    _short("dpm2_karras", "KDPM2Discrete", **_KARRAS),
    _short("dpm2_a", "KDPM2AncestralDiscrete", ancestral=True, **_PLAIN),
    _short("dpm2_a_karras", "KDPM2AncestralDiscrete", ancestral=True, **_KARRAS),
    _short("dpm++_2m", _DPM, algorithm_type="dpmsolver++", **_PLAIN),
    _short("dpm++_2m_karras", _DPM, algorithm_type="dpmsolver++", **_KARRAS),
    _short("dpm++_2m_sde", _DPM, ancestral=True, algorithm_type="sde-dpmsolver++", **_PLAIN),
    _short(
        "dpm++_2m_sde_karras", _DPM, ancestral=True, algorithm_type="sde-dpmsolver++", **_KARRAS
    ),
    _short("deis", "DEISMultistep"),
    _short("unipc", "UniPCMultistep"),
    _short("ddpm", "DDPM", ancestral=True),
    _short("lcm", "LCM", ancestral=True),
    _short("flow_euler", "FlowMatchEulerDiscrete"),
    _short("scm", "SCM", ancestral=True),
)

_CLASSES: Final[tuple[str, ...]] = tuple(
    sorted({sampler.scheduler_class for sampler in _SHORT} | {"DPMSolverSinglestepScheduler"})
)

SAMPLERS: Final[dict[str, Sampler]] = {sampler.name: sampler for sampler in _SHORT} | {
    name: Sampler(name=name, scheduler_class=name) for name in _CLASSES
}

_ALIASES: Final[dict[str, str]] = {
    "pndm": "plms",
    "k_lms": "lms",
    "k_euler": "euler",
    "k_euler_a": "euler_a",
    "k_euler_ancestral": "euler_a",
    "euler_ancestral": "euler_a",
    "k_heun": "heun",
    "k_dpm_2": "dpm2",
    "k_dpm_2_a": "dpm2_a",
    "k_dpm_2_ancestral": "dpm2_a",
    "dpmpp_2m": "dpm++_2m",
    "dpmpp_2m_karras": "dpm++_2m_karras",
    "dpmpp_2m_sde": "dpm++_2m_sde",
    "dpmpp_2m_sde_karras": "dpm++_2m_sde_karras",
    "k_dpmpp_2m": "dpm++_2m_karras",
    "dpm_solver": "dpm++_2m",
    "dpm": "dpm++_2m",
}


def _fold(name: str) -> str:
    return name.strip().casefold().replace(" ", "_").replace("-", "_")


_FOLDED: Final[dict[str, str]] = {_fold(name): name for name in SAMPLERS} | {
    _fold(alias): name for alias, name in _ALIASES.items()
}


class UnknownSampler(ValueError):
    """No sampler of that name."""


def find_sampler(name: str) -> Sampler:
    """The sampler of that name, alias or class, whatever its case; else `UnknownSampler`."""
    folded = _fold(name)
    for candidate in (folded, folded + "scheduler"):
        if candidate in _FOLDED:
            return SAMPLERS[_FOLDED[candidate]]
    near = difflib.get_close_matches(folded, _FOLDED, n=1, cutoff=0.6)
    meant = f"; did you mean {_FOLDED[near[0]]!r}?" if near else ";"
    short = ", ".join(sampler.name for sampler in _SHORT)
    example = SAMPLERS["euler"].scheduler_class
    raise UnknownSampler(
        f"no sampler {name!r}{meant} allowed: {short}, or a diffusers class such as {example}"
    )
