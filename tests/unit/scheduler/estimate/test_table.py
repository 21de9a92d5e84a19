"""The README's table of families."""

from __future__ import annotations

import pytest

from scheduler.estimate.table import END, MODES, START, table, written
from storage.contract.families.references import REFERENCES
from storage.contract.families.registry import FAMILIES


def rows() -> list[list[str]]:
    return [[cell.strip() for cell in line.split("|")[1:-1]] for line in table().splitlines()]


def test_every_family_and_every_reference_has_its_line() -> None:
    _, _, *lines = rows()
    assert {line[0] for line in lines} == {family.title for family in FAMILIES}
    assert len(lines) == len(REFERENCES)


def test_the_faster_the_mode_the_more_it_needs() -> None:
    _, _, *lines = rows()
    for line in lines:
        needed = [float(cell) for cell in line[-len(MODES) :]]
        assert needed == sorted(needed, reverse=True)
        assert needed[-1] > 0


def test_what_a_family_does_is_in_its_line() -> None:
    lines = {line[3]: line for line in rows()}
    assert lines["SDXL base, 1024²"][1] == "text, image, inpaint"
    assert lines["SDXL base, 1024²"][2] == "ControlNet, LoRA, IP-Adapter"
    assert lines["SD 2 depth, 512² x 4"][1] == "depth"


def test_only_what_stands_between_the_marks_is_replaced() -> None:
    readme = f"before\n{START}\nold\n{END}\nafter\n"
    new = written(readme)
    assert new == f"before\n{START}\n{table()}\n{END}\nafter\n"
    assert written(new) == new


@pytest.mark.parametrize("readme", ["", START, END, f"{END}{START}"])
def test_a_text_without_the_marks_is_refused(readme: str) -> None:
    with pytest.raises(ValueError, match="has no lines"):
        written(readme)
