"""What a job asks of its files: said in the job file's ``output``, or beside the manifest."""

from __future__ import annotations

import importlib.util
from collections.abc import Iterable, Mapping
from typing import Any, Final

from scheduler.manifest.problems import FieldError
from storage.contract.errors import InputError
from storage.contract.models import ModelCard
from storage.contract.output import (
    FAMILY_WATERMARK,
    OutputOptions,
    SafetyRule,
    conflict,
    field_problem,
    options_from,
)
from storage.contract.watermarks import family_bits
from storage.signing import require_signer

_OPTIONS: Final = {"format": "--image-format"}


def option_name(field: str) -> str:
    """The command line's name of a field."""
    return _OPTIONS.get(field, f"--{field.replace('_', '-')}")


def output_of(asked: Mapping[str, Any], in_file: Mapping[str, Any]) -> OutputOptions:
    """What was `asked` for beside the manifest goes before what stands `in_file`.

    Raises `FieldError` with ``output.quality`` or ``--quality`` as its field.
    """
    for name, value in in_file.items():
        _check(f"output.{name}", str(name), value)
    for name, value in asked.items():
        _check(option_name(name), name, value)
    options = options_from({**in_file, **asked})
    if (found := conflict(options)) is not None:
        name, said = found
        raise FieldError(option_name(name) if name in asked else f"output.{name}", said)
    return options


def _check(place: str, name: str, value: Any) -> None:
    if (said := field_problem(name, value)) is not None:
        raise FieldError(place, said)


def refuse_unfit(options: OutputOptions, cards: Iterable[ModelCard]) -> None:
    """`InputError` if a model lacks what is asked for: a safety checker, or a text of its own."""
    own_checker = options.safety is not SafetyRule.OFF and options.safety_model is None
    for card in cards:
        if own_checker and not card.has_safety_checker:
            raise InputError(
                f"safety: {card.model} has no safety checker",
                hint="name one: --safety-model CompVis/stable-diffusion-safety-checker",
            )
        if options.watermark == FAMILY_WATERMARK and family_bits(card) is None:
            raise InputError(
                f"watermark: the original scripts of {card.model} ({card.pipeline}) wrote none",
                hint="give a text: --watermark TEXT",
            )


def refuse_unmakeable(options: OutputOptions, environ: Mapping[str, str]) -> None:
    """Raise `InputError` or `SettingError` for files that this machine cannot make.

    Of use where it will render itself; on a farm the workers' machines decide.
    """
    if options.watermark is not None and importlib.util.find_spec("imwatermark") is None:
        raise InputError(
            "watermark: needs the package invisible-watermark",
            hint="pip install 'rendermill[watermark]', or leave --watermark away",
        )
    if options.c2pa:
        require_signer(environ)
