"""Pictures as other programs write them, chunk for chunk."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

from PIL import Image, PngImagePlugin

from storage.embedded.exif import with_comment

A1111 = (
    "a red fox, (sharp:1.2)\nin the snow\n"
    "Negative prompt: blurry, {grey}\n"
    "Steps: 20, Sampler: DPM++ 2M, Schedule type: Karras, CFG scale: 7.5, Seed: 1234567890,"
    ' Size: 64x48, Model hash: abcd123456, Model: "my, model: v2", Denoising strength: 0.5,'
    ' Lora hashes: "a: 12, b: 34", Version: v1.10.1'
)
INVOKE = {
    "generation_mode": "sdxl_txt2img",
    "positive_prompt": "a red fox",
    "negative_prompt": "blurry",
    "width": 64,
    "height": 48,
    "seed": 42,
    "rand_device": "cpu",
    "cfg_scale": 5.5,
    "cfg_rescale_multiplier": 0.0,
    "steps": 30,
    "scheduler": "dpmpp_2m_sde_k",
    "seamless_x": False,
    "seamless_y": False,
    "clip_skip": 0,
    "model": {
        "key": "9b1c",
        "hash": "blake3:77aa",
        "name": "juggernaut xl",
        "base": "sdxl",
        "type": "main",
    },
    "loras": [{"model": {"key": "1", "name": "pixel art"}, "weight": 0.7}],
    "vae": None,
    "strength": None,
    "init_image": None,
    "app_version": "5.4.2",
}
SWARM = {
    "sui_image_params": {
        "prompt": "a red fox",
        "negativeprompt": "blurry",
        "model": "Flux/flux1-dev-fp8",
        "seed": 305223794,
        "steps": "25",
        "cfgscale": "1.5",
        "aspectratio": "1:1",
        "width": 64,
        "height": 48,
        "sampler": "euler",
        "scheduler": "normal",
        "swarm_version": "0.9.6.2",
    },
    "sui_extra_data": {"date": "2025-08-07", "generation_time": "1.00 seconds"},
    "sui_models": [
        {"name": "flux1-dev-fp8.safetensors", "param": "model", "hash": "0x" + "ab" * 32}
    ],
}
DGENERATE = (
    "#! /usr/bin/env dgenerate --file\n#! dgenerate 4.5.1\n\n"
    "stabilityai/stable-diffusion-2 \\\n--variant fp16 \\\n--dtype float16 \\\n"
    "--inference-steps 40 \\\n--guidance-scales 10 \\\n--seeds 92149 \\\n"
    "--scheduler EulerAncestralDiscreteScheduler \\\n--output-size 64x48 \\\n"
    '--prompts "a red fox; blurry"\n'
)
COMFY: dict[str, Any] = {
    "3": {
        "class_type": "KSampler",
        "inputs": {
            "seed": 156680208700286,
            "steps": 20,
            "cfg": 8,
            "sampler_name": "dpmpp_2m",
            "scheduler": "karras",
            "denoise": 1,
            "model": ["10", 0],
            "positive": ["6", 0],
            "negative": ["7", 0],
            "latent_image": ["5", 0],
        },
    },
    "4": {"class_type": "CheckpointLoaderSimple", "inputs": {"ckpt_name": "v1-5.safetensors"}},
    "5": {
        "class_type": "EmptyLatentImage",
        "inputs": {"width": 64, "height": 48, "batch_size": 1},
    },
    "6": {"class_type": "CLIPTextEncode", "inputs": {"text": "a red fox", "clip": ["4", 1]}},
    "7": {"class_type": "CLIPTextEncode", "inputs": {"text": "blurry", "clip": ["4", 1]}},
    "8": {"class_type": "VAEDecode", "inputs": {"samples": ["3", 0], "vae": ["4", 2]}},
    "9": {"class_type": "SaveImage", "inputs": {"filename_prefix": "x", "images": ["8", 0]}},
    "10": {
        "class_type": "LoraLoader",
        "inputs": {"lora_name": "pixel.safetensors", "model": ["4", 0], "clip": ["4", 1]},
    },
}
COMFY_FLUX: dict[str, Any] = {
    "13": {
        "class_type": "SamplerCustomAdvanced",
        "inputs": {
            "noise": ["25", 0],
            "guider": ["22", 0],
            "sampler": ["16", 0],
            "sigmas": ["17", 0],
            "latent_image": ["27", 0],
        },
    },
    "6": {"class_type": "CLIPTextEncode", "inputs": {"text": "a red fox", "clip": ["11", 0]}},
    "12": {"class_type": "UNETLoader", "inputs": {"unet_name": "flux1-dev.safetensors"}},
    "16": {"class_type": "KSamplerSelect", "inputs": {"sampler_name": "euler"}},
    "17": {
        "class_type": "BasicScheduler",
        "inputs": {"scheduler": "simple", "steps": 28, "denoise": 1.0, "model": ["12", 0]},
    },
    "22": {
        "class_type": "BasicGuider",
        "inputs": {"model": ["12", 0], "conditioning": ["26", 0]},
    },
    "25": {"class_type": "RandomNoise", "inputs": {"noise_seed": 7}},
    "26": {"class_type": "FluxGuidance", "inputs": {"guidance": 3.5, "conditioning": ["6", 0]}},
}


def workflow(graph: dict[str, Any]) -> dict[str, Any]:
    """The links of a graph as the program's pages keep them."""
    links = [
        [number, int(value[0]), value[1], int(name), 0, key.upper()]
        for number, (name, node, key, value) in enumerate(
            (name, node, key, value)
            for name, node in graph.items()
            for key, value in node["inputs"].items()
            if isinstance(value, list)
        )
    ]
    return {"links": links, "nodes": []}


def png(shade: int = 0, **chunks: str) -> bytes:
    """A PNG of 64 x 48 with these text chunks, as Pillow's users write them."""
    info = PngImagePlugin.PngInfo()
    for name, text in chunks.items():
        info.add_text(name, text)
    return _saved("PNG", shade, pnginfo=info)


def jpeg(comment: str, shade: int = 0) -> bytes:
    """A JPEG with that EXIF comment."""
    return _saved("JPEG", shade, exif=with_comment(comment))


def webp(comment: str, shade: int = 0) -> bytes:
    """A WebP with that EXIF comment."""
    return _saved("WEBP", shade, exif=with_comment(comment))


def _saved(form: str, shade: int, **options: Any) -> bytes:
    buffer = io.BytesIO()
    Image.new("RGB", (64, 48), (shade, 10, 200)).save(buffer, form, **options)
    return buffer.getvalue()


def write_all(folder: Path) -> None:
    """A folder of pictures of every program."""
    files = {
        "a1111/00001.png": png(1, parameters=A1111),
        "a1111/00002.jpg": jpeg(A1111, 2),
        "comfy/ComfyUI_00001_.png": png(
            3, prompt=json.dumps(COMFY), workflow=json.dumps(workflow(COMFY))
        ),
        "dgen/s_92149.png": png(4, DgenerateConfig=DGENERATE),
        "invoke/9c1.png": png(5, invokeai_metadata=json.dumps(INVOKE)),
        "swarm/0001.png": png(6, parameters=json.dumps(SWARM)),
        "ddb/images/part-000001/x1.png": png(7),
        "ddb/images/part-000001/part-000001.json": json.dumps(
            {"x1.png": {"p": "a red fox", "se": 42, "c": 7.0, "st": 50, "sa": "k_lms"}}
        ).encode(),
        "plain.png": png(8),
    }
    for name, data in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(data)
