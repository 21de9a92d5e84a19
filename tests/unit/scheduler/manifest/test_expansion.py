"""From rows to items."""

from __future__ import annotations

import datetime
import decimal
import tracemalloc
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from scheduler.manifest import expansion
from scheduler.manifest.dynamic import DynamicPrompts, Mode
from scheduler.manifest.expansion import SHOWN_COLUMNS, Expander, Rules
from scheduler.manifest.inputs import NONE, Inputs
from scheduler.manifest.limits import Limits
from scheduler.manifest.problems import FieldError, ManifestProblems, Problems, Rejected
from scheduler.manifest.readers.base import Row
from scheduler.manifest.wildcards import Wildcards
from storage.contract.items import SEED_MAX, Item, derive_seed


class Rows:
    """A reader over rows that are there already."""

    def __init__(self, rows: Iterable[Any], *, typed: bool = True, table: bool = False) -> None:
        self._rows = rows
        self.typed = typed
        self.same_columns = table
        self.digest = ""
        self.notes: list[str] = []

    def rows(self) -> Iterator[Row]:
        yield from enumerate(self._rows, 1)


class Settings:
    """Numbers groups by their settings, whatever they are."""

    def __init__(self) -> None:
        self.seen: list[dict[str, Any]] = []

    def group_of(self, settings: Mapping[str, Any], inputs: Inputs = NONE) -> int:
        if settings.get("model") == "missing":
            raise FieldError("model", "no model 'missing'")
        if dict(settings) not in self.seen:
            self.seen.append(dict(settings))
        return self.seen.index(dict(settings))


class Same:
    """One group for all."""

    def group_of(self, settings: Mapping[str, Any], inputs: Inputs = NONE) -> int:
        return 0


class Kept:
    """Keeps items with their groups."""

    def __init__(self) -> None:
        self.items: list[tuple[int, Item]] = []

    def add(self, group: int, item: Item) -> None:
        self.items.append((group, item))


class Expanded:
    """What became of some rows; problems leave the other rows alone."""

    def __init__(self, rows: Iterable[Any], *, typed: bool = True, **rules: Any) -> None:
        self.rejected: list[Rejected] = []
        self.settings = Settings()
        self._kept = Kept()
        problems = Problems("a", on_rejected=self.rejected.append)
        self.expander = Expander(Rules(**rules), self.settings, self._kept, problems)
        self.expander.read(Rows(rows, typed=typed))
        self.total = problems.total

    @property
    def items(self) -> list[Item]:
        return [item for _, item in self._kept.items]

    @property
    def groups(self) -> list[int]:
        return [group for group, _ in self._kept.items]

    @property
    def problems(self) -> list[str]:
        return [
            text.removeprefix(f"a:{one.line}: ") for one in self.rejected for text in one.problems
        ]

    @property
    def seeds(self) -> list[int]:
        return [item.seed for item in self.items]


# Items


def test_a_row_becomes_an_item_with_its_place() -> None:
    (item,) = Expanded([{"prompt": "a", "negative_prompt": "b", "seed": 5, "note": "c"}]).items
    assert item == Item(0, 1, 0, "a", "b", 5, {"note": "c"})


def test_rows_are_counted_from_zero_and_bad_ones_too() -> None:
    done = Expanded([{"prompt": "a"}, {"prompt": 7}, FieldError(None, "unread"), {"prompt": "b"}])
    assert [(item.row, item.line) for item in done.items] == [(0, 1), (3, 4)]
    assert [(one.row, one.line) for one in done.rejected] == [(1, 2), (2, 3)]
    assert done.problems == ["prompt: must be text, not 7", "unread"]
    assert (done.expander.rows, done.expander.items) == (4, 2)


def test_several_images_of_a_row_are_several_items() -> None:
    done = Expanded([{"prompt": "a", "num_images": 3}])
    assert [(item.row, item.image_no) for item in done.items] == [(0, 0), (0, 1), (0, 2)]


def test_nothing_of_a_row_becomes_an_item_if_anything_of_it_is_wrong() -> None:
    done = Expanded(
        [
            {"prompt": "a", "n": 3, "note": [1]},
            {"prompt": "a", "n": 3, "image": "cat.png"},
            {"prompt": "a", "n": 3, "seed": SEED_MAX},
        ],
        sweep=({"width": 8}, {"width": 16}),
    )
    assert done.items == []
    assert len(done.rejected) == 3


