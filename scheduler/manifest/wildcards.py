"""Wildcards: lists of texts in folders, by the names templates call them.

``colour.txt`` (one text a line; ``#`` begins a comment) is ``__colour__``, and
``animals/birds.txt`` is ``__animals/birds__``. A YAML file holds lists under keys, which are
names inside the file's folder: ``{birds: [...], big: {cats: [...]}}`` in ``animals/all.yaml``
is ``__animals/birds__`` and ``__animals/big/cats__``; a YAML file that is one list has the
file's name. Of two folders, or two files in one, the first in order that has a name counts.
"""

from __future__ import annotations

import difflib
import fnmatch
import hashlib
import os
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import yaml

from scheduler.manifest.limits import Limits, exceeded
from scheduler.manifest.lines import decoded

_MAX_DEPTH: Final = 20  # of a YAML file
_WEIGHT: Final = re.compile(r"\s*(\d+(?:\.\d*)?|\.\d+)::(.*)", re.DOTALL)
_BaseLoader: Any = getattr(yaml, "CBaseLoader", yaml.BaseLoader)  # everything stays text


_ANY: Final = ""
"""Stands for all names: no folder could be looked through."""


class WildcardFault(ValueError):
    """A wildcard cannot be used; the message names it, or its file and line."""


@dataclass(frozen=True, slots=True)
class Value:
    """One text of a wildcard."""

    text: str
    weight: float
    place: str  #: file and line, for messages


class Wildcards:
    """The wildcards of some folders. Files are looked for, and read, when first asked for."""

    def __init__(self, folders: Sequence[Path], limits: Limits) -> None:
        """Folders in the order in which they are searched."""
        self._folders = folders
        self._limits = limits
        self._read_bytes = 0
        self._texts: dict[str, Path] | None = None  # by name, once they were looked for
        self._lists: dict[str, list[Value]] = {}
        self._digests: dict[str, str] = {}
        self._faults: dict[str, str] = {}

    @property
    def digest(self) -> str:
        """SHA-256 over the files that were read, in the order of their names."""
        together = "\0".join(f"{name}\0{of}" for name, of in sorted(self._digests.items()))
        return hashlib.sha256(together.encode(errors="surrogateescape")).hexdigest()

    def values(self, name: str) -> list[Value]:
        """The texts of ``__name__``, none twice; `*` in the name joins all that match.

        Raises `WildcardFault` if there is none, or a file cannot be read. What was found once
        is not looked for again, faults neither.
        """
        said = self._faults.get(name) or self._faults.get(_ANY)
        if said is None:
            try:
                return self._found(name)
            except WildcardFault as fault:
                said = str(fault)
                self._faults[name if self._texts is not None else _ANY] = said
        raise WildcardFault(said)

    def _found(self, name: str) -> list[Value]:
        known = self._known()
        if name in self._faults:
            raise WildcardFault(self._faults[name])
        names = sorted(n for n in known if fnmatch.fnmatchcase(n, name)) if "*" in name else [name]
        found: dict[str, Value] = {}
        for one in names:
            for value in self._of(one):
                found.setdefault(value.text, value)
        if not names or not found:
            raise WildcardFault(self._missing(name) if name not in known else f"{name}: is empty")
        if not any(value.weight for value in found.values()):
            raise WildcardFault(f"{name}: all its weights are 0")
        return list(found.values())

    def _of(self, name: str) -> list[Value]:
        if name not in self._lists:
            path = (self._texts or {}).get(name)
            if path is None:
                return []
            self._lists[name] = list(self._lines(path))
        return self._lists[name]

    def _known(self) -> set[str]:
        if self._texts is None:
            texts: dict[str, Path] = {}
            for folder in self._folders:
                for path in _files(folder):
                    self._note(folder, path, texts)
            self._texts = texts
        return self._texts.keys() | self._lists.keys()

    def _note(self, folder: Path, path: Path, texts: dict[str, Path]) -> None:
        name = path.relative_to(folder).with_suffix("").as_posix()
        if path.suffix == ".txt":
            if name not in self._lists:
                texts.setdefault(name, path)
            return
        place, _, own = name.rpartition("/")
        for keys, node in self._tree(path):
            inner = "/".join(filter(None, (place, *(keys or (own,)))))
            if inner in texts or inner in self._lists:
                continue
            try:  # other YAML files may lie there: what is no list matters if it is asked for
                self._lists[inner] = _entries(path, node, self._checked)
            except WildcardFault as fault:
                self._faults.setdefault(inner, str(fault))

    def _lines(self, path: Path) -> Iterator[Value]:
        for number, raw in enumerate(self._bytes(path).splitlines(), 1):
            place = f"{path}:{number}"
            try:
                text = decoded(raw.removeprefix(b"\xef\xbb\xbf")).strip()
            except ValueError as error:
                raise WildcardFault(f"{place}: {error}") from None
            if text and not text.startswith("#"):
                yield self._checked(text, 1.0, place)

    def _tree(self, path: Path) -> Iterator[tuple[tuple[str, ...], yaml.Node]]:
        """Keys of a YAML file and what they hold."""
        try:
            text = decoded(self._bytes(path))
            _refuse_tricks(text)
            node = yaml.compose(text, Loader=_BaseLoader)
        except yaml.YAMLError as error:
            mark = getattr(error, "problem_mark", None)
            place = f"{path}:{mark.line + 1}" if mark else str(path)
            said = getattr(error, "problem", None) or "the file is broken"
            raise WildcardFault(f"{place}: cannot be read as YAML: {said}") from None
        except ValueError as error:
            raise WildcardFault(f"{path}: {error}") from None
        if node is not None:
            yield from _leaves(node, ())

    def _checked(self, text: str, weight: float, place: str) -> Value:
        most = self._limits.max_prompt_chars
        if len(text) > most:
            said = exceeded(f"is {len(text):,} characters long", most, "max_prompt_chars")
            raise WildcardFault(f"{place}: {said}")
        if "\0" in text:
            raise WildcardFault(f"{place}: holds a NUL character")
        if weight > 1e9:
            raise WildcardFault(f"{place}: a weight must not be above 1,000,000,000")
        return Value(text, weight, place)

    def _bytes(self, path: Path) -> bytes:
        most = self._limits.max_wildcard_bytes
        try:
            with path.open("rb") as file:
                data = file.read(most - self._read_bytes + 1)
        except OSError as error:
            raise WildcardFault(f"{path}: {error.strerror}") from error
        self._read_bytes += len(data)
        if self._read_bytes > most:
            said = exceeded("wildcard files are too large together", most, "max_wildcard_bytes")
            raise WildcardFault(f"{path}: {said}")
        inside = next(path.relative_to(f) for f in self._folders if path.is_relative_to(f))
        self._digests[inside.as_posix()] = hashlib.sha256(data).hexdigest()
        return data

    def _missing(self, name: str) -> str:
        if not self._folders:
            return f"{name}: no folder of wildcards is named (--wildcards)"
        known = self._known()
        near = [n for n in sorted(known) if n.rpartition("/")[2] == name]
        near = near or difflib.get_close_matches(name, known, n=1)
        hint = f"; did you mean __{near[0]}__?" if near else ""
        there = ", ".join(map(str, self._folders))
        return f"{name}: there is no such wildcard in {there}{hint}"


