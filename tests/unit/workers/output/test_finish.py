from __future__ import annotations

import hashlib
import io
from typing import Any

import msgspec
import numpy as np
import pytest
from PIL import Image

from storage.contract.errors import OutputUnusable
from storage.contract.outcomes import Outcome, Reason
from storage.contract.output import ImageFormat, OutputOptions, Produced, Safety, SafetyRule
from storage.contract.watermarks import bits_of
from storage.db.images import ImageRow
from storage.objects.memory import MemoryStore
from storage.testing.factories import make_item, make_spec
from tests.unit.workers.output.scenery import scenery
from tests.unit.workers.output.test_metadata import FACTS, make_task
from workers.engine.ports import Picture
from workers.output.encode import decode_picture
from workers.output.finish import Destination, Finisher, failed_row
from workers.output.hashes import perceptual_hash, pixels_sha256
from workers.output.watermark import verify

PIXELS = scenery(300)
FLAGGED = Safety(flagged=True, concepts={3: 0.02}, highest=0.02, checker="c")


class FakeSigner:
    """Signs by an ending."""

    def __init__(self) -> None:
        self.asked: list[tuple[ImageFormat, str]] = []

    def sign(self, data: bytes, form: ImageFormat, source: Any) -> bytes:
        self.asked.append((form, source.name))
        return data + b"signed"


def destination(store: MemoryStore, *, signer: Any = None, **output: Any) -> Destination:
    task = make_task(output=OutputOptions(**output), spec=make_spec(model="starter"))
    return Destination(
        store=store, task=task, worker_id=1, now=lambda: 1.0, confirm=lambda: None, signer=signer
    )


def finished(to: Destination, **picture: Any) -> ImageRow:
    one = Picture(**({"item": 0, "pixels": PIXELS} | picture))
    return Finisher(to).finish(make_item(0), one, FACTS, 0.5)


def produced(row: ImageRow) -> Produced:
    return msgspec.json.decode(row.produced or "{}", type=Produced)


@pytest.mark.parametrize("form", ImageFormat, ids=str)
def test_a_picture_lies_under_its_formats_name_with_its_hashes(
    store: MemoryStore, form: ImageFormat
) -> None:
    row = finished(destination(store, format=form))

    assert row.object_key == f"renders/job/00000/000000000.{form.extension}"
    file = store.get(row.object_key)
    assert (row.bytes, row.sha256) == (len(file), hashlib.sha256(file).hexdigest())
    assert row.pixels_sha256 == pixels_sha256(PIXELS)
    assert row.phash == perceptual_hash(PIXELS)
    assert row.flagged is None
    assert produced(row).format == form


def test_most_pictures_need_no_further_column(store: MemoryStore) -> None:
    assert finished(destination(store)).produced is None


def test_a_job_may_do_without_thumbnails(store: MemoryStore) -> None:
    row = finished(destination(store, thumbnails=False))

    assert row.thumbnail_key is None
    assert list(store.objects) == [row.object_key]


def test_a_watermark_is_read_back_from_the_file(store: MemoryStore) -> None:
    row = finished(destination(store, watermark="family"))

    found = produced(row).watermark
    assert found is not None
    assert found.is_verified
    kept = decode_picture(store.get(str(row.object_key)))
    assert verify(kept, bits_of("StableDiffusionV1")).is_verified
    assert row.pixels_sha256 == pixels_sha256(PIXELS)  # of the pixels as rendered


def test_a_watermark_that_was_lost_is_recorded_so(store: MemoryStore) -> None:
    row = finished(destination(store, watermark="ours", format=ImageFormat.JPEG, quality=15))

    found = produced(row).watermark
    assert row.outcome == Outcome.RENDERED
    assert found is not None
    assert not found.is_verified
    assert found.wrong


def test_a_small_picture_is_stored_without_a_watermark_and_says_so(store: MemoryStore) -> None:
    row = finished(destination(store, watermark="ours"), pixels=scenery(64))

    found = produced(row).watermark
    assert found is not None
    assert "smaller than 256" in str(found.note)
    assert np.array_equal(decode_picture(store.get(str(row.object_key))), scenery(64))


def test_a_marked_picture_is_kept_as_it_is(store: MemoryStore) -> None:
    row = finished(destination(store, safety=SafetyRule.MARK), safety=FLAGGED)

    assert (row.flagged, produced(row).safety, produced(row).blurred) == (1, FLAGGED, False)
    assert np.array_equal(decode_picture(store.get(str(row.object_key))), PIXELS)


def test_a_picture_that_was_not_flagged_is_recorded_as_checked(store: MemoryStore) -> None:
    row = finished(destination(store, safety=SafetyRule.BLUR), safety=Safety(flagged=False))

    assert (row.flagged, produced(row).blurred) == (0, False)
    assert np.array_equal(decode_picture(store.get(str(row.object_key))), PIXELS)


def test_a_blurred_picture_shows_no_detail_anywhere(store: MemoryStore) -> None:
    row = finished(destination(store, safety=SafetyRule.BLUR), safety=FLAGGED)

    assert (row.flagged, produced(row).blurred) == (1, True)
    kept = decode_picture(store.get(str(row.object_key)))
    steps = np.abs(np.diff(kept.astype(int), axis=0)).mean()
    assert kept.shape == PIXELS.shape
    assert steps < np.abs(np.diff(PIXELS.astype(int), axis=0)).mean() / 4
    assert row.phash == perceptual_hash(kept)
    with Image.open(io.BytesIO(store.get(str(row.thumbnail_key)))) as thumbnail:
        small = np.asarray(thumbnail.convert("RGB")).astype(int)
    assert np.abs(np.diff(small, axis=0)).mean() < 3


def test_a_dropped_picture_leaves_a_record_and_no_object(store: MemoryStore) -> None:
    row = finished(
        destination(store, safety=SafetyRule.DROP),
        pixels=None,
        fault=Reason.UNSAFE,
        detail="flagged",
        safety=FLAGGED,
    )

    assert (row.outcome, row.reason, row.flagged) == (Outcome.FAILED, Reason.UNSAFE, 1)
    assert produced(row).safety == FLAGGED
    assert store.objects == {}


def test_the_finished_file_is_what_is_signed_and_stored(store: MemoryStore) -> None:
    signer = FakeSigner()

    row = finished(destination(store, signer=signer, c2pa=True, format=ImageFormat.WEBP))

    assert signer.asked == [(ImageFormat.WEBP, "MADE")]
    assert store.get(str(row.object_key)).endswith(b"signed")
    assert row.sha256 == hashlib.sha256(store.get(str(row.object_key))).hexdigest()
    assert produced(row).signed


def test_a_signer_signs_only_where_it_was_asked_to(store: MemoryStore) -> None:
    signer = FakeSigner()

    finished(destination(store, signer=signer))

    assert signer.asked == []


def test_a_task_whose_files_cannot_be_signed_is_refused_as_a_whole(store: MemoryStore) -> None:
    with pytest.raises(OutputUnusable, match="no certificate"):
        Finisher(destination(store, c2pa=True))


def test_a_given_up_item_says_nothing_of_files(store: MemoryStore) -> None:
    fault = Picture(item=0, fault=Reason.NAN, detail="not finite")

    row = failed_row(destination(store, format=ImageFormat.PNG), make_item(0), fault)

    assert (row.produced, row.flagged, row.phash, row.pixels_sha256) == (None, None, None, None)
