"""Tiny embedding models with random weights: a text encoder and a CLIP, as their folders."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

WORDS = ("a", "red", "blue", "fox", "star", "lighthouse", "at", "dusk")


def save_tokenizer(folder: Path) -> Any:
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    known = {word: number for number, word in enumerate(("[PAD]", "[UNK]", "[EOS]", *WORDS))}
    made = Tokenizer(models.WordLevel(known, unk_token="[UNK]"))
    made.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=made, pad_token="[PAD]", unk_token="[UNK]", eos_token="[EOS]"
    )
    tokenizer.model_max_length = 16
    tokenizer.save_pretrained(folder)
    return tokenizer


def save_text_model(folder: Path, *, first: bool = False) -> None:
    """A BERT; with `first`, one whose first state stands for the whole."""
    import torch
    from transformers import BertConfig, BertModel

    save_tokenizer(folder)
    torch.manual_seed(0)
    config = BertConfig(
        vocab_size=16,
        hidden_size=16,
        num_hidden_layers=1,
        num_attention_heads=2,
        intermediate_size=16,
        max_position_embeddings=16,
    )
    BertModel(config).save_pretrained(folder)
    if first:
        (folder / "1_Pooling").mkdir()
        pooling = json.dumps({"pooling_mode_cls_token": True})
        (folder / "1_Pooling" / "config.json").write_text(pooling)


def save_clip(folder: Path) -> None:
    import torch
    from transformers import CLIPConfig, CLIPModel
    from transformers.models.clip.image_processing_pil_clip import CLIPImageProcessorPil

    save_tokenizer(folder)
    torch.manual_seed(0)
    small = {
        "hidden_size": 16,
        "intermediate_size": 16,
        "num_hidden_layers": 1,
        "num_attention_heads": 2,
        "projection_dim": 8,
    }
    text = {"vocab_size": 16, "max_position_embeddings": 16, "eos_token_id": 2}
    vision = {"image_size": 32, "patch_size": 8}
    config = CLIPConfig(text_config=small | text, vision_config=small | vision, projection_dim=8)
    CLIPModel(config).save_pretrained(folder)
    size = {"height": 32, "width": 32}
    CLIPImageProcessorPil(size={"shortest_edge": 32}, crop_size=size).save_pretrained(folder)
