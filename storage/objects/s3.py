"""Objects in a bucket of any S3-compatible store.

Every object carries its SHA-256: as a checksum that the server compares when it is stored, and
as metadata that is compared when it is read, since some servers keep no checksums and none
keeps one of a whole multipart object.
"""

from __future__ import annotations

import random
import secrets
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import closing
from functools import partial
from hashlib import sha256
from itertools import count, islice
from typing import TYPE_CHECKING, Any, Final, TypeVar

from storage.contract.errors import ObjectExists
from storage.objects.names import check_key, content_type, is_key
from storage.objects.s3_address import Address, parse
from storage.objects.s3_checks import check
from storage.objects.s3_client import Clients, Options
from storage.objects.s3_errors import (
    EXISTS,
    MISSING,
    NO_UPLOAD,
    NOT_SUPPORTED,
    PassingFault,
    code_of,
    translated,
)
from storage.objects.s3_parts import PART_BYTES, as_checksum, put_parts

if TYPE_CHECKING:
    from storage.ports import ObjectStore

T = TypeVar("T")

_DELETED_AT_ONCE: Final = 1000  # S3's limit
_DIGEST: Final = "sha256"
_WEEK: Final = 7 * 24 * 3600  # the longest a signature may hold
_NO_BATCHES: Final = (*NOT_SUPPORTED, "MissingContentMD5", "InvalidRequest", "MethodNotAllowed")
_FIRST_PAUSE: Final = 0.2
_LONGEST_PAUSE: Final = 5.0


def open_s3(url: str, options: Options | None = None) -> S3Store:
    """The store that `url` names (see `s3_address`); nothing is asked of the server yet."""
    return S3Store(parse(url), options or Options())


