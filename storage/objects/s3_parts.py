"""Storing a large object in parts, so that a fault costs a part and not the whole."""

from __future__ import annotations

from base64 import b64encode
from contextlib import suppress
from hashlib import sha256
from typing import Any, Final

PART_BYTES: Final = 8 << 20
"""Objects above this are stored in parts of this size."""


def put_parts(client: Any, about: dict[str, Any], data: bytes, condition: dict[str, str]) -> None:
    """Store `data` one part after the other; nothing is to be seen before the last."""
    begun = client.create_multipart_upload(**about, ChecksumAlgorithm="SHA256")
    upload = {name: about[name] for name in ("Bucket", "Key")} | {"UploadId": begun["UploadId"]}
    try:
        parts = [
            _put_part(client, upload, number, data[at : at + PART_BYTES])
            for number, at in enumerate(range(0, len(data), PART_BYTES), 1)
        ]
        client.complete_multipart_upload(**upload, **condition, MultipartUpload={"Parts": parts})
    except BaseException:
        _abort(client, upload)
        raise


def as_checksum(digest: bytes) -> str:
    """A digest as S3 writes it."""
    return b64encode(digest).decode()


def _put_part(client: Any, upload: dict[str, Any], number: int, data: bytes) -> dict[str, Any]:
    said = as_checksum(sha256(data).digest())
    answer = client.upload_part(**upload, PartNumber=number, Body=data, ChecksumSHA256=said)
    return {"PartNumber": number, "ETag": answer["ETag"], "ChecksumSHA256": said}


def _abort(client: Any, upload: dict[str, Any]) -> None:
    from botocore.exceptions import BotoCoreError, ClientError

    with suppress(BotoCoreError, ClientError):  # then a bucket's own rule has to do it
        client.abort_multipart_upload(**upload)