# Seeds


def test_derived_seeds_depend_on_job_seed_row_and_image_alone() -> None:
    rows = [{"prompt": "a", "n": 2}, {"prompt": "b", "width": 64, "n": 2, "note": "x"}]
    expected = [derive_seed(9, row, image) for row in (0, 1) for image in (0, 1)]
    assert Expanded(rows, seed=9).seeds == expected
    assert Expanded([{"prompt": "other", "n": 2, "steps": 3}, rows[0]], seed=9).seeds == expected
    assert Expanded(rows, seed=10).seeds != expected


def test_derived_seeds_are_the_same_over_a_sweep() -> None:
    sweep = ({"guidance_scale": 1.0}, {"guidance_scale": 2.0}, {"guidance_scale": 3.0})
    done = Expanded([{"prompt": "a"}, {"prompt": "b", "n": 2}], sweep=sweep)
    alone = Expanded([{"prompt": "a"}, {"prompt": "b", "n": 2}])
    assert done.seeds == alone.seeds[:1] * 3 + alone.seeds[1:] * 3
    assert len(set(done.seeds)) == 3


def test_a_row_that_is_refused_shifts_no_seed_of_the_others() -> None:
    good = [{"prompt": str(number)} for number in range(5)]
    spoilt = [*good[:2], {"prompt": "x", "seed": -1}, *good[3:]]
    whole, rest = Expanded(good), Expanded(spoilt)
    assert rest.seeds == whole.seeds[:2] + whole.seeds[3:]


def test_a_given_seed_counts_up_with_the_images() -> None:
    done = Expanded([{"prompt": "a", "seed": 7, "num_images": 3}, {"prompt": "b", "seed": 0}])
    assert done.seeds == [7, 8, 9, 0]


@pytest.mark.parametrize(("seed", "fits"), [(SEED_MAX - 2, True), (SEED_MAX - 1, False)])
def test_seeds_end_at_the_largest(seed: int, fits: bool) -> None:
    done = Expanded([{"prompt": "a", "seed": seed, "n": 3}])
    assert (done.seeds == [SEED_MAX - 2, SEED_MAX - 1, SEED_MAX]) is fits
    said = f"seed: plus 3 images passes the largest, {SEED_MAX}"
    assert done.problems == ([] if fits else [said])


def test_a_swept_seed_beats_that_of_the_row_and_counts_up_too() -> None:
    sweep = ({"seed": 100}, {"seed": 200})
    done = Expanded([{"prompt": "a", "seed": 7, "n": 2}], sweep=sweep)
    assert done.seeds == [100, 101, 200, 201]


@given(st.lists(st.integers(0, SEED_MAX) | st.none(), min_size=1, max_size=20), st.integers(0, 99))
def test_a_seed_is_the_given_one_or_the_derived_one(seeds: list[int | None], job_seed: int) -> None:
    done = Expanded([{"prompt": "a", "seed": seed} for seed in seeds], seed=job_seed)
    assert done.seeds == [
        derive_seed(job_seed, row, 0) if seed is None else seed for row, seed in enumerate(seeds)
    ]


# Who beats whom


def test_overrides_beat_sweeps_beat_rows_beat_defaults() -> None:
    rules: dict[str, Any] = {
        "defaults": {"width": 8, "height": 8, "num_inference_steps": 8, "guidance_scale": 8.0},
        "sweep": ({"num_inference_steps": 32, "guidance_scale": 32.0},),
        "overrides": {"guidance_scale": 64.0},
    }
    done = Expanded([{"prompt": "a", "height": 16, "steps": 16, "cfg": 16}], **rules)
    assert done.settings.seen == [
        {"width": 8, "height": 16, "num_inference_steps": 32, "guidance_scale": 64.0}
    ]


