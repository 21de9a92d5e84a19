"""Models of vectors: what ships, folders of transformers, and what is refused."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from storage.contract.errors import ModelUnusable
from tests.models.embedding import save_clip, save_text_model
from workers.engine.embedding import open_picture_embedder, open_text_embedder


def test_the_model_that_ships_knows_what_is_alike_without_a_network() -> None:
    model = open_text_embedder("wordllama")
    found = model.texts(["a lonely lighthouse at dusk", "a beacon by the sea", "a bowl of soup"])
    assert found.shape == (3, 256)
    assert np.linalg.norm(found, axis=1) == pytest.approx(1, abs=1e-5)
    assert found[0] @ found[1] > 2 * found[0] @ found[2]


def test_a_text_without_words_has_no_direction() -> None:
    assert not open_text_embedder("wordllama").texts(["", "a fox"])[0].any()


@pytest.mark.parametrize("first", [False, True])
def test_a_text_encoder_gives_a_text_the_same_vector_in_any_company(
    tmp_path: Path, first: bool
) -> None:
    save_text_model(tmp_path, first=first)
    model = open_text_embedder(str(tmp_path))
    alone = model.texts(["a red fox"])
    together = model.texts(["a blue star at dusk", "a red fox", "fox " * 100])
    assert together.shape == (3, 16)
    assert together[1] == pytest.approx(alone[0], abs=1e-5)


def test_the_first_state_is_taken_where_the_files_say_so(tmp_path: Path) -> None:
    mean, first = tmp_path / "mean", tmp_path / "first"
    for folder in (mean, first):
        folder.mkdir()
        save_text_model(folder, first=folder is first)
    one = open_text_embedder(str(mean)).texts(["a red fox"])
    assert np.abs(one - open_text_embedder(str(first)).texts(["a red fox"])).max() > 0.01


def test_clip_puts_pictures_and_texts_into_one_space(tmp_path: Path) -> None:
    save_clip(tmp_path)
    model = open_picture_embedder(str(tmp_path))
    red, blue = (Image.new("RGB", (50, 40), color) for color in ("red", "blue"))
    found = model.pictures([red, blue, red])
    assert found.shape == (3, 8)
    assert found[0] == pytest.approx(found[2], abs=1e-6)
    assert np.abs(found[0] - found[1]).max() > 1e-3
    assert model.texts(["a red fox"]).shape == (1, 8)


def test_pickled_weights_are_refused(tmp_path: Path) -> None:
    save_text_model(tmp_path)
    (tmp_path / "model.safetensors").rename(tmp_path / "pytorch_model.bin")
    with pytest.raises(ModelUnusable, match="safetensors"):
        open_text_embedder(str(tmp_path))


def test_a_folder_that_holds_no_model_is_named(tmp_path: Path) -> None:
    with pytest.raises(ModelUnusable, match=str(tmp_path)):
        open_picture_embedder(str(tmp_path))
