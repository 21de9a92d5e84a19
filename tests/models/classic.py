"""Stable Diffusion 1, 2 and XL in all their kinds, their adapters and ControlNets."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from tests.models import parts

_NO_CHECKER: dict[str, Any] = {
    "safety_checker": None,
    "feature_extractor": None,
    "requires_safety_checker": False,
}


def stable_diffusion(
    folder: Path, *, seed: int = 0, prediction_type: str = "epsilon", inpainting: bool = False
) -> Path:
    """Text to image, or inpainting by a UNet that sees the masked picture."""
    import diffusers
    import torch

    torch.manual_seed(seed)
    name = "StableDiffusionInpaintPipeline" if inpainting else "StableDiffusionPipeline"
    getattr(diffusers, name)(
        text_encoder=parts.clip_text_encoder(),
        tokenizer=parts.clip_tokenizer(folder / "words"),
        unet=parts.unet(in_channels=9 if inpainting else 4),
        vae=parts.kl_vae(),
        scheduler=parts.ddim(prediction_type=prediction_type),
        **_NO_CHECKER,
    ).save_pretrained(folder)
    return folder


def latent_consistency(folder: Path) -> Path:
    """A few-step model whose UNet reads the guidance scale."""
    import torch
    from diffusers import LatentConsistencyModelPipeline, LCMScheduler

    torch.manual_seed(1)
    LatentConsistencyModelPipeline(
        text_encoder=parts.clip_text_encoder(),
        tokenizer=parts.clip_tokenizer(folder / "words"),
        unet=parts.unet(time_cond_proj_dim=32),
        vae=parts.kl_vae(),
        scheduler=LCMScheduler(**parts.diffusion_settings()),
        **_NO_CHECKER,
    ).save_pretrained(folder)
    return folder


def turbo(folder: Path) -> Path:
    """A few-step model that needs no guidance: trailing timesteps, Euler a."""
    import torch
    from diffusers import EulerAncestralDiscreteScheduler, StableDiffusionPipeline

    torch.manual_seed(2)
    StableDiffusionPipeline(
        text_encoder=parts.clip_text_encoder(),
        tokenizer=parts.clip_tokenizer(folder / "words"),
        unet=parts.unet(),
        vae=parts.kl_vae(),
        scheduler=EulerAncestralDiscreteScheduler(
            beta_start=0.00085,
            beta_end=0.012,
            beta_schedule="scaled_linear",
            timestep_spacing="trailing",
            steps_offset=1,
        ),
        **_NO_CHECKER,
    ).save_pretrained(folder)
    return folder


def depth(folder: Path) -> Path:
    """Depth to image, with a depth estimator."""
    import torch
    from diffusers import StableDiffusionDepth2ImgPipeline
    from transformers import DPTConfig, DPTForDepthEstimation, DPTImageProcessor

    torch.manual_seed(3)
    config = DPTConfig(
        image_size=32,
        patch_size=16,
        hidden_size=32,
        num_hidden_layers=4,
        backbone_out_indices=(0, 1, 2, 3),
        num_attention_heads=4,
        intermediate_size=37,
        neck_hidden_sizes=(8, 8, 16, 16),
        fusion_hidden_size=16,
    )
    estimator = DPTForDepthEstimation(config).eval()
    for parameter in estimator.parameters():  # as they are made they see no depth at all
        torch.nn.init.normal_(parameter, mean=0.02, std=0.1)
    StableDiffusionDepth2ImgPipeline(
        text_encoder=parts.clip_text_encoder(),
        tokenizer=parts.clip_tokenizer(folder / "words"),
        unet=parts.unet(in_channels=5),
        vae=parts.kl_vae(),
        scheduler=parts.ddim(),
        depth_estimator=estimator,
        feature_extractor=DPTImageProcessor(size={"height": 32, "width": 32}),
    ).save_pretrained(folder)
    return folder


def upscaler(folder: Path) -> Path:
    """Makes pictures four times as wide and high."""
    import torch
    from diffusers import DDPMScheduler, StableDiffusionUpscalePipeline

    torch.manual_seed(4)
    StableDiffusionUpscalePipeline(
        text_encoder=parts.clip_text_encoder(),
        tokenizer=parts.clip_tokenizer(folder / "words"),
        unet=parts.unet(in_channels=7, num_class_embeds=1000, sample_size=16),
        vae=parts.kl_vae(blocks=3, scaling_factor=0.08333),
        scheduler=parts.ddim(prediction_type="v_prediction"),
        low_res_scheduler=DDPMScheduler(beta_schedule="scaled_linear"),
    ).save_pretrained(folder)
    return folder


def _xl_unet(*, cross: int, numbers: int, **changes: Any) -> Any:
    return parts.unet(
        cross_attention_dim=cross,
        addition_embed_type="text_time",
        addition_time_embed_dim=8,
        projection_class_embeddings_input_dim=numbers * 8 + 32,
        transformer_layers_per_block=(1, 2),
        use_linear_projection=True,
        **changes,
    )


def stable_diffusion_xl(folder: Path, *, inpainting: bool = False) -> Path:
    """Two text encoders; or inpainting by a UNet that sees the masked picture."""
    import diffusers
    import torch

    torch.manual_seed(5)
    name = "StableDiffusionXLInpaintPipeline" if inpainting else "StableDiffusionXLPipeline"
    getattr(diffusers, name)(
        text_encoder=parts.clip_text_encoder(),
        text_encoder_2=parts.clip_text_encoder_2(),
        tokenizer=parts.clip_tokenizer(folder / "words"),
        tokenizer_2=parts.clip_tokenizer(folder / "words_2", pad="!"),
        unet=_xl_unet(
            cross=parts.CROSS + parts.CROSS_2, numbers=6, in_channels=9 if inpainting else 4
        ),
        vae=parts.kl_vae(scaling_factor=0.13025),
        scheduler=parts.ddim(),
        add_watermarker=False,
    ).save_pretrained(folder)
    return folder


def refiner(folder: Path) -> Path:
    """SDXL's second stage: only the second text encoder, and an aesthetic score."""
    import torch
    from diffusers import StableDiffusionXLImg2ImgPipeline

    torch.manual_seed(6)
    StableDiffusionXLImg2ImgPipeline(
        text_encoder=None,
        text_encoder_2=parts.clip_text_encoder_2(),
        tokenizer=None,
        tokenizer_2=parts.clip_tokenizer(folder / "words_2", pad="!"),
        unet=_xl_unet(cross=parts.CROSS_2, numbers=5),
        vae=parts.kl_vae(scaling_factor=0.13025),
        scheduler=parts.ddim(),
        requires_aesthetics_score=True,
        force_zeros_for_empty_prompt=False,
        add_watermarker=False,
    ).save_pretrained(folder)
    return folder


