"""LoRAs with random weights for transformers."""

from __future__ import annotations

from pathlib import Path

ATTENTION = ("to_q", "to_k", "to_v")


def transformer_lora(file: Path, model: Path, *, seed: int = 8, rank: int = 4) -> Path:
    """A LoRA for the transformer of `model`, which does change its pictures."""
    import diffusers
    import torch
    from peft import LoraConfig
    from peft.utils import get_peft_model_state_dict
    from safetensors.torch import save_file

    loaded = diffusers.DiffusionPipeline.from_pretrained(model, use_safetensors=True).transformer
    torch.manual_seed(seed)
    loaded.add_adapter(
        LoraConfig(r=rank, lora_alpha=rank, target_modules=list(ATTENTION), init_lora_weights=False)
    )
    found = get_peft_model_state_dict(loaded)
    file.parent.mkdir(parents=True, exist_ok=True)
    save_file({f"transformer.{key}": value.contiguous() for key, value in found.items()}, file)
    return file
