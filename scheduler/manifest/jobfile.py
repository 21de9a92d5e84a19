"""YAML job files: defaults, a sweep, and the items or the manifest they apply to."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any, BinaryIO

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
from scheduler.manifest.problems import FieldError, ManifestProblems, Problems
from scheduler.manifest.readers.base import Row
from storage.contract.items import SEED_MAX
from storage.contract.keys import JOB_NAME

MAX_JOB_FILE_BYTES = 64 << 20
"""A job file is held in memory; more items than fit into it belong into a manifest."""

_Name = Annotated[str, StringConstraints(pattern=f"^{JOB_NAME.pattern}$")]


class JobFile(BaseModel):
    """What a job file may say."""

    model_config = ConfigDict(extra="forbid", strict=True)

    name: _Name | None = None
    seed: int | None = Field(default=None, ge=0, le=SEED_MAX)
    priority: int | None = Field(default=None, ge=-1000, le=1000)
    defaults: dict[str, Any] = Field(default_factory=dict)
    sweep: list[dict[str, list[Any]]] = Field(default_factory=list)
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


def read_job_file(stream: BinaryIO, problems: Problems) -> tuple[JobFile, list[int], str]:
    """The checked job file, the lines its items start on, and its SHA-256.

    Raises `ManifestProblems` with every fault pydantic finds.
    """
    data = stream.read(MAX_JOB_FILE_BYTES + 1)
    if len(data) > MAX_JOB_FILE_BYTES:
        said = exceeded("is too large for a job file", MAX_JOB_FILE_BYTES, "max_job_file_bytes")
        raise problems.fatal(said, hint="put the items into a JSONL file and name it: manifest:")
    try:
        tree, lines = _compose(data.decode(), problems)
    except UnicodeDecodeError as error:
        raise problems.fatal(f"is not UTF-8 at byte {error.start + 1}") from error
    except yaml.YAMLError as error:
        raise _bad_yaml(error, problems) from error
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


def _compose(text: str, problems: Problems) -> tuple[Any, list[int]]:
    loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)(text)
    try:
        node = loader.get_single_node()
        if node is None:
            return None, []
        _refuse_doubled_keys(node, problems)
        return loader.construct_document(node), _item_lines(node)
    finally:
        loader.dispose()


def _bad_yaml(error: yaml.YAMLError, problems: Problems) -> ManifestProblems:
    mark = getattr(error, "problem_mark", None)
    said = getattr(error, "problem", None) or " ".join(str(error).split())
    problems.add(mark.line + 1 if mark else None, None, f"is not YAML: {said}")
    return problems.refused(hint="quote texts that hold : # { } [ ] , or quotation marks")


def _item_lines(node: yaml.Node) -> list[int]:
    if isinstance(node, yaml.MappingNode):
        for key, value in node.value:
            if key.value == "items" and isinstance(value, yaml.SequenceNode):
                return [item.start_mark.line + 1 for item in value.value]
    return []


def _refuse_doubled_keys(root: yaml.Node, problems: Problems) -> None:
    """YAML parsers keep the last of two equal keys and say nothing; a user means both."""
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
                waiting.append(value)
        elif isinstance(node, yaml.SequenceNode):
            waiting.extend(node.value)