@pytest.mark.parametrize(
    ("name", "of_row", "default", "override"),
    [
        ("prompt", "row", "default", "override"),
        ("negative_prompt", "row", "default", "override"),
        ("prompt", "row", "default", ""),
        ("seed", 1, 2, 0),
    ],
)
def test_the_same_holds_for_what_differs_inside_a_group(
    name: str, of_row: Any, default: Any, override: Any
) -> None:
    row = {"prompt": "a", name: of_row}
    silent = {"prompt": None} if name == "prompt" else {"prompt": "a"}

    def one(given_row: dict[str, Any], **rules: Any) -> Any:
        (item,) = Expanded([given_row], **rules).items
        return getattr(item, name)

    assert one(row) == of_row
    assert one(row, defaults={name: default}) == of_row
    assert one(silent, defaults={name: default}) == default
    assert one(row, defaults={name: default}, overrides={name: override}) == override


def test_counts_of_images_are_overridden_too() -> None:
    rows = [{"prompt": "a", "n": 3}, {"prompt": "b"}]
    assert len(Expanded(rows, defaults={"num_images": 2}).items) == 5
    assert len(Expanded(rows, overrides={"num_images": 2}).items) == 4


def test_an_overridden_value_must_be_right_all_the_same_if_it_decides_the_group() -> None:
    done = Expanded([{"prompt": "a", "width": "wide"}], overrides={"width": 8})
    assert done.problems == ["width: must be a whole number, not 'wide'"]


def test_a_swept_prompt_needs_no_column_and_beats_one() -> None:
    sweep = ({"prompt": "x"}, {"prompt": "y", "negative_prompt": "z"})
    for row in ({"seed": 1}, {"seed": 1, "prompt": ""}, {"seed": 1, "prompt": "row"}):
        done = Expanded([row], sweep=sweep)
        assert [item.prompt for item in done.items] == ["x", "y"]
        assert [item.negative_prompt for item in done.items] == ["", "z"]


# Empty values


def test_empty_cells_of_a_table_are_absent() -> None:
    row = {"prompt": "a", "seed": "", "n": "", "width": "", "note": "", "scheduler": "", "tags": ""}
    done = Expanded([row], typed=False, defaults={"seed": 5, "width": 24})
    assert done.items == [Item(0, 1, 0, "a", "", 5, {})]
    assert done.settings.seen[0]["width"] == 24


def test_an_empty_prompt_of_a_table_is_missing_and_of_typed_rows_is_meant() -> None:
    assert Expanded([{"prompt": ""}], typed=False).problems == ["prompt: is empty"]
    assert [item.prompt for item in Expanded([{"prompt": ""}]).items] == [""]


@pytest.mark.parametrize("typed", [True, False])
def test_null_is_absent(typed: bool) -> None:
    row = dict.fromkeys(("seed", "n", "width", "note", "tags", "negative_prompt", "image"))
    done = Expanded([{"prompt": "a", **row}], typed=typed, defaults={"width": 24})
    assert done.problems == []
    assert done.items[0].tags == {}
    assert done.settings.seen == [{"width": 24}]
    assert Expanded([{"prompt": None}], typed=typed).problems == ["prompt: is empty"]


def test_texts_of_a_table_are_read_as_numbers_and_typed_texts_are_not() -> None:
    row = {"prompt": "a", "seed": " 7 ", "steps": "8", "cfg": "1.5"}
    done = Expanded([row], typed=False)
    assert (done.seeds, done.settings.seen) == (
        [7],
        [{"num_inference_steps": 8, "guidance_scale": 1.5}],
    )
    assert Expanded([row]).problems == [
        "num_inference_steps: must be a whole number, not '8'",
        "guidance_scale: must be a number, not '1.5'",
    ]


# Groups


def test_rows_with_the_same_settings_share_a_group() -> None:
    rows = [
        {"prompt": "a", "width": 8},
        {"prompt": "b", "width": 16},
        {"width": 8, "prompt": "c", "seed": 3},
        {"prompt": "d", "w": 8, "note": "x"},
    ]
    assert Expanded(rows).groups == [0, 1, 0, 0]


@pytest.mark.parametrize("seen", [1, 1.0])
@pytest.mark.parametrize(
    ("name", "value"), [("clip_skip", True), ("steps", True), ("cfg", True), ("cfg", False)]
)
def test_a_truth_value_is_refused_after_the_number_it_equals(
    name: str, value: bool, seen: float
) -> None:
    done = Expanded([{"prompt": "a", name: seen}, {"prompt": "b", name: value}])
    assert [item.prompt for item in done.items] == ["a"]
    assert done.problems[0].endswith(f"number, not {value}")


