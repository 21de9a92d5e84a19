"""Cursors come back as they were, and only to the search they were made for."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from scheduler.catalog.cursor import decode, encode
from storage.contract.errors import InputError
from storage.db.search import Place, Sort

places = st.builds(
    Place,
    st.integers(0, 2**62),
    st.none() | st.floats(allow_nan=False, allow_infinity=False),
)


@given(place=places, query=st.text(max_size=20), down=st.booleans())
def test_a_cursor_comes_back_as_it_was(place: Place, query: str, down: bool) -> None:
    sort = Sort("seed", down)
    assert decode(encode(place, query, sort), query, sort) == place


def test_a_cursor_of_another_search_is_refused() -> None:
    made = encode(Place(5, 1.0), "fox", Sort("seed"))
    for query, sort in [
        ("cat", Sort("seed")),
        ("fox", Sort("bytes")),
        ("fox", Sort("seed", False)),
    ]:
        with pytest.raises(InputError, match="another query or sort"):
            decode(made, query, sort)


@given(st.text(max_size=60))
def test_what_is_no_cursor_is_refused(text: str) -> None:
    with pytest.raises(InputError, match="cursor"):
        decode(text, "fox", Sort())
