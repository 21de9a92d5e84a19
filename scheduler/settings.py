"""Settings from the environment, read once by whoever wires a program together."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import Final

from scheduler.manifest.limits import Limits
from scheduler.manifest.values import shown
from storage.contract.errors import SettingError

PREFIX: Final = "RENDERMILL_"
DEFAULT_HOME: Final = Path("rendermill-home")

MAX_DIGITS: Final = 18
"""Of a limit: some of them are handed to C, which counts to 2^63."""


def read_limits(environment: Mapping[str, str]) -> Limits:
    """Limits from RENDERMILL_ and their names in capitals; `SettingError` names a bad one."""
    values: dict[str, int] = {}
    for field in dataclasses.fields(Limits):
        variable = PREFIX + field.name.upper()
        text = environment.get(variable)
        if text is None:
            continue
        digits = text.strip()
        if not digits.isdecimal() or len(digits) > MAX_DIGITS or int(digits) < 1:
            raise SettingError(f"{variable} must be a whole number from 1 on, not {shown(text)}")
        values[field.name] = int(digits)
    return Limits(**values)