def test_a_whole_float_means_the_same_as_the_integer_it_equals() -> None:
    rows = [{"prompt": "a", "width": 8.0}, {"prompt": "b", "width": 8}]
    done = Expanded(rows)
    assert done.groups == [0, 0]
    assert type(done.settings.seen[0]["width"]) is int


@pytest.mark.parametrize("value", [[8], {"a": 8}, [[]]], ids=str)
def test_what_can_be_no_key_is_a_problem_of_its_field(value: object) -> None:
    done = Expanded([{"prompt": "a", "width": value}, {"prompt": "b", "width": 8}])
    assert done.problems == [f"width: must be a whole number, not {value}"]
    assert len(done.items) == 1


def test_all_wrong_settings_of_a_row_are_told_at_once() -> None:
    done = Expanded([{"prompt": "a", "width": -8, "height": 0, "cfg": "x", "scheduler": "y"}])
    assert [text.partition(":")[0] for text in done.problems] == [
        *("width", "height", "guidance_scale", "scheduler"),
    ]
    assert len(done.rejected) == 1


def test_a_group_that_cannot_be_is_a_problem_of_its_row() -> None:
    done = Expanded([{"prompt": "a", "model": "missing"}, {"prompt": "b"}])
    assert done.problems == ["model: no model 'missing'"]
    assert len(done.items) == 1


def test_a_sweep_goes_through_its_groups_for_each_row() -> None:
    sweep = ({"width": 8}, {"width": 16})
    done = Expanded([{"prompt": "a", "n": 2}, {"prompt": "b"}], sweep=sweep)
    assert done.groups == [0, 0, 1, 1, 0, 1]
    assert [item.prompt for item in done.items] == ["a", "a", "a", "a", "b", "b"]


# Tags


def test_unknown_columns_are_tags_and_are_named() -> None:
    done = Expanded([{"prompt": "a", "category": "Animals", "tag.seed": "7", "seed": 1}])
    assert done.items[0].tags == {"category": "Animals", "seed": "7"}
    assert done.expander.tag_names == {"category", "seed"}


def test_tags_may_stand_in_an_object_of_their_own() -> None:
    rows = [
        {"prompt": "a", "tags": {"kind": "x", "n": 1, "empty": None}, "note": "y"},
        {"prompt": "b", "tags": {"other": "z"}},
        {"prompt": "c", "tags": {}},
    ]
    done = Expanded(rows)
    assert [item.tags for item in done.items] == [
        {"note": "y", "kind": "x", "n": "1"},
        {"other": "z"},
        {},
    ]
    assert done.expander.tag_names == {"kind", "n", "note", "other"}


@pytest.mark.parametrize(
    ("value", "text"),
    [
        ("", ""),
        ("日本", "日本"),
        (1, "1"),
        (-1.5, "-1.5"),
        (1e300, "1e+300"),
        (True, "true"),
        (False, "false"),
        (float("nan"), "nan"),
        (decimal.Decimal("1.50"), "1.50"),
        (datetime.date(2026, 1, 2), "2026-01-02"),
        (datetime.datetime(2026, 1, 2, 3, 4), "2026-01-02T03:04:00"),
        (datetime.time(3, 4), "03:04:00"),
    ],
)
def test_tags_are_text_whatever_they_were(value: object, text: str) -> None:
    done = Expanded([{"prompt": "a", "x": value}, {"prompt": "a", "tags": {"x": value}}])
    assert [item.tags for item in done.items] == [{"x": text}, {"x": text}]


