"""What can be known of a model without loading it."""

from __future__ import annotations

import json
import os
import shutil
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import save_file

from storage.contract.errors import ModelError
from storage.contract.families.registry import FAMILIES
from storage.contract.items import TEXT_TO_IMAGE
from storage.contract.models import ModelCard
from storage.models.card import DEFAULTS_FILE, read_card
from storage.models.weights import variant_of, weight_files

Write = Callable[..., None]

PLAIN = "diffusion_pytorch_model.safetensors"
SHARDS = [f"diffusion_pytorch_model-0000{n}-of-00002.safetensors" for n in (1, 2)]
FP16 = "diffusion_pytorch_model.fp16.safetensors"
FP16_SHARDS = [f"diffusion_pytorch_model.fp16-0000{n}-of-00002.safetensors" for n in (1, 2)]
BF16 = "diffusion_pytorch_model.bf16.safetensors"
NON_EMA = "diffusion_pytorch_model.non_ema.safetensors"


def card_of(folder: Path) -> ModelCard:
    return read_card(folder, model="tiny", revision="abc")


def change(file: Path, **values: Any) -> None:
    """Change the values of a config file; those that are None are removed."""
    content = json.loads(file.read_text()) | values
    file.write_text(json.dumps({key: value for key, value in content.items() if value is not None}))


def test_a_card_says_all_that_configs_and_headers_say(model: Path) -> None:
    files = list(model.rglob("*.safetensors"))
    assert card_of(model) == ModelCard(
        model="tiny",
        revision="abc",
        path=str(model),
        pipeline="StableDiffusionPipeline",
        width=64,
        height=64,
        num_inference_steps=50,
        guidance_scale=7.5,
        scheduler="DDIMScheduler",
        parameters={"text_encoder": 8, "unet": 6, "vae": 5},
        weight_bytes=sum(file.stat().st_size for file in files),
        token_limit=77,
        text_layers=2,
        stored_bytes={file.parent.name: file.stat().st_size for file in files},
        streamed={"text_encoder": 8, "unet": 6, "vae": 5},
    )


def test_a_card_costs_no_more_for_a_large_model(model: Path) -> None:
    os.truncate(model / "unet" / PLAIN, 1 << 40)  # a hole: reading it would take a while
    assert card_of(model).weight_bytes > 1 << 40
    assert card_of(model).parameters["unet"] == 6


@pytest.mark.parametrize(
    ("sample_size", "size"),
    [(8, (64, 64)), ([8, 16], (128, 64)), (None, (512, 512)), (0, (512, 512)), (96, (768, 768))],
)
def test_the_default_size_is_that_of_the_latents_decoded(
    model: Path, sample_size: object, size: tuple[int, int]
) -> None:
    change(model / "unet" / "config.json", sample_size=sample_size)
    card = card_of(model)
    assert (card.width, card.height) == size


def test_a_decoder_with_fewer_levels_enlarges_less(model: Path) -> None:
    change(model / "vae" / "config.json", block_out_channels=[8, 16])
    assert card_of(model).width == 16
    change(model / "vae" / "config.json", block_out_channels=None)
    assert card_of(model).width == 64


@pytest.mark.parametrize(
    ("defaults", "steps", "guidance"),
    [
        ('{"num_inference_steps": 20, "guidance_scale": 4.5}', 20, 4.5),
        ('{"guidance_scale": 0}', 50, 0.0),
        ("{}", 50, 7.5),
    ],
)
def test_a_model_may_bring_its_own_defaults(
    model: Path, defaults: str, steps: int, guidance: float
) -> None:
    (model / DEFAULTS_FILE).write_text(defaults)
    card = card_of(model)
    assert (card.num_inference_steps, card.guidance_scale) == (steps, guidance)


@pytest.mark.parametrize("defaults", ['{"steps": 20}', '{"num_inference_steps": "x"}', "[", ""])
def test_defaults_that_make_no_sense_are_refused_by_name(model: Path, defaults: str) -> None:
    (model / DEFAULTS_FILE).write_text(defaults)
    with pytest.raises(ModelError, match=f"'tiny': .*{DEFAULTS_FILE}: "):
        card_of(model)


@pytest.mark.parametrize(
    "file",
    ["model_index.json", "unet/config.json", "vae/config.json", "text_encoder/config.json"],
)
def test_a_missing_config_is_named_and_what_a_model_looks_like(model: Path, file: str) -> None:
    (model / file).unlink()
    with pytest.raises(ModelError, match=f"not a diffusers model: .*{file} is missing") as caught:
        card_of(model)
    assert "model_index.json and a folder for each component" in str(caught.value.hint)


