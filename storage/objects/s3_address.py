"""The URL of an S3 store, taken apart. Credentials never stand in it."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final
from urllib.parse import SplitResult, parse_qsl, unquote, urlsplit

from storage.contract.errors import SettingError
from storage.objects.names import is_key

_BUCKET: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{1,61}[A-Za-z0-9]")
_PARAMETERS: Final = ("endpoint", "public", "region", "addressing")
_ADDRESSING: Final = ("path", "virtual")
_HINT: Final = (
    "it looks like s3://bucket/prefix?endpoint=https://host:9000&region=us-east-1; endpoint, "
    "public (the endpoint as browsers see it), region and addressing (path or virtual) may be "
    "left out"
)
_CREDENTIALS_HINT: Final = (
    "leave credentials out of URLs; set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or use a "
    "profile or role as with any AWS tool"
)


@dataclass(frozen=True, kw_only=True, slots=True)
class Address:
    """Where a store's objects lie, and how its server is spoken to."""

    bucket: str
    prefix: str = ""  #: before every key; empty, or ends with ``/``
    endpoint: str | None = None  #: None is AWS
    public: str | None = None  #: the endpoint in URLs given to others, if it differs
    region: str | None = None  #: None leaves it to boto3's settings
    addressing: str | None = None  #: bucket in the path or in the host's name

    def __str__(self) -> str:
        """For messages."""
        place = f"s3://{self.bucket}/{self.prefix}".rstrip("/")
        return f"{place} at {self.endpoint}" if self.endpoint else place


def parse(url: str) -> Address:
    """The address that `url` names; `SettingError` says what is wrong with it."""
    try:
        parts = urlsplit(url)
        given = parse_qsl(parts.query, keep_blank_values=True, strict_parsing=bool(parts.query))
    except ValueError as error:
        raise SettingError("the storage URL cannot be read", hint=_HINT) from error
    if parts.scheme != "s3":
        raise SettingError("the storage URL does not start with s3://", hint=_HINT)
    _refuse_credentials(parts, "the storage URL")
    if not _BUCKET.fullmatch(parts.netloc):
        raise SettingError(f"the storage URL names no bucket: {parts.netloc!r}", hint=_HINT)
    if parts.fragment:
        raise SettingError("the storage URL has a part after #", hint=_HINT)
    values = _values(given)
    return Address(
        bucket=parts.netloc,
        prefix=_prefix(unquote(parts.path)),
        endpoint=_endpoint("endpoint", values.get("endpoint")),
        public=_endpoint("public", values.get("public")),
        region=values.get("region"),
        addressing=_addressing(values.get("addressing")),
    )


def _values(given: list[tuple[str, str]]) -> dict[str, str]:
    values: dict[str, str] = {}
    for name, value in given:
        if name not in _PARAMETERS:
            raise SettingError(f"the storage URL has no parameter {name!r}", hint=_HINT)
        if name in values:
            raise SettingError(f"the storage URL gives {name!r} twice", hint=_HINT)
        if not value:
            raise SettingError(f"the storage URL leaves {name!r} empty", hint=_HINT)
        values[name] = value
    return values


def _prefix(path: str) -> str:
    prefix = path.strip("/")
    if prefix and not is_key(prefix):
        raise SettingError(f"the storage URL's prefix cannot be used: {prefix!r}", hint=_HINT)
    return f"{prefix}/" if prefix else ""


def _endpoint(name: str, value: str | None) -> str | None:
    if value is None:
        return None
    wrong = SettingError(f"the storage URL's {name} is no http:// or https:// URL", hint=_HINT)
    try:
        parts = urlsplit(value)
        _ = parts.port  # reading it checks it
    except ValueError as error:
        raise wrong from error
    _refuse_credentials(parts, f"the storage URL's {name}")
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise wrong
    if parts.query or parts.fragment:
        raise SettingError(
            f"the storage URL's {name} has parameters of its own; write & within it as %26",
            hint=_HINT,
        )
    return value.rstrip("/")


def _addressing(value: str | None) -> str | None:
    if value is not None and value not in _ADDRESSING:
        raise SettingError(f"addressing is path or virtual, not {value!r}", hint=_HINT)
    return value


def _refuse_credentials(parts: SplitResult, what: str) -> None:
    if "@" in parts.netloc:
        raise SettingError(f"{what} holds credentials", hint=_CREDENTIALS_HINT)
