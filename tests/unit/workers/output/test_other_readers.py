"""What ExifTool, which most archives use, reads from our files."""

from __future__ import annotations

import json
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest

from storage.contract.output import ImageFormat
from storage.embedded.xmp import SourceType
from tests.unit.workers.output.test_encode import encoded

EXIFTOOL = shutil.which("exiftool")

pytestmark = pytest.mark.skipif(
    EXIFTOOL is None, reason="exiftool is needed: apt-get install libimage-exiftool-perl"
)


def read(file: Path) -> dict[str, Any]:
    """Tags by their groups, as ``XMP:CreatorTool``; warnings too."""
    said = subprocess.run(
        [str(EXIFTOOL), "-json", "-b", "-G0", "-n", "-validate", "-a", "-all:all", str(file)],
        capture_output=True,
        check=True,
        timeout=60,
    )
    (tags,) = json.loads(said.stdout)
    assert isinstance(tags, dict)
    return tags


@pytest.mark.parametrize("form", ImageFormat, ids=str)
@pytest.mark.parametrize(
    "prompt", ["a fox 星 🦊\nin the snow", "🦊" * 9_000], ids=["short", "long"]
)
def test_exiftool_reads_source_and_settings(form: ImageFormat, prompt: str, tmp_path: Path) -> None:
    data, texts = encoded(form, prompt)
    file = tmp_path / f"picture.{form.extension}"
    file.write_bytes(data)

    tags = read(file)

    assert tags["XMP:DigitalSourceType"] == SourceType.MADE
    assert tags["XMP:CreatorTool"] == "Rendermill"
    assert "ExifTool:Error" not in tags
    assert "UserComment" not in str(tags.get("ExifTool:Warning", ""))
    if form is ImageFormat.PNG:
        assert tags["PNG:Parameters"] == texts.parameters
    else:
        assert json.loads(tags["XMP:Record"]) == json.loads(str(texts.record))
        fits = form is not ImageFormat.JPEG or len(prompt) < 1000
        assert tags.get("EXIF:UserComment") == (texts.parameters if fits else None)