@pytest.mark.parametrize(
    ("file", "content"),
    [
        ("model_index.json", "["),
        ("model_index.json", "[]"),
        ("model_index.json", "[" * 100_000),
        ("model_index.json", '{"_class_name": 7}'),
        ("model_index.json", '{"_class_name": "StableDiffusionPipeline", "scheduler": null}'),
        ("model_index.json", '{"_class_name": "StableDiffusionPipeline", "scheduler": ["x"]}'),
        ("unet/config.json", '{"sample_size": "large"}'),
        ("unet/config.json", '{"sample_size": [8]}'),
        ("unet/config.json", '{"sample_size": 1e999}'),
        ("vae/config.json", '{"block_out_channels": 4}'),
        ("text_encoder/config.json", '{"max_position_embeddings": {}}'),
        ("text_encoder/config.json", "null"),
    ],
)
def test_a_config_that_makes_no_sense_is_refused_by_name(
    model: Path, file: str, content: str
) -> None:
    (model / file).write_text(content)
    with pytest.raises(ModelError, match=f"'tiny': .*{file} cannot be read: "):
        card_of(model)


def test_a_config_that_may_not_be_read_is_refused_by_name(model: Path) -> None:
    (model / "model_index.json").unlink()
    (model / "model_index.json").mkdir()
    with pytest.raises(ModelError, match=r"model_index\.json cannot be read: .*directory"):
        card_of(model)


@pytest.mark.parametrize("pipeline", ["TextToVideoPipeline", "ModelLoader", None])
def test_what_makes_no_pictures_is_answered_with_what_does(
    model: Path, pipeline: str | None
) -> None:
    change(model / "model_index.json", _class_name=pipeline, unet=["diffusers", "UNet"])
    with pytest.raises(ModelError) as caught:
        card_of(model)
    known = ", ".join(name for family in FAMILIES for name in family.covers)
    assert str(caught.value) == (
        f"'tiny' is a {pipeline}, which this version cannot render; it can: {known}"
    )


def test_a_pipeline_no_record_covers_gets_a_plain_card(model: Path) -> None:
    change(
        model / "model_index.json",
        _class_name="SomethingNewPipeline",
        unet=["diffusers", "UNet2DModel"],
        vae=["diffusers", "AutoencoderKL"],
        tokenizer=["transformers", "CLIPTokenizerFast"],
        text_encoder=["transformers", "CLIPTextModel"],
        feature_extractor=["transformers", "CLIPImageProcessor"],
    )
    card = card_of(model)
    assert card.is_plain
    assert card.parameters == {"text_encoder": 8, "unet": 6, "vae": 5}
    assert dict(card.family.pipelines) == {TEXT_TO_IMAGE: "SomethingNewPipeline"}
    assert card.family.components == ("text_encoder", "unet", "vae")
    assert (card.width, card.token_limit) == (64, 77)


def test_a_plain_card_asks_for_no_config_it_does_not_know_of(model: Path, write: Write) -> None:
    change(
        model / "model_index.json",
        _class_name="SomethingNewPipeline",
        prior=["diffusers", "PriorModel"],
    )
    write(model / "prior" / PLAIN, (7,))
    card = card_of(model)
    assert (card.parameters, card.family.denoiser) == ({"prior": 7}, "prior")
    assert card.width == card.family.side


# What else the card knows


def test_the_card_tells_checker_prediction_upcast_and_classes(model: Path) -> None:
    change(
        model / "model_index.json",
        safety_checker=["stable_diffusion", "StableDiffusionSafetyChecker"],
        unet=["diffusers", "UNet2DConditionModel"],
    )
    change(model / "vae" / "config.json", force_upcast=True)
    (model / "scheduler").mkdir()
    (model / "scheduler" / "scheduler_config.json").write_text(
        '{"prediction_type": "v_prediction"}'
    )
    card = card_of(model)
    assert card.has_safety_checker
    assert card.force_upcast
    assert card.prediction_type == "v_prediction"
    assert card.classes == {"unet": "UNet2DConditionModel"}
    assert "safety_checker" not in card.parameters


@pytest.mark.parametrize(
    ("readme", "licence"),
    [
        ("---\nlicense: creativeml-openrail-m\ntags: [x]\n---\n# A model", "creativeml-openrail-m"),
        ("---\nlicense: other\nlicense_name: own-1.0\n---", "own-1.0"),
        ("---\nlicense: 'mit'\n---", "mit"),
        ("---\ntags:\n- license: x\n---\nlicense: y", None),
        ("license: mit", None),
        ("", None),
    ],
)
def test_the_licence_is_the_one_the_model_card_names(
    model: Path, readme: str, licence: str | None
) -> None:
    (model / "README.md").write_text(readme)
    assert card_of(model).licence == licence


def test_of_a_streamed_component_two_blocks_and_what_is_in_none_are_there_at_once(
    model: Path,
) -> None:
    names = {"conv_in.weight": 5, "down_blocks.0.a": 10, "down_blocks.0.b": 1, "up_blocks.0.a": 7}
    tensors = {name: np.zeros(count, np.float16) for name, count in names.items()}
    tensors["down_blocks.1.resnets.0.a"] = np.zeros(9, np.float16)
    save_file(tensors, model / "unet" / PLAIN)
    card = card_of(model)
    assert card.parameters["unet"] == 32
    assert card.streamed["unet"] == 5 + 11 + 9


