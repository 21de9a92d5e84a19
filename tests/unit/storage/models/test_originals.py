"""Which model a checkpoint of one file is, and the configs it needs."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from safetensors.numpy import save_file

from storage.contract.errors import ModelError
from storage.contract.families.references import REFERENCES
from storage.contract.families.registry import family_of
from storage.models.bases import BASES, write_base
from storage.models.clip.vocabulary import tokenizer_files
from storage.models.file_card import config_folder, read_file_card
from storage.models.originals import ORIGINALS, recognise
from storage.models.resolve import describe

UNET = "model.diffusion_model."
CONV_IN = UNET + "input_blocks.0.0.weight"
CROSS = UNET + "input_blocks.2.1.transformer_blocks.0.attn2.to_k.weight"
V1_CLIP = "cond_stage_model.transformer.text_model.embeddings.position_embedding.weight"
V2_CLIP = "cond_stage_model.model.token_embedding.weight"
XL_FIRST = "conditioner.embedders.0.transformer.text_model.final_layer_norm.bias"
XL_SECOND = "conditioner.embedders.1.model.positional_embedding"
REFINER = "conditioner.embedders.0.model.positional_embedding"
VAE = "first_stage_model.encoder.conv_in.weight"
SD3 = "joint_blocks.0.context_block.adaLN_modulation.1.bias"
FLUX = "double_blocks.0.img_attn.norm.key_norm.scale"

Shapes = dict[str, tuple[int, ...]]


def unet(channels: int, width: int) -> Shapes:
    return {CONV_IN: (8, channels, 3, 3), CROSS: (8, width), VAE: (2, 3)}


CHECKPOINTS: dict[str, Shapes] = {
    "v1": unet(4, 768) | {V1_CLIP: (77, 8)},
    "inpainting": unet(9, 768) | {V1_CLIP: (77, 8)},
    "v2": unet(4, 1024) | {V2_CLIP: (9, 8)},
    "inpainting_v2": unet(9, 1024) | {V2_CLIP: (9, 8)},
    "upscale": unet(7, 1024) | {V2_CLIP: (9, 8)},
    "xl_base": unet(4, 2048) | {XL_FIRST: (8,), XL_SECOND: (77, 8)},
    "xl_inpaint": unet(9, 2048) | {XL_FIRST: (8,), XL_SECOND: (77, 8)},
    "xl_refiner": unet(4, 1280) | {REFINER: (77, 8)},
    "sd3": {UNET + SD3: (8,), VAE: (2,)},
    "flux": {FLUX: (8,)},
}


@pytest.mark.parametrize("name", sorted(CHECKPOINTS))
def test_a_checkpoint_is_told_by_names_and_shapes(name: str) -> None:
    found = recognise(CHECKPOINTS[name])
    assert found is not None
    assert found.name == name


def test_every_kind_is_told_apart_and_rendered_by_a_family() -> None:
    assert set(CHECKPOINTS) == set(ORIGINALS)
    for original in ORIGINALS.values():
        family = family_of(original.pipeline)
        assert family is not None
        needed = {name for name in family.components if name in original.prefixes}
        assert needed == set(original.prefixes)


@given(
    st.dictionaries(
        st.sampled_from([*{key for shapes in CHECKPOINTS.values() for key in shapes}, "other"]),
        st.lists(st.integers(0, 2048), max_size=5).map(tuple),
    )
)
def test_any_header_is_recognised_or_not_and_never_more(shapes: Shapes) -> None:
    found = recognise(shapes)
    assert found is None or found.name in ORIGINALS


def write(file: Path, shapes: Shapes) -> Path:
    save_file({name: np.zeros(shape, np.float16) for name, shape in shapes.items()}, file)
    return file


def test_the_card_counts_parameters_by_component(tmp_path: Path) -> None:
    file = write(tmp_path / "m.safetensors", CHECKPOINTS["xl_base"])
    card = read_file_card(file, model="m")
    assert card.parameters == {
        "text_encoder": 8,
        "text_encoder_2": 77 * 8,
        "unet": 8 * 4 * 9 + 8 * 2048,
        "vae": 6,
    }
    assert (card.width, card.pipeline) == (1024, "StableDiffusionXLPipeline")
    assert card.force_upcast
    assert card.scheduler == "EulerDiscreteScheduler"


def test_a_file_is_described_by_its_whole_path(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = write(tmp_path / "m.safetensors", CHECKPOINTS["v2"])
    monkeypatch.chdir(tmp_path)
    card = describe("m.safetensors")
    assert (card.model, card.width, card.prediction_type) == (str(file), 768, "v_prediction")
    with pytest.raises(ModelError, match="has no revision"):
        describe("m.safetensors", "main")


def test_a_part_of_a_model_is_refused_with_what_is_missing(tmp_path: Path) -> None:
    file = write(tmp_path / "m.safetensors", CHECKPOINTS["flux"])
    with pytest.raises(ModelError, match="without text_encoder, text_encoder_2, vae") as caught:
        describe(str(file))
    assert "black-forest-labs/FLUX.1-dev" in str(caught.value.hint)


def test_pickles_and_strangers_are_refused(tmp_path: Path) -> None:
    (tmp_path / "m.ckpt").write_bytes(b"code")
    with pytest.raises(ModelError, match="pickled weights"):
        describe(str(tmp_path / "m.ckpt"))
    with pytest.raises(ModelError, match="no checkpoint of a known kind"):
        describe(str(write(tmp_path / "lora.safetensors", {"lora.up": (2, 2)})))
    (tmp_path / "cut.safetensors").write_bytes(b"\x01")
    with pytest.raises(ModelError, match="is not a safetensors file"):
        describe(str(tmp_path / "cut.safetensors"))
    with pytest.raises(ModelError, match="nor a folder or file"):
        describe(str(tmp_path / "nowhere.safetensors"))


def test_configs_may_lie_beside_the_file(tmp_path: Path) -> None:
    file = tmp_path / "m.safetensors"
    assert config_folder(file) is None
    (tmp_path / "m").mkdir()
    (tmp_path / "m" / "model_index.json").write_text("{}")
    assert config_folder(file) == tmp_path / "m"


# What the package brings


def counted(folder: Path, name: str) -> int:
    """Parameters of a component of these configs, built without weights."""
    import diffusers
    import torch
    import transformers

    index = json.loads((folder / "model_index.json").read_text())
    library, kind = index[name]
    config = json.loads((folder / name / "config.json").read_text())
    with torch.device("meta"):
        if library == "diffusers":
            model = getattr(diffusers, kind).from_config(config)
        else:
            made = transformers.CLIPTextConfig.from_dict(config)
            model = getattr(transformers, kind)(made)
    return sum(parameter.numel() for parameter in model.parameters())


@pytest.mark.parametrize(
    ("name", "title"),
    [
        ("v1", "Stable Diffusion 1.5"),
        ("v2", "Stable Diffusion 2.1"),
        ("xl_base", "SDXL base"),
        ("xl_refiner", "SDXL refiner"),
        ("upscale", "SD x4 upscaler"),
    ],
)
def test_the_configs_that_come_with_the_package_are_those_of_released_models(
    tmp_path: Path, name: str, title: str
) -> None:
    write_base(tmp_path, name, ORIGINALS[name].pipeline)
    (reference,) = [one for one in REFERENCES if one.title == title]
    for component, parameters in reference.parameters.items():
        assert counted(tmp_path, component) == pytest.approx(parameters, rel=1e-4), component


@pytest.mark.parametrize("name", sorted(BASES))
def test_the_configs_load_as_a_pipeline(tmp_path: Path, name: str) -> None:
    import diffusers
    import transformers

    write_base(tmp_path, name, ORIGINALS[name].pipeline)
    index = json.loads((tmp_path / "model_index.json").read_text())
    assert index["_class_name"] == ORIGINALS[name].pipeline
    for component, (library, kind) in ((n, v) for n, v in index.items() if isinstance(v, list)):
        if kind is not None and component.startswith("tokenizer"):
            transformers.CLIPTokenizer.from_pretrained(tmp_path / component)
        elif kind is not None and component.endswith("scheduler"):
            loaded = getattr(diffusers, kind).from_pretrained(tmp_path / component)
            if component == "scheduler":
                assert loaded.config.prediction_type == ORIGINALS[name].prediction_type
        assert (library is None) == (kind is None)


def test_the_tokenizer_is_clips(tmp_path: Path) -> None:
    import transformers

    for name, content in tokenizer_files().items():
        (tmp_path / name).write_text(content, encoding="utf-8")
    tokenizer = transformers.CLIPTokenizer.from_pretrained(tmp_path)
    # As published with the model: start, "a photo of a cat", end; and what prompts are filled with.
    assert tokenizer("a photo of a cat").input_ids == [49406, 320, 1125, 539, 320, 2368, 49407]
    assert len(tokenizer) == 49408
    assert tokenizer.pad_token_id == 49407
    assert json.loads(tokenizer_files("!")["tokenizer_config.json"])["pad_token"] == "!"
