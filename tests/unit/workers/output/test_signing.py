from __future__ import annotations

import io
import json
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import c2pa
import numpy as np
import pytest
from cryptography.hazmat.primitives.asymmetric import ec

from storage.contract.errors import OutputUnusable, SettingError
from storage.contract.output import ImageFormat, OutputOptions
from storage.embedded.read import read_embedded
from storage.embedded.xmp import SourceType
from storage.signing import SignerSettings
from tests.services.certificates import Authority, pem
from tests.unit.workers.output.scenery import scenery
from workers.output.encode import Texts, decode_picture, encode_picture
from workers.output.signing import FileSigner, needed, open_signer

PIXELS = scenery(64)
TEXTS = Texts(parameters="a fox", record='{"a":1}', source=SourceType.MADE)


@pytest.fixture(scope="module")
def authority() -> Authority:
    return Authority()


@pytest.fixture(scope="module")
def settings(authority: Authority) -> SignerSettings:
    key = ec.generate_private_key(ec.SECP256R1())
    chain = authority.issue("signer", key) + authority.certificate
    return SignerSettings(certificate=chain, key=pem(key))


@pytest.fixture(scope="module")
def signer(settings: SignerSettings) -> Iterator[FileSigner]:
    made = FileSigner(settings)
    yield made
    made.close()


def manifest(data: bytes, form: ImageFormat) -> tuple[dict[str, Any], dict[str, Any]]:
    """The whole report of the official reader, and the active manifest."""
    with c2pa.Reader(form.media_type, io.BytesIO(data)) as reader:
        report = json.loads(reader.json())
    return report, report["manifests"][report["active_manifest"]]


def file_of(form: ImageFormat) -> bytes:
    return encode_picture(PIXELS, OutputOptions(format=form), TEXTS)


@pytest.mark.parametrize("form", ImageFormat, ids=str)
@pytest.mark.parametrize("source", SourceType, ids=lambda one: one.name)
def test_the_official_reader_finds_a_valid_statement(
    signer: FileSigner, form: ImageFormat, source: SourceType
) -> None:
    report, found = manifest(signer.sign(file_of(form), form, source), form)

    (actions,) = [one for one in found["assertions"] if one["label"].startswith("c2pa.actions")]
    assert actions["data"]["actions"] == [
        {"action": "c2pa.created", "digitalSourceType": source.value}
    ]
    assert report["validation_state"] == "Valid"
    assert found["signature_info"]["issuer"] == "Tests"
    assert {one["code"] for one in report["validation_status"]} == {"signingCredential.untrusted"}


@pytest.mark.parametrize("form", ImageFormat, ids=str)
def test_signing_keeps_pixels_and_metadata(signer: FileSigner, form: ImageFormat) -> None:
    plain = file_of(form)

    signed = signer.sign(plain, form, SourceType.MADE)

    assert np.array_equal(decode_picture(signed), decode_picture(plain))
    assert read_embedded(signed) == read_embedded(plain)
    assert len(signed) - len(plain) < 8192


def test_a_file_changed_afterwards_is_found_out(signer: FileSigner) -> None:
    signed = bytearray(signer.sign(file_of(ImageFormat.PNG), ImageFormat.PNG, SourceType.MADE))
    at = signed.index(b"a fox")
    signed[at : at + 5] = b"a cat"

    report, _ = manifest(bytes(signed), ImageFormat.PNG)

    assert report["validation_state"] == "Invalid"
    assert "assertion.dataHash.mismatch" in {one["code"] for one in report["validation_status"]}


def test_threads_may_share_a_signer(signer: FileSigner) -> None:
    def sign(_number: int) -> str:
        signed = signer.sign(file_of(ImageFormat.JPEG), ImageFormat.JPEG, SourceType.MADE)
        return str(manifest(signed, ImageFormat.JPEG)[0]["validation_state"])

    with ThreadPoolExecutor(4) as pool:
        assert set(pool.map(sign, range(16))) == {"Valid"}


def test_a_certificate_that_cannot_sign_is_refused_at_once(authority: Authority) -> None:
    with pytest.raises(SettingError, match="cannot sign"):
        FileSigner(SignerSettings(certificate=authority.certificate, key=pem(authority.key)))


def test_another_keys_certificate_is_refused(settings: SignerSettings) -> None:
    other = pem(ec.generate_private_key(ec.SECP256R1()))

    with pytest.raises(SettingError, match="cannot sign"):
        FileSigner(SignerSettings(certificate=settings.certificate, key=other))


def test_a_worker_without_a_certificate_says_so() -> None:
    assert open_signer({}) is None
    with pytest.raises(OutputUnusable, match="no certificate"):
        needed(None)