class S3Store:
    """Keeps each object under the address's prefix; may be used by many threads at once.

    Requests that met a passing fault are repeated; a put that must not overwrite therefore
    recognises what it stored itself.
    """

    def __init__(self, address: Address, options: Options) -> None:
        self.address = address
        self._clients = Clients(address, options)
        self._options = options
        self._bucket_seen = False

    def put(self, key: str, data: bytes, *, durable: bool = True, overwrite: bool = True) -> None:
        """Store in one request, or in parts; a put that was answered is always durable."""
        about: dict[str, Any] = self._at(key) | {
            "ContentType": content_type(key),
            "Metadata": {_DIGEST: sha256(data).hexdigest()},
        }

        def store() -> None:
            if overwrite:
                self._store(about, data, {})
            else:
                self._create(key, about, data)

        self._patiently(store, key)

    def get(self, key: str) -> bytes:
        """Read whole, and compare with what was stored."""
        where = self._at(key)
        return self._patiently(lambda: self._read(key, where), key)

    def size(self, key: str) -> int | None:
        """What the server says of it."""
        where = self._at(key)
        return self._patiently(lambda: self._size(where))

    def delete(self, keys: Iterable[str]) -> None:
        """A thousand in one request."""
        waiting = iter(keys)
        while names := [self._at(key)["Key"] for key in islice(waiting, _DELETED_AT_ONCE)]:
            self._patiently(partial(self._delete_some, names))

    def keys(self, prefix: str) -> Iterator[str]:
        """Page by page, a thousand each."""
        return (key for key, _ in self.listed(prefix))

    def listed(self, prefix: str) -> Iterator[tuple[str, int]]:
        """As `keys`: what a page says of each."""
        folder = prefix.rpartition("/")[0]
        if folder and not is_key(folder):
            return
        own = self.address.prefix
        asked = {"Bucket": self.address.bucket, "Prefix": own + prefix}
        while True:
            page = self._patiently(partial(self._list, asked))
            for found in page.get("Contents", ()):
                if is_key(key := found["Key"].removeprefix(own)):
                    # Others, such as folder/ markers, are not ours.
                    yield key, int(found["Size"])
            if not page.get("NextContinuationToken"):
                return
            asked["ContinuationToken"] = page["NextContinuationToken"]

    def locate(self, key: str) -> str:
        """Its s3:// URL."""
        where = self._at(key)
        return f"s3://{where['Bucket']}/{where['Key']}"

    def presign(self, key: str, seconds: int) -> str | None:
        """A URL signed with this process's credentials, for a week at most."""
        where = self._at(key)
        with translated(self.address, key):
            client = self._clients.get(self.address.public)
            url: str = client.generate_presigned_url(
                "get_object", where, ExpiresIn=min(seconds, _WEEK)
            )
            return url

    def check(self) -> list[str]:
        """List, store, read and delete a small object."""
        return check(self._clients.get(), self.address, f"checks/{secrets.token_hex(8)}")

    def close(self) -> None:
        """Drop the connections; the next use opens new ones."""
        self._clients.close()

    def _at(self, key: str) -> dict[str, Any]:
        return {"Bucket": self.address.bucket, "Key": self.address.prefix + check_key(key)}

    def _store(self, about: dict[str, Any], data: bytes, condition: dict[str, str]) -> None:
        if len(data) <= PART_BYTES:
            said = as_checksum(bytes.fromhex(about["Metadata"][_DIGEST]))
            self._clients.get().put_object(**about, **condition, Body=data, ChecksumSHA256=said)
            return
        try:
            put_parts(self._clients.get(), about, data, condition)
        except Exception as error:
            # A repeated completion finds no upload any more if the first one was heard.
            heard = self._stored_digest(about["Key"]) if code_of(error) in NO_UPLOAD else None
            if heard != about["Metadata"][_DIGEST]:
                raise

    def _create(self, key: str, about: dict[str, Any], data: bytes) -> None:
        """Store what must not replace another object."""
        digest = about["Metadata"][_DIGEST]
        try:
            self._store(about, data, {"IfNoneMatch": "*"})
        except Exception as error:
            if code_of(error) in EXISTS:
                self._expect_same(key, digest)
            elif code_of(error) not in NOT_SUPPORTED:
                raise
            elif self._size(self._at(key)) is None:  # to look first is all that such a store allows
                self._store(about, data, {})
            else:
                self._expect_same(key, digest)

    def _expect_same(self, key: str, digest: str) -> None:
        """What is there may be this very put, repeated because its answer was lost."""
        if self._stored_digest(self._at(key)["Key"]) != digest:
            raise ObjectExists(f"there is another object {key} already")

    def _stored_digest(self, name: str) -> str | None:
        try:
            found = self._clients.get().head_object(Bucket=self.address.bucket, Key=name)
        except Exception as error:
            if code_of(error) not in MISSING:
                raise
            return None
        digest: str | None = found["Metadata"].get(_DIGEST)
        return digest

    def _read(self, key: str, where: dict[str, Any]) -> bytes:
        answer = self._clients.get().get_object(**where)
        with closing(answer["Body"]) as body:  # its own `with` reads past all its checks
            data: bytes = body.read()
        expected = answer["Metadata"].get(_DIGEST)
        if expected is not None and sha256(data).hexdigest() != expected:
            raise PassingFault(
                f"{self.address}: {key} is not what was stored: its SHA-256 differs",
                hint="try again; if it stays so, restore the object or delete it",
            )
        return data

    def _delete_some(self, names: list[str]) -> None:
        client, bucket = self._clients.get(), self.address.bucket
        wanted = {"Objects": [{"Key": name} for name in names], "Quiet": True}
        try:
            refused = client.delete_objects(Bucket=bucket, Delete=wanted).get("Errors", ())
        except Exception as error:
            if code_of(error) not in _NO_BATCHES:
                raise
            for name in names:
                client.delete_object(Bucket=bucket, Key=name)
            return
        for one in refused:
            if one.get("Code") not in MISSING:
                raise _refusal(one)

    def _size(self, where: dict[str, Any]) -> int | None:
        try:
            return int(self._clients.get().head_object(**where)["ContentLength"])
        except Exception as error:
            if code_of(error) not in MISSING:
                raise
        if not self._bucket_seen:  # HEAD answers alike for a missing bucket
            self._list({"Bucket": self.address.bucket, "MaxKeys": 1})
            self._bucket_seen = True
        return None

    def _list(self, asked: dict[str, Any]) -> dict[str, Any]:
        page: dict[str, Any] = self._clients.get().list_objects_v2(**asked)
        return page

    def _patiently(self, ask: Callable[[], T], key: str | None = None) -> T:
        """Ask again after a passing fault, until patience is at its end.

        boto3 repeats requests too, but within a second, and not the bodies of answers.
        """
        until = time.monotonic() + self._options.patience_seconds
        for attempt in count():
            try:
                with translated(self.address, key):
                    return ask()
            except PassingFault:
                pause = _jittered(min(_FIRST_PAUSE * 2**attempt, _LONGEST_PAUSE))
                if time.monotonic() + pause > until:
                    raise
                time.sleep(pause)
        raise AssertionError("unreachable")


def _refusal(entry: dict[str, Any]) -> Exception:
    from botocore.exceptions import ClientError

    error: Exception = ClientError({"Error": entry, "ResponseMetadata": {}}, "DeleteObjects")
    return error


def _jittered(seconds: float) -> float:
    return seconds * random.uniform(0.5, 1)  # noqa: S311


if TYPE_CHECKING:
    _store: ObjectStore = open_s3("")
