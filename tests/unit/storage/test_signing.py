from __future__ import annotations

import importlib.util
from pathlib import Path

import pytest

from storage.contract.errors import SettingError
from storage.signing import ALGORITHM, CERTIFICATE, KEY, TSA_URL, read_signer, require_signer

CHAIN = b"-----BEGIN CERTIFICATE-----\nAA==\n-----END CERTIFICATE-----\n"
SECRET = b"-----BEGIN PRIVATE KEY-----\nc2VjcmV0\n-----END PRIVATE KEY-----\n"


@pytest.fixture
def environ(tmp_path: Path) -> dict[str, str]:
    (tmp_path / "chain.pem").write_bytes(CHAIN)
    (tmp_path / "key.pem").write_bytes(SECRET)
    return {CERTIFICATE: str(tmp_path / "chain.pem"), KEY: str(tmp_path / "key.pem")}


def test_a_signer_is_read_with_what_it_needs(environ: dict[str, str]) -> None:
    found = read_signer(environ | {ALGORITHM: "ps256", TSA_URL: "http://tsa"})

    assert found is not None
    assert (found.certificate, found.key) == (CHAIN, SECRET)
    assert (found.algorithm, found.tsa_url) == ("ps256", "http://tsa")


def test_no_time_stamp_server_is_asked_unless_named(environ: dict[str, str]) -> None:
    found = read_signer(environ)

    assert found is not None
    assert found.tsa_url is None


def test_the_key_is_never_shown(environ: dict[str, str]) -> None:
    assert "c2VjcmV0" not in repr(read_signer(environ))


def test_without_settings_there_is_no_signer() -> None:
    assert read_signer({}) is None
    with pytest.raises(SettingError, match="has no certificate"):
        require_signer({})


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({KEY: ""}, f"{CERTIFICATE} is set, but {KEY} is not"),
        ({CERTIFICATE: ""}, f"{KEY} is set, but {CERTIFICATE} is not"),
        ({CERTIFICATE: "/nowhere/chain.pem"}, "No such file"),
        ({ALGORITHM: "rsa"}, "must be one of es256"),
        ({TSA_URL: "ftp://tsa"}, "must begin with http"),
    ],
)
def test_settings_that_cannot_work_are_refused(
    environ: dict[str, str], changes: dict[str, str], said: str
) -> None:
    with pytest.raises(SettingError, match=said):
        read_signer(environ | changes)


def test_files_are_told_apart(environ: dict[str, str]) -> None:
    with pytest.raises(SettingError, match="holds no certificate"):
        read_signer({CERTIFICATE: environ[KEY], KEY: environ[KEY]})
    with pytest.raises(SettingError, match="holds no private key"):
        read_signer({CERTIFICATE: environ[CERTIFICATE], KEY: environ[CERTIFICATE]})


def test_a_missing_library_is_said_with_what_to_install(
    environ: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda _name: None)

    with pytest.raises(SettingError) as caught:
        read_signer(environ)
    assert "rendermill[c2pa]" in str(caught.value.hint)
