"""From rows to items: checking, defaults and overrides, sweeps, seeds, several images a row.

The hot path of submitting. A row whose settings were seen before costs a dictionary look-up;
only prompt, seed, count and tags are checked on every row.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from itertools import islice
from typing import Any, Final, Protocol

from msgspec.structs import replace

from scheduler.manifest.columns import ABSENT, TAGS, Columns
from scheduler.manifest.fields import FIELDS, KIND, is_kind, parse_field
from scheduler.manifest.inputs import NONE, InputReader, Inputs, NoPictures, Pictures, ahead
from scheduler.manifest.limits import Limits, exceeded
from scheduler.manifest.problems import FieldError, Problems
from scheduler.manifest.readers.base import Reader, Values
from scheduler.manifest.sweep import Combination
from scheduler.manifest.tags import check_tags, tag_text
from scheduler.manifest.texts import Texts, TextSource
from scheduler.manifest.values import cell, shown
from storage.contract.items import SEED_MAX, Item, derive_seed

SHOWN_COLUMNS: Final = 20
"""Columns named in an error about them."""

_NO_PICTURES: Final = NONE.keys

_KEPT_COLUMNS = 10_000  # sets of columns worked out
_KEPT_SETTINGS = 100_000  # settings checked


@dataclass(frozen=True, kw_only=True, slots=True)
class Rules:
    """What holds for all rows of a job. Values are parsed."""

    defaults: Mapping[str, Any] = field(default_factory=dict)  #: for rows that say nothing
    overrides: Mapping[str, Any] = field(default_factory=dict)  #: whatever rows say
    sweep: Sequence[Combination] = ({},)
    seed: int = 0  #: from which seeds are derived
    limits: Limits = field(default_factory=Limits)
    dynamic: TextSource | None = None  #: expands prompts, where that was asked for


class GroupIndex(Protocol):
    """Numbers groups in the order of their first item."""

    def group_of(self, settings: Mapping[str, Any], inputs: Inputs = NONE) -> int:
        """The number of the group with these settings; `FieldError` if there can be none.

        Of `inputs`, groups may differ in their `shape` only.
        """


class ItemSink(Protocol):
    """Takes items one by one."""

    def add(self, group: int, item: Item) -> None:
        """Take an item of that group."""


class Expander:
    """Turns a reader's rows into items."""

    def __init__(
        self,
        rules: Rules,
        groups: GroupIndex,
        sink: ItemSink,
        problems: Problems,
        *,
        pictures: Pictures | None = None,
    ) -> None:
        """`pictures` looks at input pictures; without it rows that name one are refused."""
        self._rules = rules
        self._pictures = InputReader(
            pictures or NoPictures(),
            defaults=rules.defaults,
            overrides=rules.overrides,
            sweep=rules.sweep,
        )
        self._no_inputs = [NONE] * len(rules.sweep)
        self._groups = groups
        self._sink = sink
        self._problems = problems
        self._columns: dict[tuple[str, ...], Columns | FieldError] = {}
        self._seen: dict[tuple[Any, ...], list[int]] = {}
        self._typed = True
        self._same_columns = False
        self.rows = 0
        self.items = 0
        self.tag_names: set[str] = set()
        self._swept_prompt = any("prompt" in step for step in rules.sweep)

    def read(self, reader: Reader) -> None:
        """Expand all of the reader's rows; problems go to the collector."""
        self._typed = reader.typed
        self._same_columns = reader.same_columns
        for line, values in ahead(reader.rows(), self._pictures.expect):
            row = self.rows
            self.rows += 1
            try:
                if isinstance(values, FieldError):
                    raise values
                self._expand(row, line, values)
            except FieldError as error:
                self._problems.reject(row, line, [error])
            except _ManyErrors as several:
                self._problems.reject(row, line, several.errors)

    def _expand(self, row: int, line: int, values: Values) -> None:
        columns = self._columns_of(values)
        inputs = self._inputs(columns, values)
        groups = self._groups_of(columns, values, inputs)
        texts = self._texts(columns, values)
        seed, count = self._seed_and_count(columns, values)
        tags = self._tags(columns, values)
        rules = self._rules
        dynamic = rules.dynamic
        pairs = [
            (step.get("prompt", texts[0]), step.get("negative_prompt", texts[1]))
            for step in rules.sweep
        ]
        counts = (
            [count] * len(pairs)
            if dynamic is None
            else [dynamic.count(*pair, count) for pair in pairs]
        )
        bases = [step.get("seed", seed) for step in rules.sweep]
        self._check_counts(counts, bases)
        for number, group in enumerate(groups):
            prompt, negative = pairs[number]
            base, pictures = bases[number], inputs[number]
            keys = _NO_PICTURES if pictures is NONE else pictures.keys
            if dynamic is not None:
                like = Item(row, line, 0, prompt, negative, 0, tags, *keys)
                self._add_made(group, like, dynamic.texts(prompt, negative, row, count), base)
                continue
            for image_no in range(count):
                its_seed = (
                    derive_seed(rules.seed, row, image_no) if base is None else base + image_no
                )
                item = Item(row, line, image_no, prompt, negative, its_seed, tags, *keys)
                self._sink.add(group, item)
        self.items += sum(counts)

    def _add_made(self, group: int, like: Item, made: Iterable[Texts], base: int | None) -> None:
        """The items of one step of the sweep, each with texts of its own."""
        derived = self._rules.seed
        for image_no, (prompt, negative, template, negative_template) in enumerate(made):
            seed = derive_seed(derived, like.row, image_no) if base is None else base + image_no
            item = replace(
                like,
                image_no=image_no,
                prompt=prompt,
                negative_prompt=negative,
                seed=seed,
                template=template,
                negative_template=negative_template,
            )
            self._sink.add(group, item)

    def _check_counts(self, counts: Sequence[int], bases: Sequence[int | None]) -> None:
        """Refuse too many images, of the row or of the job, before any is made."""
        limits = self._rules.limits
        images = sum(counts)
        if images > limits.max_images_per_row:
            said = f"the row makes {images:,} images"
            limit = limits.max_images_per_row
            raise FieldError("num_images", exceeded(said, limit, "max_images_per_row"))
        if self.items + images > limits.max_items:
            said = f"item {limits.max_items + 1:,} is one too many"
            raise FieldError(None, exceeded(said, limits.max_items, "max_items"))
        if bases.count(None) == len(bases):
            return
        for base, count in zip(bases, counts, strict=True):
            if base is not None and base + count - 1 > SEED_MAX:
                raise FieldError("seed", f"plus {count} images passes the largest, {SEED_MAX}")

    def _columns_of(self, values: Values) -> Columns:
        names = tuple(values)
        columns = self._columns.get(names)
        if columns is None:
            if len(self._columns) >= _KEPT_COLUMNS:  # rows with columns of their own each
                self._columns.clear()
                self._seen.clear()
            try:
                columns = Columns(names)
                self._need_prompt(columns, values)
                self.tag_names.update(tag for tag, _ in columns.tags)
            except FieldError as error:
                columns = error
            self._columns[names] = columns
            if self._same_columns and isinstance(columns, FieldError):
                self._problems.add(1, columns.field, columns.message)
                raise self._problems.refused()
        if isinstance(columns, FieldError):
            # A new one: raised again, an exception gathers tracebacks, and with them rows.
            raise FieldError(columns.field, columns.message)
        return columns

    def _inputs(self, columns: Columns, values: Values) -> list[Inputs]:
        """The pictures of the row for each step of the sweep."""
        if not columns.pictures and not self._pictures.always:
            return self._no_inputs
        named = {
            name: self._parse(name, values[column])
            for name, column in columns.pictures
            if self._given(values[column])
        }
        return self._pictures.inputs(named)

    def _groups_of(self, columns: Columns, values: Values, inputs: list[Inputs]) -> list[int]:
        """The group of the row for each step of the sweep."""
        raw = columns.group_values(values)
        key: tuple[Any, ...] = (columns, *raw)
        if self._typed:  # 1, 1.0 and True are equal keys, and not equally right
            key += tuple(map(type, raw))
        if inputs is not self._no_inputs:
            key += tuple(made_from.shape for made_from in inputs)
        settings: dict[str, Any] | None = None
        try:
            found = self._seen.get(key)
        except TypeError:  # a list of LoRAs, say: what was made of it can be a key
            settings = self._parse_group(columns, raw)
            key = (columns, *settings.items(), *(made_from.shape for made_from in inputs))
            found = self._seen.get(key)
        if found is not None:
            return found
        if settings is None:
            settings = self._parse_group(columns, raw)
        rules = self._rules
        groups = [
            self._groups.group_of({**rules.defaults, **settings, **step, **rules.overrides}, one)
            for step, one in zip(rules.sweep, inputs, strict=True)
        ]
        if len(self._seen) >= _KEPT_SETTINGS:
            self._seen.clear()
        self._seen[key] = groups
        return groups

    def _parse_group(self, columns: Columns, raw: tuple[Any, ...]) -> dict[str, Any]:
        settings: dict[str, Any] = {}
        errors: list[FieldError] = []
        for name, value in zip(columns.group_fields, raw, strict=True):
            if not self._given(value):
                continue
            try:
                if name != KIND or _is_kind(value):
                    settings[name] = self._parse(name, value)
            except FieldError as error:
                errors.append(error)
        if errors:
            raise _ManyErrors(errors)
        return settings

    def _texts(self, columns: Columns, values: Values) -> tuple[str, str]:
        return self._text("prompt", columns, values), self._text("negative_prompt", columns, values)

    def _text(self, name: str, columns: Columns, values: Values) -> str:
        rules = self._rules
        override: str | None = rules.overrides.get(name)
        if override is not None:
            return override
        column = columns.by_field.get(name)
        value = values[column] if column is not None else ABSENT
        if self._given(value):
            if type(value) is not str or len(value) > rules.limits.max_prompt_chars:
                text: str = self._parse(name, value)  # raises, or is a subclass of str
                return text
            if "\0" in value:
                self._parse(name, value)
            return value
        default: str | None = rules.defaults.get(name)
        if default is not None:
            return default
        if name == "prompt" and not self._swept_prompt:
            raise FieldError("prompt", "is empty")
        return ""

    def _need_prompt(self, columns: Columns, values: Values) -> None:
        rules = self._rules
        given = columns.by_field.keys() | rules.defaults.keys() | rules.overrides.keys()
        if "prompt" not in given and not self._swept_prompt:
            there = ", ".join(map(shown, islice(values, SHOWN_COLUMNS))) or "none"
            more = f" and {len(values) - SHOWN_COLUMNS} more" * (len(values) > SHOWN_COLUMNS)
            raise FieldError("prompt", f"is missing; the columns are: {there}{more}")

    def _seed_and_count(self, columns: Columns, values: Values) -> tuple[int | None, int]:
        seed: int | None = self._item_value("seed", columns, values)
        count: int | None = self._item_value("num_images", columns, values)
        return seed, count or 1

    def _item_value(self, name: str, columns: Columns, values: Values) -> Any:
        if name in self._rules.overrides:
            return self._rules.overrides[name]
        column = columns.by_field.get(name)
        if column is not None and self._given(values[column]):
            return self._parse(name, values[column])
        return self._rules.defaults.get(name)

    def _tags(self, columns: Columns, values: Values) -> dict[str, str]:
        tags = {}
        for tag, column in columns.tags:
            value = values[column]
            if self._given(value):
                tags[tag] = value if type(value) is str else tag_text(tag, value)
        kind = columns.kind
        if kind is not None and self._given(values[kind]) and not _is_kind(values[kind]):
            tags[KIND] = tag_text(KIND, values[kind])
            self.tag_names.add(KIND)
        if columns.has_tags_object:
            self._add_tags_object(tags, values[TAGS])
        if tags:
            check_tags(tags, self._rules.limits)
        return tags

    def _add_tags_object(self, tags: dict[str, str], value: object) -> None:
        if value is None or value == "":
            return
        if not self._typed and isinstance(value, str):  # a cell of a table holds it as JSON
            with suppress(ValueError, RecursionError):
                value = json.loads(value)
        if not isinstance(value, dict):
            raise FieldError(TAGS, "must be an object of names and values")
        for key, one in value.items():
            tag = str(key)
            if tag in tags:
                raise FieldError(tag, "is a tag both by its column and in 'tags'; remove one")
            if not tag.strip():
                raise FieldError(TAGS, "has a tag without a name")
            if one is not None:
                tags[tag] = one if isinstance(one, str) else tag_text(tag, one)
        self.tag_names.update(tags)

    def _given(self, value: object) -> bool:
        return value is not None and (self._typed or value != "")

    def _parse(self, name: str, value: object) -> Any:
        if not self._typed and isinstance(value, str):
            value = cell(value)
        return parse_field(FIELDS[name], value, self._rules.limits)


class _ManyErrors(Exception):
    """Several fields of one row are wrong."""

    def __init__(self, errors: list[FieldError]) -> None:
        self.errors = errors


def _is_kind(value: object) -> bool:
    try:
        return is_kind(value)
    except ValueError as error:
        raise FieldError(KIND, str(error)) from None