def controlnet(folder: Path, model: Path, *, seed: int = 7) -> Path:
    """A ControlNet for the UNet of `model`, which does change its pictures."""
    import torch
    from diffusers import ControlNetModel, UNet2DConditionModel

    torch.manual_seed(seed)
    made = ControlNetModel.from_unet(
        UNet2DConditionModel.from_pretrained(model / "unet"),
        conditioning_channels=3,
        conditioning_embedding_out_channels=(8, 8, 16, 16),
    )
    for name, parameter in made.named_parameters():
        if name.startswith(("controlnet_", "controlnet_cond_embedding")):
            torch.nn.init.normal_(parameter, std=0.1)
    made.save_pretrained(folder)
    return folder


def lora(file: Path, model: Path, *, seed: int = 8, text: bool = False, rank: int = 4) -> Path:
    """A LoRA for the UNet of `model`, and for its text encoders if `text`."""
    import torch
    from diffusers import DiffusionPipeline
    from peft import LoraConfig
    from peft.utils import get_peft_model_state_dict
    from safetensors.torch import save_file

    pipeline = DiffusionPipeline.from_pretrained(model, use_safetensors=True)
    layers = {"unet": ["to_q", "to_k", "to_v", "to_out.0"]}
    if text:
        named = ("text_encoder", "text_encoder_2")
        layers |= {n: ["q_proj", "v_proj"] for n in named if getattr(pipeline, n, None)}
    torch.manual_seed(seed)
    weights: dict[str, torch.Tensor] = {}
    for name, targets in layers.items():
        component = getattr(pipeline, name)
        component.add_adapter(
            LoraConfig(r=rank, lora_alpha=rank, target_modules=targets, init_lora_weights=False)
        )
        found = get_peft_model_state_dict(component)
        weights |= {f"{name}.{key}": value.contiguous() for key, value in found.items()}
    file.parent.mkdir(parents=True, exist_ok=True)
    save_file(weights, file)
    return file