@pytest.mark.parametrize(
    ("row", "said"),
    [
        ({"x": [1]}, "x: is a tag and must be text or a number, not list"),
        ({"x": {"y": 1}}, "x: is a tag and must be text or a number, not dict"),
        ({"x": b"y"}, "x: is a tag and must be text or a number, not bytes"),
        ({"tags": {"x": [1]}}, "x: is a tag and must be text or a number, not list"),
        ({"tags": "x"}, "tags: must be an object of names and values"),
        ({"tags": ["x"]}, "tags: must be an object of names and values"),
        ({"tags": {"": "x"}}, "tags: has a tag without a name"),
        ({"x": 1, "tags": {"x": 2}}, "x: is a tag both by its column and in 'tags'; remove one"),
        ({"tags": {1: 2, "1": 3}}, "1: is a tag both by its column and in 'tags'; remove one"),
        ({"x": "a\0b"}, "x: holds a NUL character"),
        ({"tags": {"a\0b": "x"}}, "a\0b: holds a NUL character"),
        ({"x": 16**5000}, "x: is a tag, and a number of thousands of digits"),
        ({"x": "abcd"}, "x: is 4 characters long; the limit is 3 (RENDERMILL_MAX_TAG_CHARS)"),
        (
            {"tags": dict.fromkeys("abcde", "x")},
            "tags: has 5 tags; the limit is 4 (RENDERMILL_MAX_TAGS)",
        ),
    ],
    ids=range(14),
)
def test_a_tag_that_can_be_none_is_refused(row: dict[str, Any], said: str) -> None:
    done = Expanded([{"prompt": "a"} | row], limits=Limits(max_tag_chars=3, max_tags=4))
    assert done.problems == [said]


def test_a_tags_column_of_a_table_is_refused_in_words() -> None:
    assert Expanded([{"prompt": "a", "tags": "x;y"}], typed=False).problems == [
        "tags: must be an object of names and values"
    ]


# What is wrong with rows


@pytest.mark.parametrize(
    ("row", "said"),
    [
        ({"prompt": True}, "prompt: must be text, not True"),
        ({"prompt": "a\0b"}, "prompt: holds a NUL character"),
        ({"prompt": "a", "negative_prompt": "x" * 101}, "negative_prompt: is 101 characters long"),
        ({"prompt": "x" * 101}, "prompt: is 101 characters long; the limit is 100 (RENDERMILL_MAX"),
        ({"prompt": "a", "seed": True}, "seed: must be a whole number, not True"),
        ({"prompt": "a", "seed": "7"}, "seed: must be a whole number, not '7'"),
        ({"prompt": "a", "n": True}, "num_images: must be a whole number, not True"),
        ({"prompt": "a", "n": 0}, "num_images: must be 1 to 10000, not 0"),
        ({"prompt": "a", "image": "b.png"}, "image: b.png: pictures cannot be opened here"),
        ({"prompt": "a", "mask": 7}, "mask_image: must be a path or a URL, not 7"),
        ({"prompt": "a", "strength": 1.5}, "strength: must be 0 to 1, not 1.5"),
        ({"prompt": "a", "widht": 8}, "widht: is no field; did you mean 'width'?"),
        ({"prompt": "a", "caption": "b"}, "caption: and 'prompt' both name prompt; remove one"),
        ({"text_": "a"}, "prompt: is missing; the columns are: 'text_'"),
        ({}, "prompt: is missing; the columns are: none"),
    ],
    ids=range(15),
)
def test_a_wrong_row_is_refused_and_its_neighbours_are_not(row: dict[str, Any], said: str) -> None:
    done = Expanded([{"prompt": "b"}, row, {"prompt": "c"}], limits=Limits(max_prompt_chars=100))
    assert [item.prompt for item in done.items] == ["b", "c"]
    assert [one.row for one in done.rejected] == [1]
    assert done.problems[0].startswith(said)


@pytest.mark.parametrize(
    ("count", "end"),
    [
        (SHOWN_COLUMNS, f"'c{SHOWN_COLUMNS - 1}'"),
        (SHOWN_COLUMNS + 1, f"'c{SHOWN_COLUMNS - 1}' and 1 more"),
        (5000, f"'c{SHOWN_COLUMNS - 1}' and {5000 - SHOWN_COLUMNS} more"),
    ],
)
def test_an_error_names_some_of_the_columns_and_how_many_more_there_are(
    count: int, end: str
) -> None:
    done = Expanded([{f"c{number}": 1 for number in range(count)}])
    assert done.problems[0].startswith("prompt: is missing; the columns are: 'c0', 'c1', ")
    assert done.problems[0].endswith(end)


