"""The input pictures a row names: who looks at them, and what a group needs to know of them."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, NamedTuple, Protocol

from scheduler.manifest.columns import PICTURE_FIELDS
from scheduler.manifest.fields import FIELDS
from scheduler.manifest.problems import FieldError
from scheduler.manifest.readers.base import Row, Values

_NAMES: Final = frozenset(
    name for field in PICTURE_FIELDS for name in (field, *FIELDS[field].aliases)
)

_AHEAD: Final = 64
"""Rows read before they are expanded, so that their pictures are opened side by side."""

Size = tuple[int, int]


class Seen(NamedTuple):
    """A picture that was looked at and found good."""

    key: str  #: where it lies, or will lie, in the object store
    width: int  #: pixels, turned upright
    height: int

    @property
    def size(self) -> Size:
        """Width and height."""
        return self.width, self.height


class Pictures(Protocol):
    """Looks at input pictures."""

    def expect(self, reference: str) -> None:
        """It will be asked for soon: begin to open it. Never raises."""

    def look(self, reference: str) -> Seen:
        """The picture a row names; `ValueError` says why it cannot be used."""


class NoPictures:
    """Where there are no pictures to be had."""

    def expect(self, reference: str) -> None:
        """Nothing to open."""

    def look(self, reference: str) -> Seen:
        """Refuses it."""
        raise ValueError(f"{reference}: pictures cannot be opened here")


@dataclass(frozen=True, slots=True)
class Inputs:
    """The pictures one item is made from."""

    image: Seen | None = None
    mask_image: Seen | None = None
    control_images: tuple[Seen, ...] = ()
    ip_adapter_image: Seen | None = None

    @property
    def leading(self) -> Seen | None:
        """The picture whose size the result has where the row names none."""
        return self.image or next(iter(self.control_images), None)

    @property
    def shape(self) -> tuple[object, ...]:
        """All that may decide the item's group."""
        return (
            self.image and self.image.size,
            self.mask_image and self.mask_image.size,
            tuple(one.size for one in self.control_images[:1]),
            len(self.control_images),
            self.ip_adapter_image is not None,
        )

    @property
    def keys(self) -> tuple[str | None, str | None, tuple[str, ...], str | None]:
        """Keys as an item holds them."""
        return (
            self.image and self.image.key,
            self.mask_image and self.mask_image.key,
            tuple(one.key for one in self.control_images),
            self.ip_adapter_image and self.ip_adapter_image.key,
        )


NONE: Final = Inputs()


class InputReader:
    """From what a row says to its pictures, for each step of the sweep."""

    def __init__(
        self,
        pictures: Pictures,
        *,
        defaults: Mapping[str, Any],
        overrides: Mapping[str, Any],
        sweep: Sequence[Mapping[str, Any]],
    ) -> None:
        self._pictures = pictures
        self._defaults = _of_pictures(defaults)
        self._overrides = _of_pictures(overrides)
        self._sweep = [_of_pictures(step) for step in sweep]
        self.always = bool(self._defaults or self._overrides or any(self._sweep))

    def inputs(self, row: Mapping[str, Any]) -> list[Inputs]:
        """The pictures of a row that names these; `FieldError` for one that cannot be used."""
        return [
            self._looked({**self._defaults, **row, **step, **self._overrides})
            for step in self._sweep
        ]

    def expect(self, values: Values | FieldError) -> bool:
        """Begin to open what this row names; whether it names anything."""
        if isinstance(values, FieldError) or _NAMES.isdisjoint(values):
            return False
        for name in _NAMES & values.keys():
            value = values[name]
            for reference in value if isinstance(value, list) else [value]:
                if isinstance(reference, str) and reference:
                    self._pictures.expect(reference.strip())
        return True

    def _looked(self, named: Mapping[str, Any]) -> Inputs:
        return Inputs(
            image=self._look(named, "image"),
            mask_image=self._look(named, "mask_image"),
            control_images=tuple(
                self._one("control_images", reference)
                for reference in named.get("control_images") or ()
            ),
            ip_adapter_image=self._look(named, "ip_adapter_image"),
        )

    def _look(self, named: Mapping[str, Any], field: str) -> Seen | None:
        reference = named.get(field)
        return None if reference is None else self._one(field, reference)

    def _one(self, field: str, reference: str) -> Seen:
        try:
            return self._pictures.look(reference)
        except ValueError as error:
            raise FieldError(field, str(error)) from None


def ahead(rows: Iterable[Row], expect: Callable[[Values | FieldError], bool]) -> Iterator[Row]:
    """The same rows in the same order, each announced to `expect` some rows before its turn.

    As long as `expect` says that there is nothing to wait for, rows are passed on at once.
    """
    waiting: deque[Row] = deque()
    failed: Exception | None = None
    try:
        for row in rows:
            if not expect(row[1]) and not waiting:
                yield row
                continue
            waiting.append(row)
            if len(waiting) > _AHEAD:
                yield waiting.popleft()
    except Exception as error:  # the rows before it come first
        failed = error
    yield from waiting
    if failed is not None:
        raise failed


def _of_pictures(settings: Mapping[str, Any]) -> dict[str, Any]:
    return {name: settings[name] for name in PICTURE_FIELDS if settings.get(name) is not None}
