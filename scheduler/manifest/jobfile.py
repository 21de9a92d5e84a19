"""YAML job files: defaults, a sweep, and the items or the manifest they apply to."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any, BinaryIO, Final, cast

import yaml
from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    StringConstraints,
    ValidationError,
    model_validator,
)

from scheduler.manifest.limits import exceeded
from scheduler.manifest.lines import decoded, read_block
from scheduler.manifest.problems import FieldError, ManifestProblems, Problems
from scheduler.manifest.readers.base import Row
from scheduler.manifest.values import encodable, shown
from storage.contract.items import SEED_MAX
from storage.contract.keys import JOB_NAME

MAX_DEPTH: Final = 50
"""The parser works by recursion in C, so that a deeper file could end the process."""

_Name = Annotated[str, StringConstraints(pattern=f"^{JOB_NAME.pattern}$")]


class JobFile(BaseModel):
    """What a job file may say."""

    model_config = ConfigDict(extra="forbid", strict=True)

    name: _Name | None = None
    seed: int | None = Field(default=None, ge=0, le=SEED_MAX)
    priority: int | None = Field(default=None, ge=-1000, le=1000)
    defaults: dict[str, Any] = Field(default_factory=dict)
    sweep: list[dict[str, list[Any]]] = Field(default_factory=list)
    output: dict[str, Any] = Field(default_factory=dict)
    dynamic_prompts: str | None = None
    wildcards: list[str] = Field(default_factory=list)
    items: list[dict[str, Any]] | None = None
    manifest: str | None = None

    @model_validator(mode="after")
    def _one_source(self) -> JobFile:
        if (self.items is None) == (self.manifest is None):
            raise ValueError("needs either 'items' or 'manifest'")
        return self


class ItemsReader:
    """The items of a job file as rows."""

    typed = True
    same_columns = False

    def __init__(self, items: list[dict[str, Any]], lines: list[int]) -> None:
        self._items = items
        self._lines = lines

    @property
    def digest(self) -> str:
        """The job file's own hash covers its items."""
        return ""

    @property
    def notes(self) -> list[str]:
        """Nothing is passed over silently."""
        return []

    def rows(self) -> Iterator[Row]:
        """One row an item."""
        for line, item in zip(self._lines, self._items, strict=True):
            odd = next((key for key in item if not isinstance(key, str)), None)
            if odd is not None:
                yield line, FieldError(str(odd), "must be text; put it in quotation marks")
            else:
                yield line, item


def read_job_file(
    stream: BinaryIO, problems: Problems, *, max_bytes: int
) -> tuple[JobFile, list[int], str]:
    """The checked job file, the lines its items start on, and its SHA-256.

    Raises `ManifestProblems` with every fault pydantic finds.
    """
    data = read_block(stream, max_bytes + 1, problems)
    if len(data) > max_bytes:
        said = exceeded("is too large for a job file", max_bytes, "max_job_file_bytes")
        raise problems.fatal(said, hint="put the items into a JSONL file and name it: manifest:")
    try:
        tree, lines = _compose(decoded(data), problems)
    except yaml.YAMLError as error:
        raise _bad_yaml(error, problems) from error
    except ValueError as error:
        raise problems.fatal(str(error)) from error
    if not isinstance(tree, dict):
        raise problems.fatal("must be a mapping with 'items' or 'manifest'")
    try:
        return JobFile.model_validate(tree), lines, hashlib.sha256(data).hexdigest()
    except ValidationError as error:
        for fault in error.errors():
            place = ".".join(map(str, fault["loc"])) or None
            problems.add(None, place, fault["msg"].removeprefix("Value error, "))
        raise problems.refused() from error


def manifest_path(job_file: Path, manifest: str) -> Path:
    """Where a job file's manifest lies: relative to the job file."""
    return job_file.parent / manifest


_SafeLoader: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


class _Loader(_SafeLoader):  # type: ignore[misc]
    """Says where a value stands that looks like a date or number and is none."""

    def construct_object(self, node: yaml.Node, deep: bool = False) -> Any:
        try:
            return super().construct_object(node, deep=deep)
        except (ValueError, ArithmeticError, AttributeError, TypeError, LookupError) as error:
            value = shown(node.value) if isinstance(node, yaml.ScalarNode) else "a value"
            said = f"{value} is no valid {node.tag.rpartition(':')[2]}"
            raise yaml.constructor.ConstructorError(None, None, said, node.start_mark) from error


def _compose(text: str, problems: Problems) -> tuple[Any, list[int]]:
    _refuse_depth(text)
    loader = _Loader(text)
    try:
        node = loader.get_single_node()
        if node is None:
            return None, []
        _check_nodes(node, problems)
        return loader.construct_document(node), _item_lines(node)
    finally:
        loader.dispose()


def _refuse_depth(text: str) -> None:
    depth = 0
    for event in yaml.parse(text, Loader=_SafeLoader):
        if isinstance(event, yaml.CollectionStartEvent):
            depth += 1
            if depth > MAX_DEPTH:
                said = f"is nested deeper than {MAX_DEPTH} levels"
                mark = cast("Any", event.start_mark)
                raise yaml.composer.ComposerError(None, None, said, mark)
        elif isinstance(event, yaml.CollectionEndEvent):
            depth -= 1


def _bad_yaml(error: yaml.YAMLError, problems: Problems) -> ManifestProblems:
    mark = getattr(error, "problem_mark", None)
    said = getattr(error, "problem", None) or " ".join(str(error).split())
    problems.add(mark.line + 1 if mark else None, None, f"cannot be read as YAML: {said}")
    return problems.refused(hint="quote texts that hold : # { } [ ] , or quotation marks")


def _item_lines(node: yaml.Node) -> list[int]:
    if isinstance(node, yaml.MappingNode):
        for key, value in reversed(node.value):  # of keys merged in, the last one counts
            if key.value == "items" and isinstance(value, yaml.SequenceNode):
                return [item.start_mark.line + 1 for item in value.value]
    return []


def _check_nodes(root: yaml.Node, problems: Problems) -> None:
    """Refuse keys that are there twice (parsers keep the last), and texts that are no text."""
    waiting = [root]
    seen_nodes: set[int] = set()
    while waiting:
        node = waiting.pop()
        if id(node) in seen_nodes:  # an alias
            continue
        seen_nodes.add(id(node))
        if isinstance(node, yaml.MappingNode):
            keys: set[str] = set()
            for key, value in node.value:
                if isinstance(key, yaml.ScalarNode):
                    if key.value in keys:
                        problems.add(key.start_mark.line + 1, key.value, "is there twice")
                        raise problems.refused()
                    keys.add(key.value)
                waiting += (key, value)
        elif isinstance(node, yaml.SequenceNode):
            waiting.extend(node.value)
        elif not encodable(node.value):
            problems.add(node.start_mark.line + 1, None, f"{node.value!r} is not UTF-8")
            raise problems.refused()
