"""The pictures rows name, and what groups need to know of them."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from scheduler.manifest.inputs import InputReader, Inputs, NoPictures, Seen, ahead
from scheduler.manifest.problems import FieldError
from scheduler.manifest.readers.base import Row


class Album:
    """Pictures by name; notes what was asked for."""

    def __init__(self, **sizes: tuple[int, int]) -> None:
        self.sizes = sizes
        self.expected: list[str] = []
        self.looked: list[str] = []

    def expect(self, reference: str) -> None:
        self.expected.append(reference)

    def look(self, reference: str) -> Seen:
        self.looked.append(reference)
        if reference not in self.sizes:
            raise ValueError(f"{reference}: there is no such file")
        return Seen(f"inputs/{reference}", *self.sizes[reference])


CAT, MASK = Seen("inputs/cat", 40, 30), Seen("inputs/mask", 40, 30)


def reader(album: Album, **rules: Any) -> InputReader:
    given: dict[str, Any] = {"defaults": {}, "overrides": {}, "sweep": [{}]}
    return InputReader(album, **(given | rules))


def album() -> Album:
    return Album(cat=(40, 30), mask=(40, 30), edges=(64, 64), style=(8, 8))


def test_a_rows_pictures_are_looked_at_and_keyed() -> None:
    (inputs,) = reader(album()).inputs(
        {
            "image": "cat",
            "mask_image": "mask",
            "control_images": ("edges", "cat"),
            "ip_adapter_image": "style",
        }
    )

    assert (inputs.image, inputs.mask_image) == (CAT, MASK)
    assert inputs.keys == (
        "inputs/cat",
        "inputs/mask",
        ("inputs/edges", "inputs/cat"),
        "inputs/style",
    )
    assert inputs.leading == CAT


@pytest.mark.parametrize("field", ["image", "mask_image", "ip_adapter_image", "control_images"])
def test_a_picture_that_cannot_be_had_is_the_fields_problem(field: str) -> None:
    value = ("gone",) if field == "control_images" else "gone"

    with pytest.raises(FieldError) as caught:
        reader(album()).inputs({field: value})

    assert (caught.value.field, caught.value.message) == (field, "gone: there is no such file")


def test_defaults_rows_sweeps_and_overrides_follow_each_other() -> None:
    these = reader(
        album(),
        defaults={"image": "mask", "mask_image": "mask", "ip_adapter_image": "mask"},
        sweep=[{"image": "cat"}, {"image": "edges"}],
        overrides={"ip_adapter_image": "style"},
    )

    first, second = these.inputs({"image": "style", "mask_image": "cat"})

    assert these.always
    assert first.keys == ("inputs/cat", "inputs/cat", (), "inputs/style")
    assert second.keys == ("inputs/edges", "inputs/cat", (), "inputs/style")


def test_settings_without_pictures_ask_for_none() -> None:
    these = reader(album(), defaults={"width": 8}, sweep=[{"strength": 0.5}])

    assert not these.always


def test_names_are_announced_whatever_the_field_is_called() -> None:
    seen = album()
    these = reader(seen)

    assert these.expect({"init_img": " a ", "mask": "b", "control_image": ["c", 7], "x": "d"})
    assert these.expect({"prompt": "e", "image": None, "mask_image": 4})
    assert not these.expect({"prompt": "e"})
    assert not these.expect(FieldError(None, "broken"))

    assert sorted(seen.expected) == ["a", "b", "c"]
    assert seen.looked == []


def test_the_shape_tells_apart_what_makes_other_groups() -> None:
    base = Inputs(image=CAT, control_images=(CAT,))

    assert base.shape == Inputs(image=Seen("x", 40, 30), control_images=(MASK,)).shape
    others = [
        Inputs(image=Seen("inputs/cat", 41, 30), control_images=(CAT,)),
        Inputs(image=CAT, mask_image=MASK, control_images=(CAT,)),
        Inputs(image=CAT, control_images=(CAT, CAT)),
        Inputs(image=CAT, control_images=(CAT,), ip_adapter_image=CAT),
        Inputs(),
    ]
    assert len({base.shape, *(other.shape for other in others)}) == 6


def test_where_there_are_no_pictures_each_is_refused() -> None:
    none = NoPictures()
    none.expect("cat.png")

    with pytest.raises(ValueError, match=r"cat\.png: pictures cannot be opened here"):
        none.look("cat.png")


def rows(count: int) -> Iterator[Row]:
    for number in range(count):
        yield number, {"image": str(number)}


@pytest.mark.parametrize("count", [0, 1, 64, 65, 300])
def test_rows_come_in_order_each_announced_before_its_turn(count: int) -> None:
    announced: list[Any] = []

    def announce(values: Any) -> bool:
        announced.append(values)
        return True

    lead = []
    for line, values in ahead(rows(count), announce):
        assert values in announced
        lead.append(len(announced) - line)

    assert len(lead) == len(announced) == count
    assert max(lead, default=0) <= 66, "few rows are held at once"


def test_rows_that_name_nothing_are_not_held_back() -> None:
    read: list[int] = []

    def noted() -> Iterator[Row]:
        for line, values in rows(100):
            read.append(line)
            yield line, values

    for line, _ in ahead(noted(), lambda values: values == {"image": "50"}):
        assert len(read) == line + 1 or line >= 50


def test_rows_before_a_failure_come_before_it() -> None:
    def failing() -> Iterator[Row]:
        yield from rows(3)
        raise OSError("the disk broke")

    seen: list[int] = []
    with pytest.raises(OSError, match="the disk broke"):
        seen.extend(line for line, _ in ahead(failing(), lambda _: True))

    assert seen == [0, 1, 2]
