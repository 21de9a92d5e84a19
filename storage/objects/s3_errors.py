"""What boto3's errors mean, and what to do about them.

Messages carry what the server said, never credentials or signed URLs. botocore is imported
inside the functions: it takes longer to load than the rest of the program.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from storage.contract.errors import ObjectError, ObjectMissing, StoreFull, StoreUnavailable

if TYPE_CHECKING:
    from storage.objects.s3_address import Address

MISSING: Final = ("NoSuchKey", "404", "NotFound")
EXISTS: Final = ("PreconditionFailed", "412")
NOT_SUPPORTED: Final = ("NotImplemented", "501")
NO_UPLOAD: Final = ("NoSuchUpload",)
_CONFLICT: Final = ("ConditionalRequestConflict", "OperationAborted", "409")
_FULL: Final = ("InsufficientStorage", "QuotaExceeded", "XMinioStorageFull", "507")
_FULL_STATUS: Final = 507


class PassingFault(StoreUnavailable):
    """The object store cannot be reached or is busy: what may be over in a moment."""


class _Meaning(NamedTuple):
    text: str
    hint: str
    passes: bool = False  #: whether it may be over in a moment


_RIGHTS = _Meaning(
    "access is denied",
    "the credentials need the rights to list the bucket and to put, get and delete objects in it",
)
_KEYS = _Meaning(
    "the credentials are refused",
    "check AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or the profile or role in use",
)
_EXPIRED = _Meaning("the credentials have expired", "get new ones (aws sso login, or a new token)")
_REGION = _Meaning("the bucket is in another region", "name it in the storage URL: region=…")
_BUSY = _Meaning(
    "the server is busy or broken",
    "try again later; if it stays so, check that the endpoint in the storage URL is an S3 server",
    passes=True,
)
_BUCKET = _Meaning("there is no such bucket", "create it, or correct the storage URL")
_CLOCK = _Meaning(
    "this machine's clock is wrong, or the server's", "set both by NTP; five minutes is too much"
)

_CODES: Final[dict[str, _Meaning]] = {
    "AccessDenied": _RIGHTS,
    "AllAccessDisabled": _RIGHTS,
    "AccountProblem": _RIGHTS,
    "403": _Meaning("access is denied", f"{_KEYS.hint}; {_RIGHTS.hint}"),
    "InvalidAccessKeyId": _KEYS,
    "SignatureDoesNotMatch": _KEYS,
    "InvalidToken": _KEYS,
    "InvalidSecurity": _KEYS,
    "ExpiredToken": _EXPIRED,
    "TokenRefreshRequired": _EXPIRED,
    "RequestTimeTooSkewed": _CLOCK,
    "RequestExpired": _CLOCK,
    "NoSuchBucket": _BUCKET,
    "InvalidBucketName": _BUCKET,
    "PermanentRedirect": _REGION,
    "TemporaryRedirect": _REGION,
    "AuthorizationHeaderMalformed": _REGION,
    "IllegalLocationConstraintException": _REGION,
    "301": _REGION,
    "BadDigest": _Meaning(
        "the data was damaged on its way", "try again; then check the network", True
    ),
    "SlowDown": _BUSY,
    "RequestTimeout": _BUSY,
    "EntityTooLarge": _Meaning("the object is too large for it", "store smaller objects"),
}

_CREDENTIALS_HINT = (
    "set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or use a profile (AWS_PROFILE) or role"
)
_NETWORK_HINT = "check that the server runs, and the endpoint in the storage URL"

# botocore's class, by name: the nearest of an error's own classes counts.
_CLASSES: Final[dict[str, _Meaning]] = {
    "NoCredentialsError": _Meaning("no credentials were found", _CREDENTIALS_HINT),
    "PartialCredentialsError": _Meaning("half of the credentials is missing", _CREDENTIALS_HINT),
    "CredentialRetrievalError": _Meaning("credentials cannot be had", _CREDENTIALS_HINT),
    "ConfigNotFound": _Meaning("AWS settings cannot be read", _CREDENTIALS_HINT),
    "ConfigParseError": _Meaning("AWS settings cannot be read", _CREDENTIALS_HINT),
    "ProfileNotFound": _Meaning("there is no such AWS profile", "correct AWS_PROFILE"),
    "TokenRetrievalError": _EXPIRED,
    "SSOError": _EXPIRED,
    "InvalidRegionError": _Meaning("that is no region", "correct region=… in the storage URL"),
    "ConnectTimeoutError": _Meaning("it did not answer in time", _NETWORK_HINT, True),
    "ReadTimeoutError": _Meaning("it did not answer in time", _NETWORK_HINT, True),
    "SSLError": _Meaning(
        "its certificate is not trusted",
        "set AWS_CA_BUNDLE to the authority's certificate, or use http:// inside a safe network",
    ),
    "ProxyConnectionError": _Meaning(
        "the proxy cannot be reached", "check HTTPS_PROXY, NO_PROXY", True
    ),
    "EndpointConnectionError": _Meaning("it cannot be reached", _NETWORK_HINT, True),
    "ConnectionClosedError": _Meaning("it closed the connection", _NETWORK_HINT, True),
    "HTTPClientError": _Meaning("the connection broke", _NETWORK_HINT, True),
    "ResponseStreamingError": _Meaning("its answer was cut short", _NETWORK_HINT, True),
    "IncompleteReadError": _Meaning("its answer was cut short", _NETWORK_HINT, True),
    "FlexibleChecksumError": _Meaning("what it sent is damaged", _NETWORK_HINT, True),
    "ResponseParserError": _Meaning(
        "its answer is not S3's", "check that the endpoint in the storage URL is an S3 server"
    ),
    "BotoCoreError": _Meaning("the request failed", _NETWORK_HINT),
}


def code_of(error: BaseException) -> str:
    """The server's code for what went wrong; empty if it did not answer."""
    response: dict[str, Any] = getattr(error, "response", None) or {}
    return str(response.get("Error", {}).get("Code", ""))


