from __future__ import annotations

import pytest

from storage.contract.errors import SettingError
from storage.objects.s3_address import Address, parse


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("s3://pictures", Address(bucket="pictures")),
        ("s3://pictures/", Address(bucket="pictures")),
        ("s3://pictures/a/b", Address(bucket="pictures", prefix="a/b/")),
        ("s3://pictures/a%20b/", Address(bucket="pictures", prefix="a b/")),
        (
            "s3://pictures/a?endpoint=http://127.0.0.1:9000/&region=eu-north-1",
            Address(
                bucket="pictures",
                prefix="a/",
                endpoint="http://127.0.0.1:9000",
                region="eu-north-1",
            ),
        ),
        (
            "s3://p.q-r?endpoint=http%3A%2F%2Fs3%3A8333&public=https://pictures.example/s3"
            "&addressing=virtual",
            Address(
                bucket="p.q-r",
                endpoint="http://s3:8333",
                public="https://pictures.example/s3",
                addressing="virtual",
            ),
        ),
        (
            "s3://pictures?endpoint=http://[::1]:9000",
            Address(bucket="pictures", endpoint="http://[::1]:9000"),
        ),
    ],
)
def test_a_url_names_bucket_prefix_and_server(url: str, expected: Address) -> None:
    assert parse(url) == expected


@pytest.mark.parametrize(
    ("url", "said"),
    [
        ("/a/folder", "does not start with s3://"),
        ("https://bucket.s3.amazonaws.com", "does not start with s3://"),
        ("s3://", "names no bucket: ''"),
        ("s3:///prefix", "names no bucket: ''"),
        ("s3://no_good!/", "names no bucket: 'no_good!'"),
        ("s3://bucket:9000/", "names no bucket: 'bucket:9000'"),
        ("s3://bucket/a/../b", "prefix cannot be used: 'a/../b'"),
        ("s3://bucket/a//b", "prefix cannot be used: 'a//b'"),
        ("s3://bucket#part", "has a part after #"),
        ("s3://bucket?end_point=http://host", "has no parameter 'end_point'"),
        ("s3://bucket?region=a&region=b", "gives 'region' twice"),
        ("s3://bucket?region=", "leaves 'region' empty"),
        ("s3://bucket?region", "cannot be read"),
        ("s3://bucket?addressing=host", "path or virtual, not 'host'"),
        ("s3://bucket?endpoint=host:9000", "endpoint is no http:// or https:// URL"),
        ("s3://bucket?endpoint=ftp://host", "endpoint is no http:// or https:// URL"),
        ("s3://bucket?endpoint=http://", "endpoint is no http:// or https:// URL"),
        ("s3://bucket?endpoint=http://host:99999", "endpoint is no http:// or https:// URL"),
        ("s3://bucket?public=//host", "public is no http:// or https:// URL"),
        ("s3://bucket?endpoint=http://host?x=1", "has parameters of its own"),
        ("s3://[", "cannot be read"),
    ],
)
def test_a_url_that_is_wrong_says_what_and_shows_a_right_one(url: str, said: str) -> None:
    with pytest.raises(SettingError) as caught:
        parse(url)
    assert said in caught.value.message
    assert "s3://bucket/prefix?endpoint=https://host:9000" in str(caught.value.hint)


@pytest.mark.parametrize(
    "url",
    [
        "s3://access:hush-hush@bucket/prefix",
        "s3://bucket?endpoint=https://access:hush-hush@host",
        "s3://bucket?public=https://hush-hush@host",
    ],
)
def test_credentials_in_a_url_are_refused_and_not_repeated(url: str) -> None:
    with pytest.raises(SettingError, match="holds credentials") as caught:
        parse(url)
    assert "AWS_ACCESS_KEY_ID" in str(caught.value.hint)
    assert "hush" not in f"{caught.value} {caught.value.hint}"


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("s3://bucket/a/", "s3://bucket/a"),
        ("s3://bucket", "s3://bucket"),
        ("s3://bucket/a?endpoint=http://host:1&region=x", "s3://bucket/a at http://host:1"),
    ],
)
def test_an_address_is_said_in_short(url: str, expected: str) -> None:
    assert str(parse(url)) == expected
