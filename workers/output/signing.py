"""Content credentials (C2PA): a signed statement in the file that a model made the picture.

A signature holds a moment and random numbers, so that signed files differ from run to run: what
is equal then are their pixels. Nothing is fetched, and no time stamp asked for unless a server
for that is named.
"""

from __future__ import annotations

import io
import json
import threading
from collections.abc import Mapping
from functools import lru_cache
from typing import Any, Final

from storage.contract.errors import OutputUnusable, SettingError
from storage.contract.output import ImageFormat
from storage.embedded.xmp import CREATOR, SourceType
from storage.signing import CERTIFICATE, KEY, SignerSettings, read_signer


class FileSigner:
    """Signs finished files; may be used by several threads."""

    def __init__(self, settings: SignerSettings) -> None:
        """Raises `SettingError` if certificate and key cannot sign."""
        import c2pa

        self._c2pa = c2pa
        self._context = c2pa.Context(c2pa.Settings.from_dict(_SETTINGS))
        self._alone = threading.Lock()  # nothing is said of two threads with one signer
        try:
            info = c2pa.C2paSignerInfo(
                settings.algorithm.encode(),
                settings.certificate,
                settings.key,
                settings.tsa_url.encode() if settings.tsa_url else None,
            )
            self._signer = c2pa.Signer.from_info(info)
            self.sign(_probe(), ImageFormat.PNG, SourceType.MADE)
        except c2pa.C2paError as error:
            raise SettingError(
                f"{CERTIFICATE} and {KEY} cannot sign: {error}",
                hint="the certificate chain begins with the signer's, which must not be"
                " self-signed and must allow document signing; the key must be its own",
            ) from error

    def sign(self, data: bytes, form: ImageFormat, source: SourceType) -> bytes:
        """The file with its manifest in it."""
        result = io.BytesIO()
        with self._alone, self._c2pa.Builder(_manifest(source), self._context) as builder:
            builder.sign(self._signer, form.media_type, io.BytesIO(data), result)
        return result.getvalue()

    def close(self) -> None:
        """Let go of the key."""
        self._signer.close()
        self._context.close()


def open_signer(environ: Mapping[str, str]) -> FileSigner | None:
    """The signer of this worker, if its environment names one; proven to sign."""
    settings = read_signer(environ)
    return FileSigner(settings) if settings is not None else None


def needed(signer: FileSigner | None) -> FileSigner:
    """`signer`, or `OutputUnusable`."""
    if signer is None:
        raise OutputUnusable(
            "the job's pictures are to be signed (C2PA), and this worker has no certificate",
            hint=f"set {CERTIFICATE} and {KEY} where it is started",
        )
    return signer


@lru_cache(maxsize=2)
def _manifest(source: SourceType) -> str:
    action: dict[str, Any] = {"action": "c2pa.created", "digitalSourceType": source.value}
    return json.dumps(
        {
            "claim_generator_info": [{"name": CREATOR.lower()}],
            "assertions": [{"label": "c2pa.actions.v2", "data": {"actions": [action]}}],
        }
    )


_SETTINGS: Final = {
    "builder": {"thumbnail": {"enabled": False}},  # of twice the picture's own size
    "verify": {"remote_manifest_fetch": False, "ocsp_fetch": False},
}


def _probe() -> bytes:
    """A small picture to try the signer on."""
    from PIL import Image

    buffer = io.BytesIO()
    Image.new("RGB", (8, 8)).save(buffer, "PNG")
    return buffer.getvalue()
