"""Every error of boto3 has a meaning here, and most an advice."""

from __future__ import annotations

from typing import Any

import botocore.exceptions
import pytest
from botocore.exceptions import BotoCoreError, ClientError

from storage.contract.errors import ObjectError, ObjectMissing, StoreFull, StoreUnavailable
from storage.objects.s3_address import Address
from storage.objects.s3_errors import PassingFault, translated

ADDRESS = Address(bucket="pictures", endpoint="http://host:1")
DRIVERS = [
    kind
    for kind in vars(botocore.exceptions).values()
    if isinstance(kind, type) and issubclass(kind, BotoCoreError)
]


def answered(code: str, status: int = 400, **headers: str) -> ClientError:
    return ClientError(
        {
            "Error": {"Code": code, "Message": "as told"},
            "ResponseMetadata": {
                "HTTPStatusCode": status,
                "HTTPHeaders": {name.replace("_", "-"): value for name, value in headers.items()},
            },
        },
        "PutObject",
    )


def translation(error: Exception, key: str | None = None) -> ObjectError:
    with pytest.raises(ObjectError) as caught, translated(ADDRESS, key):
        raise error
    assert caught.value.__cause__ is error
    return caught.value


@pytest.mark.parametrize("kind", DRIVERS, ids=lambda kind: kind.__name__)
def test_every_error_of_the_driver_becomes_ours_and_says_what_to_do(kind: Any) -> None:
    error = kind.__new__(kind)
    Exception.__init__(error, "as told")
    ours = translation(error)
    assert isinstance(ours, StoreUnavailable)
    assert str(ours).startswith("s3://pictures at http://host:1: ")
    assert "as told" in str(ours)
    assert ours.hint


@pytest.mark.parametrize(
    ("code", "status", "said", "advice"),
    [
        ("NoSuchBucket", 404, "there is no such bucket", "create it"),
        ("AccessDenied", 403, "access is denied", "rights to list the bucket"),
        ("403", 403, "access is denied", "AWS_ACCESS_KEY_ID"),
        ("InvalidAccessKeyId", 403, "the credentials are refused", "AWS_ACCESS_KEY_ID"),
        ("SignatureDoesNotMatch", 403, "the credentials are refused", "AWS_SECRET_ACCESS_KEY"),
        ("ExpiredToken", 400, "the credentials have expired", "get new ones"),
        ("RequestTimeTooSkewed", 403, "clock is wrong", "NTP"),
        ("PermanentRedirect", 301, "another region", "region="),
        ("SomethingNew", 400, "it refused the request", "doctor"),
    ],
)
def test_what_waiting_does_not_help_is_said_with_what_to_do(
    code: str, status: int, said: str, advice: str
) -> None:
    ours = translation(answered(code, status), "a.png")
    assert isinstance(ours, StoreUnavailable)
    assert not isinstance(ours, PassingFault)
    assert said in str(ours)
    assert f"({code}: as told)" in str(ours)
    assert advice in str(ours.hint)


@pytest.mark.parametrize(
    ("code", "status"),
    [
        ("SlowDown", 503),
        ("InternalError", 500),
        ("RequestTimeout", 400),
        ("ConditionalRequestConflict", 409),
        ("TooManyRequests", 429),
        ("502", 502),
    ],
)
def test_what_may_pass_is_told_apart(code: str, status: int) -> None:
    assert isinstance(translation(answered(code, status)), PassingFault)


def test_the_right_region_is_named_when_the_server_says_it() -> None:
    error = answered("AuthorizationHeaderMalformed", 400, x_amz_bucket_region="eu-north-1")
    assert translation(error).hint == "put region=eu-north-1 into the storage URL"


@pytest.mark.parametrize("code", ["NoSuchKey", "404"])
def test_a_missing_object_is_missing_only_where_one_was_asked_for(code: str) -> None:
    assert isinstance(translation(answered(code, 404), "a.png"), ObjectMissing)
    assert isinstance(translation(answered(code, 404)), StoreUnavailable)


@pytest.mark.parametrize("key", ["a.png", None])
def test_a_full_store_is_full_whatever_was_asked(key: str | None) -> None:
    assert isinstance(translation(answered("XMinioStorageFull", 507), key), StoreFull)
