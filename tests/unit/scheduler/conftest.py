"""Fixtures for the tests of the scheduler: manifests, and what is read from them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import msgspec
import pytest

from scheduler.manifest.grouping import Describe
from scheduler.manifest.limits import Limits
from scheduler.manifest.spool import ItemSpool
from scheduler.service.options import SubmitOptions
from scheduler.service.prepare import Prepared, prepared
from storage.contract.errors import ModelError
from storage.contract.items import GroupSpec, Item
from storage.contract.models import ModelCard
from storage.contract.shards import unpack
from storage.testing.factories import make_card

MODELS = ("starter", "other")


@pytest.fixture(autouse=True)
def _hub_is_not_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    """What adapters' branches mean now nobody can tell."""
    monkeypatch.setattr("scheduler.service.adapters.hub_commit", lambda _name, _revision: None)


class Reading(msgspec.Struct, frozen=True, kw_only=True):
    """All that came of a manifest."""

    items: list[Item]  #: group by group
    groups: list[tuple[GroupSpec, list[Item]]]
    problems: list[str]
    total: int
    rejected: list[dict[str, Any]]
    work: Prepared

    @property
    def by_row(self) -> list[Item]:
        """The items in the order of the manifest."""
        return sorted(self.items, key=lambda item: (item.row, item.image_no))

    @property
    def prompts(self) -> list[str]:
        """Their prompts."""
        return [item.prompt for item in self.by_row]

    @property
    def seeds(self) -> list[int]:
        """Their seeds."""
        return [item.seed for item in self.by_row]


@pytest.fixture
def describe() -> Describe:
    """Knows two models."""

    def look_up(model: str, revision: str | None) -> ModelCard:
        if model not in MODELS:
            raise ModelError(f"no model {model!r}", hint="there are: starter, other")
        return make_card(model=model, revision=revision)

    return look_up


@pytest.fixture
def write(tmp_path: Path) -> Callable[[str, str | bytes], str]:
    """Writes a file and gives its path."""

    def write_file(name: str, content: str | bytes) -> str:
        path = tmp_path / name
        path.write_bytes(content.encode() if isinstance(content, str) else content)
        return str(path)

    return write_file


@pytest.fixture
def read(describe: Describe, write: Callable[[str, str | bytes], str]) -> Callable[..., Reading]:
    """Writes a manifest and reads it as submitting it would; options are `SubmitOptions`'."""

    def read_manifest(
        file: str,
        content: str | bytes,
        named: Mapping[str, Any] | None = None,
        *,
        limits: Limits | None = None,
        **options: Any,
    ) -> Reading:
        asked = SubmitOptions(manifest=write(file, content), **(named or {}), **options)
        with prepared(asked, limits=limits or Limits(), describe=describe) as work:
            return _reading(work)

    return read_manifest


def _reading(work: Prepared) -> Reading:
    assert isinstance(work.sink, ItemSpool)
    items = [item for _, _, shard in work.sink.shards() for item in unpack(shard)]
    rejected: list[dict[str, Any]] = []
    if work.rejected is not None:
        work.rejected.seek(0)
        rejected = [msgspec.json.decode(line) for line in work.rejected]
    return Reading(
        items=items,
        groups=[(one.spec, items[one.first_item : one.stop_item]) for one in work.groups],
        problems=[str(problem) for problem in work.problems.first],
        total=work.problems.total,
        rejected=rejected,
        work=work,
    )
