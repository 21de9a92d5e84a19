"""The starter model: its words, its training pictures, its checker and its weights."""

from __future__ import annotations

import os
import subprocess
import sys
import warnings
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from workers.starter import captions, prompts, scenes, vocabulary
from workers.starter.judge import COLOUR_TABLE, OUTLINES, read_picture
from workers.starter.vocabulary import Combination

pytest.importorskip("diffusers")

MODEL = Path(scenes.__file__).parent / "model"
SHAPE_WORDS = set(vocabulary.SHAPES)


def drawn_combinations(scene: scenes.Scene) -> Iterator[Combination]:
    for item in scene.objects:
        yield Combination(item.shape, item.colour, scene.background)


def sample_scenes(count: int, seed: int = 0) -> list[scenes.Scene]:
    rng = np.random.default_rng(seed)
    return [scenes.sample_scene(rng) for _ in range(count)]


# Words and the hold-out


def test_there_are_enough_words_for_the_model_to_be_worth_checking() -> None:
    assert len(vocabulary.SHAPES) >= 10
    assert len(vocabulary.OBJECT_COLOURS) >= 10
    assert len(vocabulary.BACKGROUNDS) >= 8


def test_about_a_tenth_of_the_combinations_is_held_out() -> None:
    everything = list(vocabulary.all_combinations())
    share = len(vocabulary.held_out_combinations()) / len(everything)
    assert 0.08 <= share <= 0.13
    assert len(everything) == len(set(everything))


def test_held_out_and_training_combinations_together_are_all() -> None:
    held_out = set(vocabulary.held_out_combinations())
    training = set(vocabulary.training_combinations())
    assert not held_out & training
    assert held_out | training == set(vocabulary.all_combinations())


def test_the_hold_out_never_moves() -> None:
    assert len(vocabulary.held_out_combinations()) == 96
    assert vocabulary.held_out_combinations()[0] == Combination("circle", "red", "yellow")
    assert not vocabulary.is_held_out(Combination("star", "red", "black"))


def test_every_word_is_held_out_in_some_combination_and_trained_in_others() -> None:
    for combinations in (vocabulary.held_out_combinations(), vocabulary.training_combinations()):
        assert {c.shape for c in combinations} == SHAPE_WORDS
        assert {c.colour for c in combinations} == set(vocabulary.OBJECT_COLOURS)
        assert {c.background for c in combinations} == set(vocabulary.BACKGROUNDS)


def test_an_object_is_never_near_its_background_in_colour() -> None:
    for combination in vocabulary.all_combinations():
        assert vocabulary.contrast(combination.colour, combination.background) >= 100


def test_a_held_out_combination_never_appears_in_training_scenes() -> None:
    for scene in sample_scenes(3000):
        assert not any(vocabulary.is_held_out(c) for c in drawn_combinations(scene))


def test_a_held_out_combination_never_appears_in_training_captions() -> None:
    held_out = {(c.colour, c.shape, c.background) for c in vocabulary.held_out_combinations()}
    rng = np.random.default_rng(1)
    for scene in sample_scenes(1500, seed=1):
        words = captions.caption(scene, rng).lower().replace("gray", "grey").replace(",", "")
        for colour, shape, background in held_out:
            if words.endswith(f"on a {background} background"):
                assert f"{colour} {shape}" not in words


def test_held_out_prompts_are_held_out_and_say_what_they_expect() -> None:
    chosen = prompts.held_out_prompts(300, seed=4)
    assert len(chosen) == 300
    for prompt in chosen:
        wanted = prompt.combination
        assert vocabulary.is_held_out(wanted)
        assert f"{wanted.colour} {wanted.shape}" in prompt.text
        assert prompt.text.endswith(f"on a {wanted.background} background")


def test_the_same_seed_gives_the_same_prompts() -> None:
    assert prompts.held_out_prompts(50, seed=9) == prompts.held_out_prompts(50, seed=9)
    assert prompts.held_out_prompts(50, seed=9) != prompts.held_out_prompts(50, seed=8)


# Pictures, captions and the checker


def test_captions_name_what_the_scene_shows() -> None:
    rng = np.random.default_rng(2)
    for scene in sample_scenes(500, seed=2):
        words = set(captions.caption(scene, rng).lower().replace(",", "").split())
        assert words & SHAPE_WORDS == {item.shape for item in scene.objects}


def test_the_same_generator_draws_the_same_picture() -> None:
    first, second = (scenes.draw(sample_scenes(1, seed=5)[0]) for _ in range(2))
    assert first.shape == (64, 64, 3)
    assert first.dtype == np.uint8
    np.testing.assert_array_equal(first, second)


def test_edges_are_soft_but_areas_are_flat() -> None:
    rng = np.random.default_rng(3)
    circle = scenes.place_alone(rng, "circle", "red", "large", "centre")
    colours = np.unique(scenes.draw(scenes.Scene((circle,), "white")).reshape(-1, 3), axis=0)
    assert len(colours) > 10
    assert {vocabulary.COLOUR_VALUES["red"], vocabulary.COLOUR_VALUES["white"]} <= {
        tuple(int(v) for v in colour) for colour in colours
    }


