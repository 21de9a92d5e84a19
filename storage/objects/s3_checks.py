"""Whether a bucket can be worked with, and what its store lacks."""

from __future__ import annotations

import time
from email.utils import parsedate_to_datetime
from typing import Any, Final

from storage.contract.errors import StoreUnavailable
from storage.objects.s3_address import Address
from storage.objects.s3_errors import EXISTS, NOT_SUPPORTED, code_of, translated

_SKEW_SECONDS: Final = 30.0
_DATA: Final = b"Rendermill was here to see whether it may write.\n"


def check(client: Any, address: Address, key: str) -> list[str]:
    """List, store, read and delete the object `key`; returns what the user should know.

    Raises `StoreUnavailable` (or `StoreFull`) if one of them cannot be done.
    """
    where = {"Bucket": address.bucket, "Key": address.prefix + key}
    with translated(address):
        answer = client.list_objects_v2(Bucket=address.bucket, Prefix=address.prefix, MaxKeys=1)
        client.put_object(**where, Body=_DATA)
        try:
            if client.get_object(**where)["Body"].read() != _DATA:
                raise StoreUnavailable(
                    f"{address}: what was stored comes back changed",
                    hint="check that the endpoint is an S3 server, and what lies before it",
                )
            conditions = _knows_conditions(client, where)
        finally:
            client.delete_object(**where)
    return [*_clock_notes(answer), *([] if conditions else [_NO_CONDITIONS])]


_NO_CONDITIONS: Final = (
    "the store does not refuse to overwrite (If-None-Match): a worker that was cut off and "
    "comes back may replace a picture by its own rendering of the same row"
)


def _knows_conditions(client: Any, where: dict[str, str]) -> bool:
    try:
        client.put_object(**where, Body=_DATA, IfNoneMatch="*")
    except Exception as error:
        if code_of(error) in EXISTS:
            return True
        if code_of(error) not in NOT_SUPPORTED:
            raise
    return False


def _clock_notes(answer: dict[str, Any]) -> list[str]:
    said = answer["ResponseMetadata"]["HTTPHeaders"].get("date")
    if said is None:
        return []
    try:
        skew = time.time() - parsedate_to_datetime(said).timestamp()
    except ValueError:
        return []
    if abs(skew) <= _SKEW_SECONDS:
        return []
    ahead = "ahead of" if skew > 0 else "behind"
    return [
        f"this machine's clock is {abs(skew):.0f} s {ahead} the store's; "
        "requests are refused from 15 minutes on: set both by NTP"
    ]