@contextmanager
def translated(address: Address, key: str | None = None) -> Iterator[None]:
    """Turn what boto3 raises into errors of the object store."""
    from botocore.exceptions import BotoCoreError, ClientError
    from botocore.parsers import ResponseParserError

    try:
        yield
    except ClientError as error:
        raise _answered(error, address, key) from error
    except (BotoCoreError, ResponseParserError) as error:
        raise _unanswered(error, address) from error


def _answered(error: Any, address: Address, key: str | None) -> ObjectError:
    code, facts = code_of(error), error.response.get("ResponseMetadata", {})
    status = facts.get("HTTPStatusCode", 0)
    if code in MISSING and key is not None:
        return ObjectMissing(f"there is no object {key}")
    said = f"{code}: {error.response.get('Error', {}).get('Message', '')}".rstrip(": ")
    if code in _FULL or status == _FULL_STATUS:
        return StoreFull(
            f"{address}: no space left{f' to store {key}' if key else ''} ({said})",
            hint="free some space in the store, or raise its quota",
        )
    meaning = _CODES.get(code) or (_BUSY if code in _CONFLICT else _by_status(status))
    hint = meaning.hint
    region = facts.get("HTTPHeaders", {}).get("x-amz-bucket-region")
    if meaning is _REGION and region:
        hint = f"put region={region} into the storage URL"
    kind = PassingFault if meaning.passes else StoreUnavailable
    return kind(f"{address}: {meaning.text} ({said})", hint=hint)


def _by_status(status: int) -> _Meaning:
    if status >= 500 or status == 429:
        return _BUSY
    return _Meaning("it refused the request", "run: rendermill doctor")


def _unanswered(error: Exception, address: Address) -> StoreUnavailable:
    names = (one.__name__ for one in type(error).__mro__)
    meaning = next(_CLASSES[name] for name in names if name in _CLASSES)
    kind = PassingFault if meaning.passes else StoreUnavailable
    return kind(f"{address}: {meaning.text} ({error})", hint=meaning.hint)
