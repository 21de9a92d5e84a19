"""Pipelines put together from a part of their components."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from storage.contract.errors import ModelUnusable
from storage.contract.families.registry import FAMILIES
from tests.models import classic
from tests.models.phases import open_whole
from workers.engine.assembly import StandIn, assemble

VAE = {"block_out_channels": [8, 8, 16], "latent_channels": 4, "scaling_factor": 0.08333}
CLASSES = sorted(
    {
        name
        for family in FAMILIES
        for kinds in (family.pipelines, family.controlnet_pipelines)
        for name in kinds.values()
    }
)


@pytest.mark.parametrize("name", CLASSES)
def test_every_pipeline_of_a_family_can_be_made_of_nothing(name: str) -> None:
    pipeline = assemble(name, {}, {})

    assert type(pipeline).__name__ == name
    assert pipeline.vae is None
    assert pipeline.vae_scale_factor


@pytest.mark.parametrize("name", [name for name in CLASSES if "Diffusion" in name])
def test_the_scale_of_latents_is_that_of_the_vaes_config(name: str) -> None:
    pipeline = assemble(name, {}, {"vae": VAE})

    assert pipeline.vae_scale_factor == 4
    assert pipeline.image_processor.config.vae_scale_factor in (4, 8)  # 8: packed latents
    assert pipeline.vae.config.latent_channels == 4


def test_what_the_class_does_not_take_is_left_out_and_a_checker_is_never_inside() -> None:
    components = {"text_encoder_2": torch.nn.Linear(1, 1), "safety_checker": torch.nn.Linear(1, 1)}

    pipeline = assemble("StableDiffusionPipeline", components, {"transformer": VAE})

    assert pipeline.safety_checker is None
    assert not hasattr(pipeline, "text_encoder_2")
    assert assemble("StableDiffusionXLPipeline", {}, {}).watermark is None


def test_the_pipelines_own_settings_are_those_of_its_model() -> None:
    settings = {"requires_aesthetics_score": True, "force_zeros_for_empty_prompt": False}

    pipeline = assemble("StableDiffusionXLImg2ImgPipeline", {}, settings)

    assert pipeline.config.requires_aesthetics_score
    assert not pipeline.config.force_zeros_for_empty_prompt


def test_given_components_are_inside_and_absent_ones_are_none(tmp_path: Path) -> None:
    whole = open_whole(classic.stable_diffusion(tmp_path / "model"))
    components = {"text_encoder": whole.text_encoder, "tokenizer": whole.tokenizer}

    pipeline = assemble("StableDiffusionPipeline", components, {"unet": whole.unet.config})

    assert pipeline.text_encoder is whole.text_encoder
    assert isinstance(pipeline.unet, StandIn)
    assert pipeline.unet.config.sample_size == whole.unet.config.sample_size
    assert pipeline.vae is None


def test_text_encoders_have_no_stand_in() -> None:
    # The pipelines ask whether it is None to know whether they can encode.
    pipeline = assemble("StableDiffusionPipeline", {}, {"text_encoder": {"hidden_size": 4}})

    assert pipeline.text_encoder is None


def test_the_upscalers_old_scaling_factor_is_mended_in_a_stand_in() -> None:
    old = {**VAE, "scaling_factor": 0.18215}

    pipeline = assemble("StableDiffusionUpscalePipeline", {}, {"vae": old})

    assert pipeline.vae.config.scaling_factor == 0.08333
    assert old["scaling_factor"] == 0.18215


def test_several_controlnets_become_one_component(tmp_path: Path) -> None:
    from diffusers import ControlNetModel

    folder = classic.stable_diffusion(tmp_path / "model")
    nets = [
        ControlNetModel.from_pretrained(classic.controlnet(tmp_path / str(n), folder, seed=n))
        for n in range(2)
    ]

    pipeline = assemble("StableDiffusionControlNetPipeline", {"controlnet": nets}, {})

    assert list(pipeline.controlnet.nets) == nets


def test_a_class_diffusers_does_not_have_is_refused() -> None:
    with pytest.raises(ModelUnusable, match="no pipeline 'MadeUpPipeline'"):
        assemble("MadeUpPipeline", {}, {})


def test_a_stand_in_has_its_config_and_nothing_else() -> None:
    stand_in = StandIn({"temperal_downsample": [True]})

    assert stand_in.temperal_downsample == [True]
    with pytest.raises(AttributeError):
        _ = stand_in.encode
    with pytest.raises(AttributeError):
        _ = stand_in.config.missing
    assert not isinstance(stand_in, SimpleNamespace | torch.nn.Module)