def test_a_wrong_column_of_a_table_is_one_problem_and_not_one_for_every_row() -> None:
    problems = Problems("a.csv", on_rejected=lambda _one: None)
    expander = Expander(Rules(), Settings(), Kept(), problems)
    with pytest.raises(ManifestProblems) as caught:
        expander.read(Rows([{"prompt": "a", "widht": 8}] * 1000, table=True))
    assert problems.total == 1
    assert caught.value.message.startswith("a.csv:1: widht: is no field; did you mean 'width'?")


def test_a_wrong_column_of_single_objects_is_a_problem_of_each() -> None:
    done = Expanded([{"prompt": "a", "widht": 8}] * 3 + [{"prompt": "b"}])
    assert [one.row for one in done.rejected] == [0, 1, 2]
    assert len(done.items) == 1


def test_memory_stays_flat_over_many_rows_with_the_same_fault() -> None:
    rows = ({"prompt": "x" * 5000, "widht": number} for number in range(20_000))
    expander = Expander(Rules(), Settings(), Kept(), Problems("a"))
    tracemalloc.start()
    expander.read(Rows(rows))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 2 << 20


@pytest.mark.parametrize("name", ["tag {}", "tags"])
def test_memory_stays_flat_over_rows_with_columns_of_their_own(
    monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    monkeypatch.setattr(expansion, "_KEPT_COLUMNS", 100)
    monkeypatch.setattr(expansion, "_KEPT_SETTINGS", 100)

    class Dropped(Kept):
        def add(self, group: int, item: Item) -> None:
            pass

    rows: Iterator[dict[str, Any]] = (
        {"prompt": "a", "width": 8 + number, name.format(number): {} if name == "tags" else 1}
        for number in range(5000)
    )
    expander = Expander(Rules(), Same(), Dropped(), Problems("a"))
    tracemalloc.start()
    expander.read(Rows(rows))
    expander.tag_names.clear()  # which are as many as there are
    kept = tracemalloc.get_traced_memory()[0]
    tracemalloc.stop()
    assert expander.items == 5000
    assert kept < 1 << 19


# Limits


def test_images_of_a_row_are_limited_over_its_sweep() -> None:
    sweep = tuple({"seed": number} for number in range(5))
    limits = Limits(max_images_per_row=20)
    done = Expanded([{"prompt": "a", "n": 4}, {"prompt": "b", "n": 5}], sweep=sweep, limits=limits)
    assert len(done.items) == 20
    assert done.problems == [
        "num_images: the row makes 25 images; the limit is 20 (RENDERMILL_MAX_IMAGES_PER_ROW)"
    ]


def test_images_of_a_job_are_limited() -> None:
    rows = [{"prompt": "a", "n": 3}, {"prompt": "b", "n": 2}, {"prompt": "c", "n": 1}]
    done = Expanded(rows, limits=Limits(max_items=4))
    assert [item.prompt for item in done.items] == ["a", "a", "a", "c"]
    assert done.problems == ["item 5 is one too many; the limit is 4 (RENDERMILL_MAX_ITEMS)"]


# Anything

VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.text(max_size=3), inner),
    max_leaves=4,
)
NAMES = st.sampled_from(
    ["prompt", "seed", "n", "width", "steps", "cfg", "scheduler", "model", "tags", "tag.x", "x"]
) | st.text(max_size=8)


@given(st.lists(st.dictionaries(NAMES, VALUES, max_size=5), max_size=4), st.booleans())
def test_any_row_becomes_items_or_is_refused_whole(rows: list[dict[str, Any]], typed: bool) -> None:
    done = Expanded(rows, typed=typed, defaults={"prompt": "a"}, limits=Limits(max_items=500))
    rendered = {item.row for item in done.items}
    refused = [one.row for one in done.rejected]
    assert rendered | set(refused) == set(range(len(rows)))
    assert len(rendered) + len(refused) == len(rows)
    assert all(0 <= item.seed <= SEED_MAX for item in done.items)
    assert all(type(text) is str for item in done.items for text in item.tags.values())


# Dynamic prompts


