from __future__ import annotations

import pytest

from storage.contract.lineage import Lineage, lineage_of, share_of
from storage.testing.factories import make_item


def test_an_image_with_nothing_to_say_says_nothing() -> None:
    assert lineage_of(make_item(), Lineage()).encode() is None


def test_an_image_says_its_template_and_what_it_was_made_from() -> None:
    item = make_item(template="{a|b}", image="inputs/a.png", ip_adapter_image="inputs/b.png")
    found = lineage_of(item, Lineage(attempts=2))
    assert (found.template, found.attempts) == ("{a|b}", 2)
    assert found.pictures == ("inputs/a.png", "inputs/b.png")


def test_an_images_share_of_the_phases_sums_to_its_time() -> None:
    found = share_of({"load": 50.0, "encode": 1.0, "denoise": 6.0, "decode": 1.0}, 2.0)
    assert found == {"encode": 0.25, "denoise": 1.5, "decode": 0.25}


@pytest.mark.parametrize("phases", [{}, {"load": 3.0}])
def test_where_no_phase_was_measured_none_is_said(phases: dict[str, float]) -> None:
    assert share_of(phases, 2.0) == {}
