"""Settings from the environment."""

from __future__ import annotations

import dataclasses

import pytest

from scheduler.manifest.limits import Limits
from scheduler.settings import read_limits
from storage.contract.errors import SettingError


def test_without_settings_limits_are_the_default() -> None:
    assert read_limits({}) == Limits()
    assert read_limits({"RENDERMILL_HOME": "x", "MAX_SIDE": "7"}) == Limits()


def test_a_setting_changes_its_limit_alone() -> None:
    assert read_limits({"RENDERMILL_MAX_SIDE": " 64 "}) == dataclasses.replace(
        Limits(), max_side=64
    )


@pytest.mark.parametrize("text", ["", " ", "0", "-1", "1.5", "1e3", "x", "²", "0x10", "9" * 5000])
def test_a_bad_setting_is_named_with_what_is_allowed(text: str) -> None:
    with pytest.raises(SettingError) as caught:
        read_limits({"RENDERMILL_MAX_TAGS": text})
    assert caught.value.message.startswith(
        "RENDERMILL_MAX_TAGS must be a whole number from 1 on, not "
    )
    assert len(caught.value.message) < 120
