"""The texts of an item, and who makes several of a row's."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple, Protocol


class Texts(NamedTuple):
    """The texts of one item, and what they were made from (None: nothing was made)."""

    prompt: str
    negative_prompt: str
    template: str | None = None
    negative_template: str | None = None


class TextSource(Protocol):
    """Makes the texts of a row's images."""

    @property
    def digest(self) -> str:
        """What decided the texts so far, beside rows and the job's seed."""

    def count(self, prompt: str, negative: str, num_images: int) -> int:
        """Images that these texts become; `FieldError` for texts that cannot be used."""

    def texts(self, prompt: str, negative: str, row: int, num_images: int) -> Iterator[Texts]:
        """The texts of each image, in the order of their numbers; `count` has checked them."""