@pytest.mark.parametrize("shape", vocabulary.SHAPES)
def test_the_checker_reads_clean_drawings_right(shape: str) -> None:
    rng = np.random.default_rng(6)
    chosen = [c for c in vocabulary.all_combinations() if c.shape == shape]
    for index in rng.choice(len(chosen), 12, replace=False):
        wanted = chosen[index]
        size = vocabulary.SIZES[index % 3]
        item = scenes.place_alone(rng, shape, wanted.colour, size, None)
        reading = read_picture(scenes.draw(scenes.Scene((item,), wanted.background)))
        assert (reading.shape, reading.colour, reading.background) == (
            wanted.shape,
            wanted.colour,
            wanted.background,
        )


def test_an_object_is_where_and_as_large_as_the_scene_says() -> None:
    rng = np.random.default_rng(7)
    for position, axis, sign in (("left", 1, -1), ("right", 1, 1), ("top", 0, -1)):
        item = scenes.place_alone(rng, "circle", "black", "small", position)
        picture = scenes.draw(scenes.Scene((item,), "white"))
        places = np.argwhere(picture.sum(axis=2) < 300)
        assert sign * (places.mean(axis=0)[axis] - 31.5) > 8
        assert 18 <= np.ptp(places[:, axis]) <= 26


def test_the_checker_calls_an_empty_picture_unclear() -> None:
    reading = read_picture(np.full((64, 64, 3), 250, dtype=np.uint8))
    assert (reading.background, reading.colour, reading.shape) == ("white", "unclear", "unclear")


def test_the_checker_calls_a_formless_blob_unclear() -> None:
    picture = np.full((64, 64, 3), 250, dtype=np.uint8)
    picture[8:12, 8:56] = picture[50:54, 8:56] = (220, 38, 44)
    assert read_picture(picture).shape == "unclear"


def test_the_checker_knows_every_word_of_the_vocabulary() -> None:
    assert set(OUTLINES) == SHAPE_WORDS
    assert set(COLOUR_TABLE) == set(vocabulary.COLOUR_VALUES)


def test_the_checker_imports_no_drawing_and_no_training() -> None:
    code = (
        "import sys, workers.starter.check\n"
        "print(*[m for m in sys.modules if m.startswith('workers.starter.')])"
    )
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)}
    run = [sys.executable, "-c", code]
    output = subprocess.run(run, capture_output=True, text=True, check=True, env=environment)
    names = {name.removeprefix("workers.starter.") for name in output.stdout.split()}
    assert names == {"check", "judge", "prompts", "vocabulary"}


# The model folder


def test_the_model_is_small_and_free_of_pickles() -> None:
    files = [path for path in MODEL.rglob("*") if path.is_file()]
    weights = [path for path in files if path.suffix == ".safetensors"]
    assert len(weights) == 3
    assert sum(path.stat().st_size for path in weights) <= 10_000_000
    suffixes = {path.suffix for path in files}
    assert suffixes <= {".safetensors", ".json", ".txt", ".md"}


def test_the_tokenizer_takes_any_text_and_keeps_scene_words_whole() -> None:
    from transformers import CLIPTokenizer

    tokenizer = CLIPTokenizer.from_pretrained(str(MODEL / "tokenizer"))
    assert tokenizer.model_max_length == 77
    for word in (*vocabulary.SHAPES, *vocabulary.COLOUR_VALUES, "left", "small", "background"):
        assert len(tokenizer(word).input_ids) == 3, word
    for text in ("", "Zürich 猫 🎉", "\x00\x1b\t\n", "x" * 999, "it's 3 o'clock!"):
        ids = tokenizer(text, padding="max_length", max_length=77, truncation=True).input_ids
        assert len(ids) == 77
        assert 0 <= min(ids) <= max(ids) < len(tokenizer)
    assert tokenizer.decode(tokenizer("猫 🎉").input_ids, skip_special_tokens=True) == "猫 🎉"


def test_the_model_loads_plainly_in_full_precision_without_warnings() -> None:
    import torch
    from diffusers import StableDiffusionPipeline

    with warnings.catch_warnings():
        warnings.simplefilter("error")
        pipeline = StableDiffusionPipeline.from_pretrained(str(MODEL))
    for part in (pipeline.unet, pipeline.vae, pipeline.text_encoder):
        assert {parameter.dtype for parameter in part.parameters()} == {torch.float32}
    pipeline.set_progress_bar_config(disable=True)
    images = pipeline("a red star", num_inference_steps=2, output_type="np").images
    assert images.shape == (1, 64, 64, 3)
    assert np.isfinite(images).all()


@pytest.mark.slow
def test_most_held_out_prompts_come_out_right() -> None:
    """With the measured shares, 40 pictures fall under these limits about once in a million."""
    from workers.starter.check import Settings, check_model

    report = check_model(Settings(), count=40)
    assert report.shares["background"] >= 0.85
    assert report.shares["colour"] >= 0.8
    assert report.shares["shape"] >= 0.7