def _files(folder: Path) -> Iterator[Path]:
    """Text and YAML files below `folder`, in the order of their names; links are not followed."""
    for place, folders, files in os.walk(folder):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        for name in sorted(files):
            if not name.startswith(".") and name.endswith((".txt", ".yaml", ".yml")):
                yield Path(place, name)


def _leaves(node: yaml.Node, keys: tuple[str, ...]) -> Iterator[tuple[tuple[str, ...], yaml.Node]]:
    if not isinstance(node, yaml.MappingNode):
        yield keys, node
        return
    for key, value in node.value:
        yield from _leaves(value, (*keys, str(key.value)))


def _entries(
    path: Path, node: yaml.Node, checked: Callable[[str, float, str], Value]
) -> list[Value]:
    """The texts of a list, each with the weight before it: ``3::red``."""
    if not isinstance(node, yaml.SequenceNode):
        raise WildcardFault(f"{_place(path, node)}: must be a list of texts")
    values = []
    for entry in node.value:
        place = _place(path, entry)
        if not isinstance(entry, yaml.ScalarNode):
            raise WildcardFault(f"{place}: must be a text, with its weight as in 3::red")
        weighted = _WEIGHT.fullmatch(entry.value)
        text, weight = (weighted[2], float(weighted[1])) if weighted else (entry.value, 1.0)
        values.append(checked(text, weight, place))
    return values


def _place(path: Path, node: yaml.Node) -> str:
    return f"{path}:{node.start_mark.line + 1}"


def _refuse_tricks(text: str) -> None:
    """No aliases, with which a few lines become gigabytes, and no depths."""
    depth = 0
    for event in yaml.parse(text, Loader=_BaseLoader):
        mark: Any = event.start_mark
        if isinstance(event, yaml.AliasEvent):
            raise yaml.composer.ComposerError(None, None, "aliases (*) are not available", mark)
        if isinstance(event, yaml.CollectionStartEvent):
            depth += 1
            if depth > _MAX_DEPTH:
                said = f"is nested deeper than {_MAX_DEPTH} levels"
                raise yaml.composer.ComposerError(None, None, said, mark)
        elif isinstance(event, yaml.CollectionEndEvent):
            depth -= 1
