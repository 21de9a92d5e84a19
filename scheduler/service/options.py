"""What a user says beside the manifest, and what becomes the rules for all rows."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

import msgspec

from scheduler.manifest.expansion import Rules
from scheduler.manifest.fields import field_named, parse_field
from scheduler.manifest.jobfile import JobFile
from scheduler.manifest.limits import Limits
from scheduler.manifest.problems import FieldError
from scheduler.manifest.sweep import combinations
from scheduler.manifest.values import cell
from scheduler.service.dynamic import dynamic_of
from storage.contract.errors import InputError
from storage.contract.items import BatchShape
from storage.contract.output import OutputOptions


@dataclass(frozen=True, kw_only=True, slots=True)
class SubmitOptions:
    """What a user says beside the manifest."""

    manifest: str  #: a path, or "-" for standard input
    format: str | None = None
    name: str | None = None
    model: str = "starter"  #: for rows that name none
    dtype: str = "auto"
    seed: int | None = None
    priority: int | None = None
    defaults: Mapping[str, str] = field(default_factory=dict)  #: for rows that say nothing
    overrides: Mapping[str, str] = field(default_factory=dict)  #: whatever rows say
    skip_invalid: bool = False
    output: Mapping[str, Any] = field(default_factory=dict)  #: by field of `OutputOptions`
    on_cpu: bool = True  #: batches are sized for a fleet without GPUs
    dynamic_prompts: str | None = None  #: random or combinatorial
    wildcards: Sequence[str] = ()  #: folders
    batch: BatchShape | None = None  #: of all groups; None: by model, size and length


def rules_of(options: SubmitOptions, job: JobFile, limits: Limits) -> Rules:
    """Options and job file as one; raises `FieldError` with the place as its field."""
    seed = (job.seed or 0) if options.seed is None else options.seed
    rules = Rules(
        defaults=_parsed("defaults.", job.defaults, limits)
        | _parsed("--default ", _cells(options.defaults), limits),
        overrides=_parsed("--set ", _cells(options.overrides), limits),
        sweep=combinations(job.sweep, limits),
        seed=seed,
        limits=limits,
        dynamic=dynamic_of(
            options.dynamic_prompts,
            options.wildcards,
            job,
            options.manifest,
            seed=seed,
            limits=limits,
        ),
    )
    swept = {name for step in rules.sweep for name in step}
    both = sorted(swept & rules.overrides.keys())
    if both:
        raise FieldError(f"--set {both[0]}", "the job file sweeps it; remove one of the two")
    return rules


_AS_EVER: Final = OutputOptions()


def canonical_settings(
    options: SubmitOptions, rules: Rules, output: OutputOptions = _AS_EVER
) -> str:
    """All that decides items and files beside the manifest, as canonical JSON."""
    settings: dict[str, Any] = {
        "seed": rules.seed,
        "model": options.model,
        "dtype": options.dtype,
        "defaults": dict(rules.defaults),
        "overrides": dict(rules.overrides),
        "sweep": [dict(step) for step in rules.sweep],
        "skip_invalid": options.skip_invalid,
    }
    if rules.dynamic is not None:
        settings["dynamic_prompts"] = rules.dynamic.digest  # of the wildcards read by then
    if output != _AS_EVER:
        settings["output"] = msgspec.to_builtins(output)
    return json.dumps(settings, sort_keys=True, ensure_ascii=False, default=msgspec.to_builtins)


def pairs(texts: list[str], option: str) -> dict[str, str]:
    """``["steps=8"]`` as a mapping; `InputError` for what is no pair, or a name given twice."""
    found: dict[str, str] = {}
    for name, value in split_pairs(texts, option, example="num_inference_steps=8"):
        if name in found:
            raise InputError(f"{option} {name}: is there twice")
        found[name] = value
    return found


def split_pairs(texts: list[str], option: str, *, example: str) -> list[tuple[str, str]]:
    """``["kind=star"]`` as names and values; `InputError` for one without a sign of equality."""
    found = []
    for text in texts:
        name, sign, value = text.partition("=")
        if not sign or not name.strip():
            raise InputError(f"{option} {text}: must be NAME=VALUE, such as {example}")
        found.append((name.strip(), value))
    return found


def _cells(texts: Mapping[str, str]) -> dict[str, str]:
    return {name: cell(text) for name, text in texts.items()}


def _parsed(place: str, values: Mapping[str, Any], limits: Limits) -> dict[str, Any]:
    """Values by field name, checked; `place` begins the name of a bad one."""
    parsed = {}
    for name, value in values.items():
        try:
            known = field_named(str(name))
            if known is None:
                raise FieldError(str(name), "is no field")
            if known.name in parsed:
                raise FieldError(str(name), f"names {known.name} a second time")
            parsed[known.name] = parse_field(known, value, limits)
        except FieldError as error:
            raise FieldError(f"{place}{name}", error.message) from None
    return parsed
