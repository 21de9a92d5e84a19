"""Who signs pictures: the environment's words for certificate, key and time stamps.

Read by workers, which sign, and by whoever must know beforehand whether they can. Loads no
library of C2PA.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final
from urllib.parse import urlsplit

from storage.contract.errors import SettingError

CERTIFICATE: Final = "RENDERMILL_C2PA_CERTIFICATE"
KEY: Final = "RENDERMILL_C2PA_KEY"
ALGORITHM: Final = "RENDERMILL_C2PA_ALGORITHM"
TSA_URL: Final = "RENDERMILL_C2PA_TSA_URL"

ALGORITHMS: Final = ("es256", "es384", "es512", "ps256", "ps384", "ps512", "ed25519")


@dataclass(frozen=True, kw_only=True, slots=True)
class SignerSettings:
    """A certificate chain, the signer's first, and its private key, both as PEM."""

    certificate: bytes
    key: bytes = field(repr=False)
    algorithm: str = "es256"
    tsa_url: str | None = None  #: asked for a time stamp of every picture; None: no network


def read_signer(environ: Mapping[str, str]) -> SignerSettings | None:
    """The signer the environment names, or None; `SettingError` if it cannot be one."""
    certificate, key = environ.get(CERTIFICATE, ""), environ.get(KEY, "")
    if not certificate and not key:
        return None
    for name, other in ((CERTIFICATE, KEY), (KEY, CERTIFICATE)):
        if not environ.get(name):
            raise SettingError(f"{other} is set, but {name} is not", hint="set both, or neither")
    algorithm = environ.get(ALGORITHM) or "es256"
    if algorithm not in ALGORITHMS:
        raise SettingError(f"{ALGORITHM} {algorithm}: must be one of {', '.join(ALGORITHMS)}")
    if importlib.util.find_spec("c2pa") is None:
        raise SettingError(
            f"{CERTIFICATE} is set, but signing needs c2pa-python",
            hint="pip install 'rendermill[c2pa]'",
        )
    return SignerSettings(
        certificate=_pem(CERTIFICATE, certificate, "CERTIFICATE"),
        key=_pem(KEY, key, "PRIVATE KEY"),
        algorithm=algorithm,
        tsa_url=_tsa_url(environ),
    )


def require_signer(environ: Mapping[str, str]) -> SignerSettings:
    """The signer; `SettingError` if there is none."""
    signer = read_signer(environ)
    if signer is None:
        raise SettingError(
            "a job asks for signed pictures (C2PA), and this machine has no certificate",
            hint=f"set {CERTIFICATE} and {KEY} to PEM files, or leave --c2pa away",
        )
    return signer


def _pem(name: str, path: str, kind: str) -> bytes:
    try:
        data = Path(path).expanduser().read_bytes()
    except OSError as error:
        raise SettingError(f"{name} {path}: {error.strerror or error}") from error
    if b"-----BEGIN " not in data or f"{kind}-----".encode() not in data:
        raise SettingError(f"{name} {path}: holds no {kind.lower()} in PEM form")
    return data


def _tsa_url(environ: Mapping[str, str]) -> str | None:
    url = environ.get(TSA_URL, "").strip()
    if url and urlsplit(url).scheme not in ("http", "https"):
        raise SettingError(f"{TSA_URL}: must begin with http:// or https://")
    return url or None