def test_a_component_the_model_says_it_has_not_is_not_missed(model: Path) -> None:
    shutil.rmtree(model / "text_encoder")
    change(model / "model_index.json", text_encoder=[None, None])
    card = card_of(model)
    assert sorted(card.parameters) == ["unet", "vae"]
    assert card.token_limit == card.family.token_limit


@pytest.mark.parametrize(
    ("config", "scale"),
    [
        ({"encoder_block_out_channels": [1, 1, 1, 1, 1, 1]}, 32),
        ({"dim_mult": [1, 2, 4, 4]}, 8),
        ({"block_out_channels": [1, 1, 1]}, 4),
        ({}, 8),
    ],
)
def test_the_scale_of_the_latents_is_read_from_every_kind_of_vae(
    model: Path, config: dict[str, Any], scale: int
) -> None:
    (model / "vae" / "config.json").write_text(json.dumps(config))
    assert card_of(model).latent_scale == scale


# Weights


@pytest.mark.parametrize("suffix", ["bin", "ckpt", "pt", "pth"])
def test_pickled_weights_are_refused_with_the_reason_and_a_way_out(
    model: Path, suffix: str
) -> None:
    file = model / "unet" / PLAIN
    file.rename(file.with_suffix(f".{suffix}"))
    with pytest.raises(ModelError) as caught:
        card_of(model)
    assert str(caught.value) == (
        "'tiny' has only pickled weights in unet, which can run code when they are loaded and"
        " are refused; use a safetensors revision of it, or convert it"
    )


def test_pickles_beside_safetensors_are_left_alone(model: Path) -> None:
    (model / "unet" / "diffusion_pytorch_model.bin").write_bytes(b"code")
    assert card_of(model).parameters["unet"] == 6


def test_missing_weights_are_said_to_be_missing(model: Path) -> None:
    (model / "vae" / PLAIN).unlink()
    with pytest.raises(ModelError, match=r"'tiny' has no safetensors weights in vae$"):
        card_of(model)


@pytest.mark.parametrize(
    ("files", "variant", "used"),
    [
        ([PLAIN], None, [PLAIN]),
        (SHARDS, None, SHARDS),
        ([PLAIN, FP16, BF16, NON_EMA], None, [PLAIN]),
        ([*SHARDS, *FP16_SHARDS], None, SHARDS),
        ([FP16], "fp16", [FP16]),
        (FP16_SHARDS, "fp16", FP16_SHARDS),
        ([FP16, BF16, NON_EMA], "fp16", [FP16]),
        ([BF16, NON_EMA], "bf16", [BF16]),
        ([NON_EMA], "non_ema", [NON_EMA]),
        ([], None, []),
    ],
)
def test_of_several_variants_one_is_used_and_the_plain_one_if_there_is_one(
    tmp_path: Path, files: list[str], variant: str | None, used: list[str]
) -> None:
    for name in files:
        (tmp_path / name).touch()
    assert variant_of(tmp_path) == variant
    assert [file.name for file in weight_files(tmp_path)] == used


def test_shards_add_up_and_variants_do_not(model: Path, write: Write) -> None:
    (model / "unet" / PLAIN).unlink()
    for number, name in enumerate(SHARDS):
        write(model / "unet" / name, (2, 3), (number, 9), ())
    write(model / "unet" / FP16, (1000,))
    assert card_of(model).parameters["unet"] == 2 * (6 + 1) + 9


HEADER = json.dumps({"t": {"dtype": "F16", "shape": [2], "data_offsets": [0, 4]}}).encode()


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"\x01\x02",
        struct.pack("<Q", 1 << 62) + HEADER,
        struct.pack("<Q", len(HEADER)) + HEADER[:-5],
        struct.pack("<Q", len(HEADER)) + HEADER.replace(b"[2]", b'"2"'),
        struct.pack("<Q", len(HEADER)) + HEADER.replace(b'"shape"', b'"size1"'),
        struct.pack("<Q", 2) + b"[]",
        struct.pack("<Q", 7) + b'{"t":1}',
        b"version https://git-lfs.github.com/spec/v1\noid sha256:0\n",
    ],
    ids=[
        "empty",
        "cut short",
        "absurd",
        "header cut",
        "shape of text",
        "no shape",
        "a list",
        "a number",
        "a pointer of Git LFS",
    ],
)
def test_a_damaged_weight_file_is_named(model: Path, content: bytes) -> None:
    (model / "unet" / PLAIN).write_bytes(content)
    with pytest.raises(ModelError, match=f"unet/{PLAIN} is not a safetensors file: "):
        card_of(model)


def test_a_scheduler_that_no_seed_decides_is_refused(model: Path) -> None:
    (model / "scheduler").mkdir()
    file = model / "scheduler" / "scheduler_config.json"
    file.write_text('{"stochastic_sampling": true}')

    with pytest.raises(ModelError, match="draws noise at every step that no seed decides"):
        card_of(model)