def expanding(mode: Mode, **limits: int) -> dict[str, Any]:
    bounds = Limits(**limits)
    source = DynamicPrompts(mode, Wildcards([], bounds), seed=0, limits=bounds)
    return {"dynamic": source, "limits": bounds}


def test_braces_are_signs_where_nothing_else_was_asked_for() -> None:
    (item,) = Expanded([{"prompt": "a {b|c}"}]).items
    assert (item.prompt, item.template) == ("a {b|c}", None)


def test_each_combination_is_an_item_with_a_seed_of_its_own() -> None:
    done = Expanded([{"prompt": "{a|b}", "n": 2}], **expanding(Mode.COMBINATORIAL))
    assert [(item.image_no, item.prompt) for item in done.items] == [
        (0, "a"), (1, "a"), (2, "b"), (3, "b"),
    ]  # fmt: skip
    assert {item.template for item in done.items} == {"{a|b}"}
    assert done.seeds == [derive_seed(0, 0, image_no) for image_no in range(4)]


def test_seeds_of_a_row_count_up_over_its_combinations() -> None:
    done = Expanded([{"prompt": "{a|b}", "n": 2, "seed": 5}], **expanding(Mode.COMBINATORIAL))
    assert done.seeds == [5, 6, 7, 8]


def test_both_texts_and_their_templates_are_kept() -> None:
    rows = [{"prompt": "{a}", "negative_prompt": "{b}"}, {"prompt": "c"}]
    first, second = Expanded(rows, **expanding(Mode.RANDOM)).items
    assert (first.prompt, first.negative_prompt) == ("a", "b")
    assert (first.template, first.negative_template) == ("{a}", "{b}")
    assert (second.template, second.negative_template) == (None, None)


def test_a_sweep_draws_the_same_texts_at_every_step() -> None:
    rows = [{"prompt": "{0|1|2|3|4|5|6|7|8|9}" * 4, "n": 2}]
    done = Expanded(rows, sweep=({"width": 8}, {"width": 16}), **expanding(Mode.RANDOM))
    first, second, *rest = [item.prompt for item in done.items]
    assert first != second
    assert rest == [first, second]


def test_prompts_of_a_sweep_are_templates_too() -> None:
    sweep = ({"prompt": "{a|b}"}, {"prompt": "c"})
    done = Expanded([{}], sweep=sweep, **expanding(Mode.COMBINATORIAL))
    assert [item.prompt for item in done.items] == ["a", "b", "c"]


def test_a_row_does_not_change_what_others_draw() -> None:
    row = {"prompt": "{0|1|2|3|4|5|6|7|8|9}" * 4}
    one = Expanded([row, row, row], **expanding(Mode.RANDOM)).items
    two = Expanded([{"prompt": "{x|y}", "n": 7}, row, row], **expanding(Mode.RANDOM)).items
    assert [item.prompt for item in one[1:]] == [item.prompt for item in two[7:]]


def test_a_bad_template_is_a_problem_of_its_line_and_field() -> None:
    rows = [{"prompt": "{a|b}"}, {"prompt": "a", "negative": "{b"}, {"prompt": "__c__"}]
    done = Expanded(rows, **expanding(Mode.COMBINATORIAL))
    assert [(one.line, one.problems) for one in done.rejected] == [
        (2, ("a:2: negative_prompt: character 1: '{' is not closed; write \\{ for the sign",)),
        (3, ("a:3: prompt: c: no folder of wildcards is named (--wildcards)",)),
    ]
    assert len(done.items) == 2


def test_combinations_count_among_the_images_of_row_and_job() -> None:
    rows = [{"prompt": "{a|b|c}", "n": 3}, {"prompt": "{a|b|c}", "n": 2}, {"prompt": "d"}]
    done = Expanded(rows, **expanding(Mode.COMBINATORIAL, max_images_per_row=8, max_items=6))
    assert len(done.items) == 6
    assert [text.partition(";")[0] for text in done.problems] == [
        "num_images: the row makes 9 images",
        "item 7 is one too many",
    ]
    done = Expanded([{"prompt": "{a|b}", "seed": SEED_MAX}], **expanding(Mode.COMBINATORIAL))
    assert done.problems == [f"seed: plus 2 images passes the largest, {SEED_MAX}"]
