"""The tree of exceptions is as it is drawn, and every class says what it means."""

from __future__ import annotations

import inspect
import pickle
import re

import pytest

from storage.contract import errors
from storage.contract.errors import InputError, RendermillError

CLASSES = [
    one
    for _, one in inspect.getmembers(errors, inspect.isclass)
    if issubclass(one, BaseException) and one.__module__ == errors.__name__
]


def drawn_tree() -> dict[str, str | None]:
    """Each class named in the drawing, with the one it hangs from."""
    drawn: dict[str, str | None] = {}
    above: list[str] = []
    for line in (errors.__doc__ or "").splitlines():
        found = re.match(r" {4}((?:[|` ]   |\|-- |`-- )*)([A-Z]\w+) ", line + " ")
        if found:
            depth = len(found[1]) // 4
            above[depth:] = [found[2]]
            drawn[found[2]] = above[depth - 1] if depth else None
    return drawn


def test_the_drawing_shows_exactly_the_classes_there_are_and_how_they_hang() -> None:
    real = {one.__name__: one.__base__.__name__ for one in CLASSES if one.__base__}
    assert drawn_tree() == real | {"RendermillError": None}
    assert len(CLASSES) > 10


@pytest.mark.parametrize("kind", CLASSES)
def test_the_docstring_of_a_class_is_its_default_message(kind: type[RendermillError]) -> None:
    error = kind()
    assert error.message == str(error) == (kind.__doc__ or "").strip()
    assert re.fullmatch(r"[A-Z].*\.", error.message), "a sentence of its own, not the base's"
    assert error.hint is None


@pytest.mark.parametrize("kind", CLASSES)
def test_only_what_the_user_can_mend_exits_with_2(kind: type[RendermillError]) -> None:
    assert kind.exit_code == (2 if issubclass(kind, InputError) else 1)


def test_a_message_and_a_hint_are_kept_on_the_way_between_processes() -> None:
    error = pickle.loads(pickle.dumps(errors.StoreFull("no space", hint="free some")))
    assert isinstance(error, errors.StoreFull)
    assert (str(error), error.message, error.hint) == ("no space", "no space", "free some")
