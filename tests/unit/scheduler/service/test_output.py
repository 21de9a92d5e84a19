from __future__ import annotations

import importlib.util
from typing import Any

import pytest

from scheduler.manifest.problems import FieldError
from scheduler.service.output import option_name, output_of, refuse_unfit, refuse_unmakeable
from storage.contract.errors import InputError, SettingError
from storage.contract.output import OutputOptions
from storage.testing.factories import make_card


def test_what_is_said_beside_the_manifest_goes_before_the_job_file() -> None:
    found = output_of({"quality": 50}, {"format": "jpeg", "quality": 90, "thumbnails": False})

    assert found == OutputOptions(format="jpeg", quality=50, thumbnails=False)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("asked", "in_file", "place"),
    [
        ({"quality": 0}, {}, "--quality"),
        ({"format": "gif"}, {}, "--image-format"),
        ({"png_level": 11}, {}, "--png-level"),
        ({}, {"quality": "high"}, "output.quality"),
        ({}, {"colour": 1}, "output.colour"),
        ({"format": "png"}, {"quality": 90}, "output.quality"),
        ({"quality": 90}, {"format": "png"}, "--quality"),
    ],
)
def test_a_fault_is_said_where_it_stands(
    asked: dict[str, Any], in_file: dict[str, Any], place: str
) -> None:
    with pytest.raises(FieldError) as caught:
        output_of(asked, in_file)
    assert caught.value.field == place


@pytest.mark.parametrize(
    ("field", "name"), [("format", "--image-format"), ("safety_model", "--safety-model")]
)
def test_options_are_named_as_on_the_command_line(field: str, name: str) -> None:
    assert option_name(field) == name


OTHERS = make_card(model="some/sana", pipeline="SanaPipeline")
CHECKED = make_card(has_safety_checker=True)


@pytest.mark.parametrize(
    ("options", "card", "said"),
    [
        ({"watermark": "family"}, OTHERS, "wrote none"),
        ({"safety": "mark"}, OTHERS, "has no safety checker"),
    ],
)
def test_what_a_model_lacks_is_said_at_submit(options: Any, card: Any, said: str) -> None:
    with pytest.raises(InputError, match=said) as caught:
        refuse_unfit(output_of(options, {}), [CHECKED, card])
    assert caught.value.hint


@pytest.mark.parametrize(
    ("options", "card"),
    [
        ({}, OTHERS),
        ({"watermark": "ours"}, OTHERS),
        ({"safety": "mark", "safety_model": "a/checker"}, OTHERS),
        ({"watermark": "family", "safety": "drop"}, CHECKED),
    ],
)
def test_what_a_model_has_is_taken(options: Any, card: Any) -> None:
    refuse_unfit(output_of(options, {}), [card])


def test_a_machine_without_certificate_or_package_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    refuse_unmakeable(OutputOptions(watermark="ours"), {})
    with pytest.raises(SettingError, match="has no certificate"):
        refuse_unmakeable(OutputOptions(c2pa=True), {})

    monkeypatch.setattr(importlib.util, "find_spec", lambda _name: None)
    with pytest.raises(InputError, match="invisible-watermark"):
        refuse_unmakeable(OutputOptions(watermark="ours"), {})
