"""What becomes of pictures: their files, marks and signatures, with the fake renderer."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

import c2pa
import pytest
from cryptography.hazmat.primitives.asymmetric import ec

from storage.embedded.read import read_embedded
from tests.services.certificates import Authority, pem

FAKE = ("--renderer", "fake")
JOB = """
name: files
output: {format: jpeg, quality: 97, watermark: ours, thumbnails: false}
items:
  - {prompt: a red star, num_images: 2, width: 256, height: 256}
"""


@pytest.fixture
def job(program: Any) -> str:
    (program.folder / "job.yaml").write_text(JOB)
    return "job.yaml"


def files(program: Any) -> list[Path]:
    return [program.folder / one["file"] for one in program.json("images")["images"]]


def test_a_job_file_says_how_its_pictures_are_kept(program: Any, job: str) -> None:
    program.run("render", job, *FAKE)

    program.check("files", items=2)
    image = program.json("image", "files/1")
    assert image["file"].endswith("000000001.jpg")
    assert image["thumbnail_key"] is None
    assert image["produced"]["watermark"]["bits"] == 32
    assert len(image["phash"]) == 16
    for file in files(program):
        found = read_embedded(file.read_bytes())
        assert found.format == "JPEG"
        assert found.record is not None
        assert found.record["item"]["prompt"] == "a red star"
    assert "watermark" in program.run("image", "files/1").stdout


def test_what_is_said_beside_the_manifest_goes_first(program: Any, job: str) -> None:
    options = ("--image-format", "avif", "--quality", "50", "--metadata", "minimal")

    program.run("render", job, "--watermark", "off", "--thumbnails", *options, *FAKE)

    image = program.json("image", "files/0")
    assert image["thumbnail_key"] is not None
    assert image["produced"] == {"format": "avif"}
    found = read_embedded(files(program)[0].read_bytes())
    assert (found.format, found.parameters) == ("AVIF", None)
    assert found.record == {"format": 1, "render_key": image["render_key"]}


def test_a_job_with_other_files_is_another_job(program: Any, job: str) -> None:
    program.run("render", job, *FAKE)

    again = program.run("render", job, "--quality", "50", *FAKE, code=2)

    assert "made from another manifest or other settings" in again.stderr


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (("--quality", "0"), "--quality: must be a whole number from 1 to 100"),
        (("--image-format", "gif"), "--image-format: must be one of png, webp, webp-lossless"),
        (("--image-format", "png"), "output.quality: png loses nothing and has no quality"),
        (("--watermark", "x" * 33), "--watermark: may have 32 bytes"),
        (("--safety", "mark"), "starter has no safety checker"),
        (("--c2pa",), "this machine has no certificate"),
    ],
)
def test_what_cannot_be_is_refused_before_anything_is_made(
    program: Any, job: str, options: tuple[str, ...], said: str
) -> None:
    done = program.run("render", job, *options, *FAKE, code=2)

    assert said in " ".join(done.stderr.split())
    assert not list(program.home.glob("renders/**/*.*"))


def test_pictures_are_signed_with_the_machines_certificate(
    program: Any, job: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    authority, key = Authority(), ec.generate_private_key(ec.SECP256R1())
    chain, secret = tmp_path / "chain.pem", tmp_path / "key.pem"
    chain.write_bytes(authority.issue("signer", key) + authority.certificate)
    secret.write_bytes(pem(key))
    monkeypatch.setenv("RENDERMILL_C2PA_CERTIFICATE", str(chain))
    monkeypatch.setenv("RENDERMILL_C2PA_KEY", str(secret))

    program.run("render", job, "--c2pa", *FAKE)

    assert program.json("image", "files/0")["produced"]["signed"]
    for file in files(program):
        with c2pa.Reader("image/jpeg", io.BytesIO(file.read_bytes())) as reader:
            assert json.loads(reader.json())["validation_state"] == "Valid"
    assert "C2PA" in program.run("doctor").stdout
