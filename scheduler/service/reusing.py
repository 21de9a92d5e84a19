"""Which items of a new job need no rendering, because the catalog has their images.

First the keys of all items are looked up, beside the writing of the shards. Then, in the
transaction that creates the job, those that were found are looked up once more and linked. So a
manifest nothing of which was ever rendered costs that transaction nothing.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Final

import msgspec
import sqlalchemy as sa

from scheduler.manifest.spool import ItemSpool
from storage.contract.claims import Rendering
from storage.contract.errors import ModelError
from storage.contract.items import GroupSpec, Item
from storage.contract.lineage import Lineage, lineage_of
from storage.contract.models import ModelCard
from storage.contract.output import OutputOptions
from storage.contract.reuse import LIBRARIES, ReuseKeys, reuse_keys
from storage.contract.shards import unpack
from storage.db import links
from storage.db.engine import Ledger
from storage.db.images import ImageRow
from storage.db.jobs import NewGroup
from storage.db.ranges import Range
from storage.db.tables import images
from storage.models.hashes import FileHashes, loaded_hash
from storage.models.resolve import describe

HASHES: Final = "hashes.json"
"""In the home: what was found of weight files."""

_RENDERING: Final = msgspec.json.Decoder(Rendering)
_LOOKED_AT: Final = 20


class Reuse:
    """What a submit needs to know for reusing images: the weights and versions at hand."""

    def __init__(self, ledger: Ledger, files: FileHashes) -> None:
        self._ledger = ledger
        self._files = files
        self._card = cache(describe)

    @classmethod
    def at(cls, ledger: Ledger, home: Path) -> Reuse:
        """With what is remembered in a home."""
        return cls(ledger, FileHashes(home / HASHES))

    def plan(self, groups: Sequence[NewGroup], output: OutputOptions) -> Plan:
        """Ready to look a job's items up."""
        versions = self._versions()
        keys = [self._keys(group.spec, output, versions) for group in groups]
        self._files.keep()
        return Plan(groups, keys)

    def _keys(
        self, spec: GroupSpec, output: OutputOptions, versions: Mapping[str, str]
    ) -> ReuseKeys | None:
        weights = self._weights(spec)
        if weights is None:
            return None
        return reuse_keys(spec, output, weights=weights, versions=versions)

    def _weights(self, spec: GroupSpec) -> str | None:
        try:
            card: ModelCard = self._card(spec.model, spec.revision)
        except ModelError:
            return None
        return loaded_hash(spec, card, self._files)

    def _versions(self) -> dict[str, str]:
        """Of the libraries here; without torch, those that workers last rendered with."""
        with suppress(PackageNotFoundError):
            return {name: version(name) for name in LIBRARIES}
        with self._ledger.read() as connection:
            return last_versions(connection)


def last_versions(connection: sa.Connection) -> dict[str, str]:
    """The versions with which the newest images were rendered; empty if there are none."""
    found = connection.execute(
        sa.select(images.c.rendering).order_by(images.c.created_at.desc()).limit(_LOOKED_AT)
    )
    for text in found.scalars():
        if text and (versions := _RENDERING.decode(text).versions):
            return versions
    return {}


class Plan:
    """A job's items as they are looked up and linked."""

    def __init__(self, groups: Sequence[NewGroup], keys: Sequence[ReuseKeys | None]) -> None:
        self._groups = groups
        self._keys = keys
        self._starts = [group.first_item for group in groups]
        self._found: dict[int, list[int]] = {}  # items with an image, by shard's first item

    @property
    def is_hopeful(self) -> bool:
        """Whether any item may be linked at all."""
        return any(self._keys)

    def look(self, ledger: Ledger, first: int, shard: bytes) -> None:
        """Note which items of a shard have an image."""
        if not self.is_hopeful:
            return
        keyed = dict(self._keyed(enumerate(unpack(shard), first)))
        if not keyed:
            return
        with ledger.read() as connection:
            known = links.known_keys(connection, list(keyed.values()))
        items = [number for number, key in keyed.items() if key in known]
        if items:
            self._found[first] = items

    def link(self, connection: sa.Connection, job_id: int, sink: ItemSpool, now: float) -> int:
        """Link what was found, in the transaction that creates the job; how many items."""
        if not self._found:
            return 0
        its_groups = links.groups_of(connection, job_id, [one.spec for one in self._groups])
        wanted = self._wanted(its_groups)
        done: dict[int, list[int]] = {}
        for first, _, shard in sink.shards():
            chosen = [number for number in self._found.get(first, ()) if number in wanted]
            if not chosen:
                continue
            items = unpack(shard)
            rows = []
            for number, item, source in self._sources(connection, first, items, chosen):
                group = its_groups[self._group_of(number)]
                row = links.link_row(job_id, group, number, item, source)
                told = _lineage(item, source)
                rows.append(msgspec.structs.replace(row, created_at=now, lineage=told))
                done.setdefault(group.id, []).append(number)
            links.write(connection, rows)
        left = {
            group.id: links.unlinked(group.first_item, group.stop_item, done[group.id])
            for group in its_groups
            if group.id in done
        }
        counts = {group_id: len(items) for group_id, items in done.items()}
        return links.settle(connection, job_id, left, counts, now=now).images

    def _wanted(self, its_groups: Sequence[links.LinkedGroup]) -> set[int]:
        """Of the items with an image, those to link: so that few ranges are left between them."""
        found = sorted(number for some in self._found.values() for number in some)
        wanted: set[int] = set()
        at = 0
        for group in its_groups:
            stop = at
            while stop < len(found) and found[stop] < group.stop_item:
                stop += 1
            own, at = found[at:stop], stop
            if own:
                runs = links.unlinked(group.first_item, group.stop_item, own)
                wanted.update(_outside(own, runs))
        return wanted

    def _sources(
        self, connection: sa.Connection, first: int, items: Sequence[Item], chosen: Sequence[int]
    ) -> Iterator[tuple[int, Item, ImageRow]]:
        """The chosen items of a shard with the images they are to be linked to."""
        keyed = dict(self._keyed((number, items[number - first]) for number in chosen))
        there = links.sources(connection, list(keyed.values()))
        for number in chosen:
            source = there.get(keyed[number])
            if source is not None:  # else somebody hid it just now
                yield number, items[number - first], source

    def _keyed(self, items: Iterable[tuple[int, Item]]) -> Iterator[tuple[int, str]]:
        for number, item in items:
            keys = self._keys[self._group_of(number)]
            if keys is not None:
                yield number, keys.of(item)

    def _group_of(self, number: int) -> int:
        return bisect_right(self._starts, number) - 1


_LINEAGE: Final = msgspec.json.Decoder(Lineage)


def _lineage(item: Item, source: ImageRow) -> str | None:
    """The item's own template and pictures, with how the source was made."""
    before = _LINEAGE.decode(source.lineage) if source.lineage else Lineage()
    return lineage_of(item, before).encode()


def _outside(items: Sequence[int], runs: Sequence[Range]) -> Iterator[int]:
    """Those of the ascending items that lie in none of the ascending runs."""
    ahead = iter(runs)
    run = next(ahead, None)
    for item in items:
        while run is not None and run[1] <= item:
            run = next(ahead, None)
        if run is None or item < run[0]:
            yield item
