"""Names of objects and images, and the render key."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from storage.contract.keys import (
    JOB_NAME,
    image_id,
    image_key,
    job_name_from,
    parse_image_id,
    render_key,
    shard_key,
    thumbnail_key,
)

names = st.from_regex(JOB_NAME, fullmatch=True)
items = st.integers(0, 10**12)

leaves = (
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**63 - 1)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(max_size=5)
)
values = st.recursive(
    leaves,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=2), inner),
    max_leaves=6,
)
facts = st.dictionaries(st.sampled_from("abcd"), values)


def reversed_everywhere(value: Any) -> Any:
    """The same value with the keys of every mapping in it in the opposite order."""
    if isinstance(value, dict):
        return {key: reversed_everywhere(value[key]) for key in reversed(value)}
    return [reversed_everywhere(one) for one in value] if isinstance(value, list) else value


def test_objects_lie_where_the_catalog_of_older_versions_says() -> None:
    assert image_key("shapes", 1234) == "renders/shapes/00001/000001234.png"
    assert image_key("shapes", 0, "jpg") == "renders/shapes/00000/000000000.jpg"
    assert thumbnail_key("shapes", 99_999_999) == "thumbnails/shapes/99999/099999999.webp"
    assert shard_key("abc", 4096) == "jobs/abc/items-000000004096.msgpack"


@given(st.tuples(names, items), st.tuples(names, items))
def test_two_images_never_share_an_object(one: tuple[str, int], other: tuple[str, int]) -> None:
    for key in (image_key, thumbnail_key, image_id):
        assert (key(*one) == key(*other)) == (one == other)


@given(first=st.integers(0, 10**8), count=st.integers(1, 5000))
def test_a_folder_holds_a_thousand_images_at_most(first: int, count: int) -> None:
    folders = [image_key("job", item).rpartition("/")[0] for item in range(first, first + count)]
    assert max(map(folders.count, {folders[0], folders[-1], folders[count // 2]})) <= 1000


@given(names, st.integers(0, 10**17))
def test_an_image_id_is_read_back(name: str, item: int) -> None:
    assert parse_image_id(f" {image_id(name, item)}\n") == (name, item)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "12",
        "/12",
        "shapes/",
        "shapes/x",
        "shapes/-1",
        "Shapes/1",
        "a/b/1",
        "../1",
        "shapes/1.5",
    ],
)
def test_what_is_no_image_id_is_refused_with_an_example(text: str) -> None:
    with pytest.raises(ValueError, match="is not an image id; one looks like 'shapes/12'"):
        parse_image_id(text)


@pytest.mark.parametrize("digits", [19, 5000])
def test_an_item_too_large_for_a_database_is_no_image_id(digits: int) -> None:
    with pytest.raises(ValueError, match="is not an image id"):
        parse_image_id("shapes/" + "9" * digits)


@given(st.text())
def test_any_text_gives_a_legal_job_name(text: str) -> None:
    assert JOB_NAME.fullmatch(job_name_from(text))


@given(names)
def test_a_legal_job_name_is_hardly_touched(name: str) -> None:
    assert name.startswith(job_name_from(name))


@pytest.mark.parametrize(
    ("text", "name"),
    [("My Shapes (final)", "my-shapes-final"), ("名前", "job"), ("_a_", "a"), ("x" * 99, "x" * 64)],
)
def test_a_job_is_named_like_its_file(text: str, name: str) -> None:
    assert job_name_from(text) == name


@given(facts)
def test_the_render_key_does_not_depend_on_the_order_of_keys(found: dict[str, Any]) -> None:
    assert render_key(reversed_everywhere(found)) == render_key(found)


@given(facts, st.sampled_from("abcd"), values)
def test_the_render_key_depends_on_every_value_and_its_type(
    found: dict[str, Any], key: str, value: Any
) -> None:
    changed = found | {key: value}
    same = json.dumps(changed, sort_keys=True) == json.dumps(found, sort_keys=True)
    assert (render_key(changed) == render_key(found)) == same


@pytest.mark.parametrize(("one", "other"), [(1, 1.0), (1, True), (0, None), ("1", 1), ([], {})])
def test_values_that_python_may_call_equal_have_different_render_keys(
    one: object, other: object
) -> None:
    assert render_key({"a": one}) != render_key({"a": other})


def test_render_keys_never_change_between_versions() -> None:
    found = {
        "prompt": "a red star",
        "seed": 7,
        "guidance_scale": 4.0,
        "sub": {"b": None, "a": [1, True]},
    }
    assert render_key(found) == "041e3031ca2683b012fd560b017da17f"
