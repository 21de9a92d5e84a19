"""Configs of the models whose checkpoints are distributed as single files.

Such a file holds weights alone. What the published repositories say beside them is written here
for Stable Diffusion 1, 2 and XL, so that nothing need be fetched.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from storage.models.clip.vocabulary import END, tokenizer_files

Config = dict[str, Any]

_CROSS: Final = "CrossAttnDownBlock2D"
_UP: Final = "CrossAttnUpBlock2D"

_V1_UNET: Final[Config] = {
    "_class_name": "UNet2DConditionModel",
    "sample_size": 64,
    "in_channels": 4,
    "out_channels": 4,
    "down_block_types": [_CROSS, _CROSS, _CROSS, "DownBlock2D"],
    "up_block_types": ["UpBlock2D", _UP, _UP, _UP],
    "block_out_channels": [320, 640, 1280, 1280],
    "layers_per_block": 2,
    "cross_attention_dim": 768,
    "attention_head_dim": 8,
}
_V2_UNET: Final[Config] = _V1_UNET | {
    "sample_size": 96,
    "cross_attention_dim": 1024,
    "attention_head_dim": [5, 10, 20, 20],
    "use_linear_projection": True,
}
_UPSCALE_UNET: Final[Config] = _V2_UNET | {
    "sample_size": 128,
    "in_channels": 7,
    "attention_head_dim": 8,
    "block_out_channels": [256, 512, 512, 1024],
    "down_block_types": ["DownBlock2D", _CROSS, _CROSS, _CROSS],
    "up_block_types": [_UP, _UP, _UP, "UpBlock2D"],
    "num_class_embeds": 1000,
    "only_cross_attention": [True, True, True, False],
}
_XL_UNET: Final[Config] = _V1_UNET | {
    "sample_size": 128,
    "down_block_types": ["DownBlock2D", _CROSS, _CROSS],
    "up_block_types": [_UP, _UP, "UpBlock2D"],
    "block_out_channels": [320, 640, 1280],
    "cross_attention_dim": 2048,
    "attention_head_dim": [5, 10, 20],
    "use_linear_projection": True,
    "transformer_layers_per_block": [1, 2, 10],
    "addition_embed_type": "text_time",
    "addition_time_embed_dim": 256,
    "projection_class_embeddings_input_dim": 2816,
}
_REFINER_UNET: Final[Config] = _XL_UNET | {
    "down_block_types": ["DownBlock2D", _CROSS, _CROSS, "DownBlock2D"],
    "up_block_types": ["UpBlock2D", _UP, _UP, "UpBlock2D"],
    "block_out_channels": [384, 768, 1536, 1536],
    "cross_attention_dim": 1280,
    "attention_head_dim": [6, 12, 24, 24],
    "transformer_layers_per_block": 4,
    "projection_class_embeddings_input_dim": 2560,
}
_VAE: Final[Config] = {
    "_class_name": "AutoencoderKL",
    "sample_size": 512,
    "in_channels": 3,
    "out_channels": 3,
    "latent_channels": 4,
    "down_block_types": ["DownEncoderBlock2D"] * 4,
    "up_block_types": ["UpDecoderBlock2D"] * 4,
    "block_out_channels": [128, 256, 512, 512],
    "layers_per_block": 2,
    "scaling_factor": 0.18215,
    "force_upcast": False,
}
_XL_VAE: Final[Config] = _VAE | {
    "sample_size": 1024,
    "scaling_factor": 0.13025,
    "force_upcast": True,
}
_UPSCALE_VAE: Final[Config] = _VAE | {
    "sample_size": 256,
    "down_block_types": ["DownEncoderBlock2D"] * 3,
    "up_block_types": ["UpDecoderBlock2D"] * 3,
    "block_out_channels": [128, 256, 512],
    "scaling_factor": 0.08333,
    "force_upcast": True,
}
_CLIP_L: Final[Config] = {
    "architectures": ["CLIPTextModel"],
    "model_type": "clip_text_model",
    "vocab_size": 49408,
    "hidden_size": 768,
    "intermediate_size": 3072,
    "projection_dim": 768,
    "num_hidden_layers": 12,
    "num_attention_heads": 12,
    "max_position_embeddings": 77,
    "hidden_act": "quick_gelu",
    "layer_norm_eps": 1e-5,
    "bos_token_id": 0,
    "eos_token_id": 2,
    "pad_token_id": 1,
}
_CLIP_H: Final[Config] = _CLIP_L | {
    "hidden_size": 1024,
    "intermediate_size": 4096,
    "projection_dim": 512,
    "num_hidden_layers": 23,
    "num_attention_heads": 16,
    "hidden_act": "gelu",
}
_BIG_G: Final[Config] = _CLIP_L | {
    "architectures": ["CLIPTextModelWithProjection"],
    "hidden_size": 1280,
    "intermediate_size": 5120,
    "projection_dim": 1280,
    "num_hidden_layers": 32,
    "num_attention_heads": 20,
    "hidden_act": "gelu",
}
_SCHEDULER: Final[Config] = {
    "num_train_timesteps": 1000,
    "beta_start": 0.00085,
    "beta_end": 0.012,
    "beta_schedule": "scaled_linear",
    "steps_offset": 1,
}
_PNDM: Final[Config] = _SCHEDULER | {
    "_class_name": "PNDMScheduler",
    "skip_prk_steps": True,
    "set_alpha_to_one": False,
}
_DDIM: Final[Config] = _SCHEDULER | {
    "_class_name": "DDIMScheduler",
    "clip_sample": False,
    "set_alpha_to_one": False,
}
_EULER: Final[Config] = _SCHEDULER | {
    "_class_name": "EulerDiscreteScheduler",
    "timestep_spacing": "leading",
    "interpolation_type": "linear",
}
_V: Final[Config] = {"prediction_type": "v_prediction"}
_LOW_RES: Final[Config] = {
    "_class_name": "DDPMScheduler",
    "num_train_timesteps": 1000,
    "beta_start": 0.0001,
    "beta_end": 0.02,
    "beta_schedule": "scaled_linear",
    "clip_sample": True,
}

_NO_CHECKER: Final[Config] = {"safety_checker": [None, None], "feature_extractor": [None, None]}
_V1: Final = {"unet": _V1_UNET, "vae": _VAE, "text_encoder": _CLIP_L, "scheduler": _PNDM}
_V2: Final = {"unet": _V2_UNET, "vae": _VAE | {"sample_size": 768}, "text_encoder": _CLIP_H}
_XL: Final = {
    "unet": _XL_UNET,
    "vae": _XL_VAE,
    "text_encoder": _CLIP_L,
    "text_encoder_2": _BIG_G,
    "scheduler": _EULER,
}
_NINE: Final[Config] = {"in_channels": 9}

BASES: Final[Mapping[str, tuple[Config, Mapping[str, Config]]]] = {
    "v1": ({**_NO_CHECKER}, _V1),
    "inpainting": ({**_NO_CHECKER}, _V1 | {"unet": _V1_UNET | _NINE}),
    "v2": ({**_NO_CHECKER}, _V2 | {"scheduler": _DDIM | _V}),
    "inpainting_v2": (
        {**_NO_CHECKER},
        _V2 | {"unet": _V2_UNET | _NINE | {"sample_size": 64}, "scheduler": _PNDM},
    ),
    "upscale": (
        {"max_noise_level": 350},
        _V2
        | {
            "unet": _UPSCALE_UNET,
            "vae": _UPSCALE_VAE,
            "scheduler": _DDIM | _V,
            "low_res_scheduler": _LOW_RES,
        },
    ),
    "xl_base": ({"force_zeros_for_empty_prompt": True}, _XL),
    "xl_inpaint": ({"force_zeros_for_empty_prompt": True}, _XL | {"unet": _XL_UNET | _NINE}),
    "xl_refiner": (
        {
            "force_zeros_for_empty_prompt": False,
            "requires_aesthetics_score": True,
            "text_encoder": [None, None],
            "tokenizer": [None, None],
        },
        {
            "unet": _REFINER_UNET,
            "vae": _XL_VAE,
            "text_encoder_2": _BIG_G,
            "scheduler": _EULER,
        },
    ),
}
"""By kind of checkpoint: what model_index.json says beside the components, and their configs."""


def write_base(folder: Path, name: str, pipeline: str) -> None:
    """The configs and tokenizers of a kind of checkpoint as a diffusers folder without weights."""
    settings, configs = BASES[name]
    index: Config = {"_class_name": pipeline, "_diffusers_version": "0.42.0", **settings}
    for component, config in configs.items():
        if component.startswith("text_encoder"):
            index[component] = ["transformers", config["architectures"][0]]
            tokenizer = component.replace("text_encoder", "tokenizer")
            index[tokenizer] = ["transformers", "CLIPTokenizer"]
            # Only Stable Diffusion 1 and SDXL's first encoder were trained on the other filler.
            pad = END if config["hidden_size"] == _CLIP_L["hidden_size"] else "!"
            _write(folder / tokenizer, tokenizer_files(pad))
        else:
            index[component] = ["diffusers", config["_class_name"]]
        file = "scheduler_config.json" if component.endswith("scheduler") else "config.json"
        _write(folder / component, {file: json.dumps(config)})
    _write(folder, {"model_index.json": json.dumps(index)})


def _write(folder: Path, contents: Mapping[str, str]) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for name, content in contents.items():
        (folder / name).write_text(content, encoding="utf-8")
