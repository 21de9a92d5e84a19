"""Settings from the environment, read once by whoever wires a program together."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import Final

from scheduler.manifest.limits import Limits
from storage.contract.errors import SettingError

PREFIX: Final = "RENDERMILL_"
DEFAULT_HOME: Final = Path("rendermill-home")


def read_limits(environment: Mapping[str, str]) -> Limits:
    """Limits from RENDERMILL_ and their names in capitals; `SettingError` names a bad one."""
    values: dict[str, int] = {}
    for field in dataclasses.fields(Limits):
        variable = PREFIX + field.name.upper()
        text = environment.get(variable)
        if text is None:
            continue
        if not text.strip().isdecimal() or int(text) < 1:
            raise SettingError(f"{variable} must be a whole number from 1 on, not {text!r}")
        values[field.name] = int(text)
    return Limits(**values)
