"""What a manifest may name a picture by: a path, a URL, an image of the catalog, an object.

Tried in this order: what begins like a URL is one; ``inputs/<hash>.png`` is an object (pictures
name themselves so in their metadata); then a file; then an image id, ``job/12``; then any key
of the object store.
"""

from __future__ import annotations

import re
import stat
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, Final
from urllib.parse import unquote, urlsplit

from scheduler.manifest.limits import exceeded
from scheduler.service.fetching import FetchRules, blocks
from storage.contract.errors import NotFoundError, ObjectMissing, RendermillError, SettingError
from storage.contract.keys import parse_image_id
from storage.db import images
from storage.objects.names import is_key
from storage.opening import Mill

ALLOW_URLS: Final = "RENDERMILL_ALLOW_URLS"
ANY_ADDRESS: Final = "RENDERMILL_URLS_ANY_ADDRESS"

_INPUT_KEY: Final = re.compile(r"inputs/[0-9a-f]{64}\.[a-z]{3,4}")
_SCHEME: Final = re.compile(r"[A-Za-z][A-Za-z0-9+.-]+://|data:")


@dataclass(frozen=True, kw_only=True, slots=True)
class Sources:
    """Where pictures may be taken from."""

    files: bool = True  #: files of this machine
    urls: bool = True
    any_address: bool = False  #: also from private addresses
    open_mill: Callable[[], Mill] | None = None  #: for images of the catalog, and objects


def read_sources(environ: Mapping[str, str], open_mill: Callable[[], Mill]) -> Sources:
    """Sources as the environment allows them; `SettingError` names a bad setting."""
    return Sources(
        urls=_switch(environ, ALLOW_URLS, default=True),
        any_address=_switch(environ, ANY_ADDRESS, default=False),
        open_mill=open_mill,
    )


class References:
    """Opens what rows name; any thread may ask it. `ValueError` says why it cannot be had."""

    def __init__(self, sources: Sources, base: Path, *, max_bytes: int, url_seconds: float) -> None:
        """Paths are relative to `base`."""
        self._sources = sources
        self._base = base
        self._max_bytes = max_bytes
        self._rules = FetchRules(
            max_bytes=max_bytes, seconds=url_seconds, any_address=sources.any_address
        )
        self._opening = threading.Lock()
        self._mill: Mill | None = None

    def file_of(self, reference: str) -> Path | None:
        """The file of this machine that is meant, if it is one."""
        if reference.startswith("file:"):
            return self._allowed(_path_of_url(reference))
        if _SCHEME.match(reference) or _INPUT_KEY.fullmatch(reference):
            return None
        try:
            path = self._base / Path(reference).expanduser()
            there = path.exists()
        except (OSError, RuntimeError, ValueError):  # too long, no such ~user, NUL
            return None
        return self._allowed(path) if there else None

    @contextmanager
    def open_file(self, path: Path) -> Iterator[BinaryIO]:
        """The file, if it is one and not too large."""
        try:
            found = path.stat()
            if not stat.S_ISREG(found.st_mode):
                raise ValueError("is no file")
            if found.st_size > self._max_bytes:
                raise ValueError(self._too_large(found.st_size))
            with open(path, "rb") as file:
                yield file
        except FileNotFoundError:
            raise ValueError("there is no such file") from None
        except OSError as error:
            raise ValueError(f"cannot be read: {error.strerror or error}") from None

    def blocks(self, reference: str) -> Iterator[bytes]:
        """The bytes of what is no file of this machine."""
        scheme = urlsplit(reference).scheme if _SCHEME.match(reference) else ""
        if scheme in ("http", "https"):
            if not self._sources.urls:
                raise ValueError(f"URLs are not fetched here ({ALLOW_URLS} is 0)")
            yield from blocks(reference, self._rules)
        elif scheme == "s3":
            yield self._object(self._key_of_url(reference))
        elif scheme:
            raise ValueError("is no address of a kind that is fetched: http, https, file, s3")
        elif _INPUT_KEY.fullmatch(reference):
            yield self._object(reference)
        else:
            yield self._catalogued(reference)

    def close(self) -> None:
        """Let go of catalog and store."""
        if self._mill is not None:
            self._mill.close()

    def _too_large(self, size: int) -> str:
        return exceeded(f"has {size:,} bytes", self._max_bytes, "max_picture_bytes")

    def _allowed(self, path: Path) -> Path:
        if not self._sources.files:
            raise ValueError("files of this machine are not read here")
        return path

    def _catalogued(self, reference: str) -> bytes:
        """An image of the catalog by its id, or an object by its key."""
        try:
            job, item = parse_image_id(reference)
        except ValueError:
            job = ""
        if self._sources.open_mill is None or not (job or is_key(reference)):
            raise ValueError("there is no such file")
        try:
            mill = self._opened()
        except NotFoundError:  # no catalog yet
            raise ValueError("there is no such file") from None
        if job:
            try:
                with mill.ledger.read() as connection:
                    key = images.get(connection, job, item).object_key
            except NotFoundError:
                raise ValueError("there is neither such a file nor such an image") from None
            if key is None:
                raise ValueError("is an image that failed: there is no picture")
            return self._object(key)
        return self._object(reference)

    def _object(self, key: str) -> bytes:
        try:
            store = self._opened().store
            size = store.size(key)
            if size is not None and size > self._max_bytes:
                raise ValueError(self._too_large(size))
            return store.get(key)
        except (ObjectMissing, NotFoundError):
            raise ValueError("there is no such file or object") from None

    def _key_of_url(self, url: str) -> str:
        """The key of an object of this farm's own store."""
        try:
            own = self._opened().store.locate("inputs/x").removesuffix("inputs/x")
        except RendermillError as error:
            raise ValueError(error.message) from None
        key = url.removeprefix(own)
        if not own.startswith("s3://") or key == url or not is_key(key):
            raise ValueError("lies outside this farm's object store")
        return key

    def _opened(self) -> Mill:
        with self._opening:
            if self._mill is None:
                if self._sources.open_mill is None:
                    raise NotFoundError("there is no catalog here")
                self._mill = self._sources.open_mill()
            return self._mill


def _switch(environ: Mapping[str, str], name: str, *, default: bool) -> bool:
    said = environ.get(name, "").strip()
    if said not in ("", "0", "1"):
        raise SettingError(f"{name} is 1 or 0, not {said!r}")
    return said == "1" if said else default


def _path_of_url(url: str) -> Path:
    parts = urlsplit(url)
    if parts.netloc not in ("", "localhost") or not parts.path.startswith("/"):
        raise ValueError("must be a file of this machine: file:///path")
    return Path(unquote(parts.path))