def ip_adapter(folder: Path, model: Path, *, plus: bool = False) -> Path:
    """An IP-Adapter for the UNet of `model`, with its image encoder, as on the hub.

    With `plus` one that looks at all of the encoder's states, not at its summary.
    """
    import torch
    from diffusers import UNet2DConditionModel
    from safetensors.torch import save_file

    torch.manual_seed(9)
    unet = UNet2DConditionModel.from_pretrained(model / "unet")
    cross = unet.config.cross_attention_dim
    shapes = _resampler(cross) if plus else _projection(cross)
    weights = {f"image_proj.{name}": _drawn(name, shape) for name, shape in shapes.items()}
    # Numbered as diffusers counts attention layers: odd ones look at the text.
    names = [name for name in unet.attn_processors if "motion_modules" not in name]
    for number, name in enumerate(names):
        if name.endswith("attn2.processor"):
            width = unet.get_submodule(name.removesuffix(".processor")).to_q.in_features
            for key in ("to_k_ip", "to_v_ip"):
                weights[f"ip_adapter.{number}.{key}.weight"] = torch.randn(width, cross) * 0.2
    (folder / "models").mkdir(parents=True)
    save_file(weights, folder / "models" / "ip-adapter_sd15.safetensors")
    parts.clip_image_encoder().save_pretrained(folder / "models" / "image_encoder")
    parts.clip_image_processor().save_pretrained(folder / "models" / "image_encoder")
    return folder


def _projection(cross: int) -> dict[str, tuple[int, ...]]:
    """Shapes of one linear layer to four tokens and their norm."""
    linear = {"proj.weight": (4 * cross, 32), "proj.bias": (4 * cross,)}
    return {**linear, "norm.weight": (cross,), "norm.bias": (cross,)}


def _resampler(cross: int, inner: int = 64) -> dict[str, tuple[int, ...]]:
    """Shapes of four layers of attention, in the original names."""
    shapes: dict[str, tuple[int, ...]] = {
        "latents": (1, 4, inner),
        "proj_in.weight": (inner, 32),
        "proj_in.bias": (inner,),
        "proj_out.weight": (cross, inner),
        "proj_out.bias": (cross,),
        "norm_out.weight": (cross,),
        "norm_out.bias": (cross,),
    }
    for layer in (f"layers.{number}" for number in range(4)):
        for norm in ("0.norm1", "0.norm2", "1.0"):
            shapes |= {f"{layer}.{norm}.{end}": (inner,) for end in ("weight", "bias")}
        shapes[f"{layer}.0.to_q.weight"] = (inner, inner)
        shapes[f"{layer}.0.to_kv.weight"] = (2 * inner, inner)
        shapes[f"{layer}.0.to_out.weight"] = (inner, inner)
        shapes[f"{layer}.1.1.weight"] = (4 * inner, inner)
        shapes[f"{layer}.1.3.weight"] = (inner, 4 * inner)
    return shapes


def _drawn(name: str, shape: tuple[int, ...]) -> Any:
    import torch

    if len(shape) > 1:
        return torch.randn(shape) * 0.2
    return torch.zeros(shape) if name.endswith("bias") else torch.ones(shape)
