"""Tiny models as one file in their authors' own layout: diffusers' conversion turned round."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file

Tensors = dict[str, torch.Tensor]

_RESNET = (
    ("in_layers.0", "norm1"),
    ("in_layers.2", "conv1"),
    ("out_layers.0", "norm2"),
    ("out_layers.3", "conv2"),
    ("emb_layers.1", "time_emb_proj"),
    ("skip_connection", "conv_shortcut"),
)
_ENDS = (
    ("time_embed.0", "time_embedding.linear_1"),
    ("time_embed.2", "time_embedding.linear_2"),
    ("label_emb.0.0", "add_embedding.linear_1"),
    ("label_emb.0.2", "add_embedding.linear_2"),
    ("input_blocks.0.0", "conv_in"),
    ("out.0", "conv_norm_out"),
    ("out.2", "conv_out"),
)
_VAE_NAMES = (
    ("nin_shortcut", "conv_shortcut"),
    ("norm_out", "conv_norm_out"),
    ("mid.attn_1.norm.", "mid_block.attentions.0.group_norm."),
    ("mid.attn_1.q.", "mid_block.attentions.0.to_q."),
    ("mid.attn_1.k.", "mid_block.attentions.0.to_k."),
    ("mid.attn_1.v.", "mid_block.attentions.0.to_v."),
    ("mid.attn_1.proj_out.", "mid_block.attentions.0.to_out.0."),
    ("mid.block_1.", "mid_block.resnets.0."),
    ("mid.block_2.", "mid_block.resnets.1."),
)


def original_stable_diffusion(model: Path, file: Path) -> Path:
    """The Stable Diffusion 1 pipeline in `model` as one file."""
    clip = _read(model / "text_encoder")
    parts: Tensors = {}
    _put(parts, "model.diffusion_model.", _unet(model / "unet"))
    _put(parts, "first_stage_model.", _vae(model / "vae"))
    _put(parts, "cond_stage_model.transformer.", _with_wrapper(clip))
    save_file(parts, file)
    return file


def original_stable_diffusion_xl(model: Path, file: Path) -> Path:
    """The SDXL pipeline in `model` as one file."""
    parts: Tensors = {}
    _put(parts, "model.diffusion_model.", _unet(model / "unet"))
    _put(parts, "first_stage_model.", _vae(model / "vae"))
    first = _with_wrapper(_read(model / "text_encoder"))
    _put(parts, "conditioner.embedders.0.transformer.", first)
    second = _open_clip(_with_wrapper(_read(model / "text_encoder_2")))
    _put(parts, "conditioner.embedders.1.model.", second)
    save_file(parts, file)
    return file


def _put(parts: Tensors, start: str, tensors: Tensors) -> None:
    parts |= {start + name: tensor.contiguous() for name, tensor in tensors.items()}


def _read(folder: Path) -> Tensors:
    (file,) = folder.glob("*.safetensors")
    return dict(load_file(file))


def _renamed(tensors: Tensors, rename: Callable[[str], str]) -> Tensors:
    return {rename(name): tensor for name, tensor in tensors.items()}


def _with_wrapper(clip: Tensors) -> Tensors:
    """As transformers named them before 5.6: below ``text_model``."""
    alone = ("text_model.", "text_projection.")
    return _renamed(clip, lambda n: n if n.startswith(alone) else f"text_model.{n}")


def _config(folder: Path) -> dict[str, Any]:
    import json

    return dict(json.loads((folder / "config.json").read_text()))


def _unet(folder: Path) -> Tensors:
    config = _config(folder)
    layers = config["layers_per_block"]
    ups = config["up_block_types"]

    def rename(name: str) -> str:
        for original, ours in _ENDS:
            if name.startswith(ours + "."):
                return original + name.removeprefix(ours)
        name = _unet_block(name, layers, ups)
        if ".transformer_blocks." in name:
            return name
        for original, ours in _RESNET:
            name = re.sub(rf"(?<=\.){ours}(?=\.)", original, name)
        return name

    return _renamed(_read(folder), rename)


def _unet_block(name: str, layers: int, ups: list[str]) -> str:
    if found := re.match(r"down_blocks\.(\d+)\.(resnets|attentions)\.(\d+)\.", name):
        place = (layers + 1) * int(found[1]) + int(found[3]) + 1
        kind = 0 if found[2] == "resnets" else 1
        return f"input_blocks.{place}.{kind}.{name[found.end() :]}"
    if found := re.match(r"down_blocks\.(\d+)\.downsamplers\.0\.conv\.", name):
        return f"input_blocks.{(layers + 1) * (int(found[1]) + 1)}.0.op.{name[found.end() :]}"
    if found := re.match(r"up_blocks\.(\d+)\.(resnets|attentions)\.(\d+)\.", name):
        place = (layers + 1) * int(found[1]) + int(found[3])
        kind = 0 if found[2] == "resnets" else 1
        return f"output_blocks.{place}.{kind}.{name[found.end() :]}"
    if found := re.match(r"up_blocks\.(\d+)\.upsamplers\.0\.", name):
        place = (layers + 1) * int(found[1]) + layers
        kind = 2 if "CrossAttn" in ups[int(found[1])] else 1
        return f"output_blocks.{place}.{kind}.{name[found.end() :]}"
    if found := re.match(r"mid_block\.resnets\.(\d+)\.", name):
        return f"middle_block.{2 * int(found[1])}.{name[found.end() :]}"
    return name.replace("mid_block.attentions.0.", "middle_block.1.")


def _vae(folder: Path) -> Tensors:
    levels = len(_config(folder)["block_out_channels"])

    def rename(name: str) -> str:
        name = re.sub(r"down_blocks\.(\d+)\.resnets\.", r"down.\1.block.", name)
        name = re.sub(r"down_blocks\.(\d+)\.downsamplers\.0\.", r"down.\1.downsample.", name)
        if found := re.search(r"up_blocks\.(\d+)\.(resnets|upsamplers\.0)\.", name):
            part = "block" if found[2] == "resnets" else "upsample"
            level = levels - 1 - int(found[1])
            name = f"{name[: found.start()]}up.{level}.{part}.{name[found.end() :]}"
        for original, ours in _VAE_NAMES:
            name = name.replace(ours, original)
        return name

    tensors = _renamed(_read(folder), rename)
    for name, tensor in tensors.items():
        if re.search(r"attn_1\.(q|k|v|proj_out)\.weight$", name) and tensor.dim() == 2:
            tensors[name] = tensor[:, :, None, None]
    return tensors


def _open_clip(clip: Tensors) -> Tensors:
    """In the layout of open_clip: queries, keys and values in one, some names others."""
    found: Tensors = {}
    for name, tensor in clip.items():
        short = name.removeprefix("text_model.")
        match = re.match(r"encoder\.layers\.(\d+)\.(.+)\.(weight|bias)$", short)
        if match is None:
            found |= _open_clip_end(short, tensor)
            continue
        layer, part, kind = match.groups()
        start = f"transformer.resblocks.{layer}."
        if part in ("self_attn.k_proj", "self_attn.v_proj"):
            continue
        if part == "self_attn.q_proj":
            three = [
                clip[name.replace("q_proj", letter)] for letter in ("q_proj", "k_proj", "v_proj")
            ]
            found[f"{start}attn.in_proj_{kind}"] = torch.cat(three)
            continue
        names = {
            "self_attn.out_proj": "attn.out_proj",
            "layer_norm1": "ln_1",
            "layer_norm2": "ln_2",
            "mlp.fc1": "mlp.c_fc",
            "mlp.fc2": "mlp.c_proj",
        }
        found[f"{start}{names[part]}.{kind}"] = tensor
    return found


def _open_clip_end(name: str, tensor: torch.Tensor) -> Tensors:
    match name:
        case "embeddings.token_embedding.weight":
            return {"token_embedding.weight": tensor}
        case "embeddings.position_embedding.weight":
            return {"positional_embedding": tensor}
        case "text_projection.weight":
            return {"text_projection": tensor.T}
        case "final_layer_norm.weight" | "final_layer_norm.bias":
            return {name.replace("final_layer_norm", "ln_final"): tensor}
    return {}
