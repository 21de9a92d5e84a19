"""Names of objects, and the render key.

Objects are written under keys made from job and item, so that a repeat overwrites itself.
A thousand pictures share a folder: more makes file managers slow.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping
from typing import Final

import msgspec

ITEMS_PER_FOLDER: Final = 1000
JOB_NAME: Final = re.compile(r"[a-z0-9][a-z0-9._-]{0,63}")
_ITEM: Final = re.compile(r"[0-9]{1,18}")  # more do not fit into SQL's integers


def image_key(job: str, item: int, extension: str = "png") -> str:
    """Where the picture of `item` lies: ``renders/shapes/00001/000001234.png``."""
    return f"renders/{job}/{item // ITEMS_PER_FOLDER:05d}/{item:09d}.{extension}"


def thumbnail_key(job: str, item: int) -> str:
    """Where its thumbnail lies."""
    return f"thumbnails/{job}/{item // ITEMS_PER_FOLDER:05d}/{item:09d}.webp"


def shard_key(token: str, first_item: int) -> str:
    """Where the shard of items that starts with `first_item` lies."""
    return f"jobs/{token}/items-{first_item:012d}.msgpack"


def rejected_key(token: str) -> str:
    """Where the rejected rows of a job submitted with ``--skip-invalid`` lie."""
    return f"jobs/{token}/rejected.jsonl"


def image_id(job: str, item: int) -> str:
    """The name people use for an image: ``shapes/12``."""
    return f"{job}/{item}"


def parse_image_id(text: str) -> tuple[str, int]:
    """The job's name and the item of an image id; `ValueError` if it is not one."""
    job, slash, item = text.strip().rpartition("/")
    if not slash or not _ITEM.fullmatch(item) or not JOB_NAME.fullmatch(job):
        raise ValueError(f"{text!r} is not an image id; one looks like 'shapes/12'")
    return job, int(item)


def job_name_from(text: str) -> str:
    """A legal job name as near as possible to `text` (a file's stem, say)."""
    folded = re.sub(r"[^a-z0-9._-]+", "-", text.casefold()).strip("-._")
    return folded[:64].rstrip("-._") or "job"


def render_key(facts: Mapping[str, object]) -> str:
    """A hash of `facts`: everything that decides the pixels, as plain JSON values.

    Key order does not matter; every value does, and so does its type (1 is not 1.0).
    """
    canonical = msgspec.json.encode(facts, order="deterministic")
    return hashlib.blake2b(canonical, digest_size=16).hexdigest()
