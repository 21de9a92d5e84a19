"""Tokenizers and text encoders of a few kilobytes, made without a network.

A tokenizer here knows letters only: what matters to the tests is that different texts are
different and of different lengths.
"""

from __future__ import annotations

import string
from typing import Any

import torch

_LETTERS = string.ascii_letters + string.digits + string.punctuation

CHAT_TEMPLATE = (
    "{% for message in messages %}<|im_start|>{{ message['role'] }}\n"
    "{% if message['content'] is string %}{{ message['content'] }}"
    "{% else %}{% for part in message['content'] %}{{ part['text'] }}{% endfor %}{% endif %}"
    "<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
"""In the manner of Qwen's, for contents that are texts or lists of parts."""


def clip_tokenizer() -> Any:
    """A CLIPTokenizer that reads 77 letters."""
    from transformers import CLIPTokenizer

    vocab = {"<|startoftext|>": 0, "<|endoftext|>": 1}
    for letter in _LETTERS:
        for token in (letter, letter + "</w>"):
            vocab.setdefault(token, len(vocab))
    return CLIPTokenizer(vocab=vocab, merges=[], model_max_length=77)


def t5_tokenizer() -> Any:
    """A T5Tokenizer that reads letters."""
    from transformers import T5Tokenizer

    vocab = [("<pad>", 0.0), ("</s>", 0.0), ("<unk>", 0.0), ("▁", -2.0)]
    vocab += [(letter, -3.0) for letter in _LETTERS]
    return T5Tokenizer(vocab=vocab, extra_ids=0, model_max_length=512)


def chat_tokenizer(*, template: str = CHAT_TEMPLATE, first: str | None = None) -> Any:
    """A tokenizer of bytes as language models have one, with a chat template.

    `first` is put before every text, as Gemma does.
    """
    from tokenizers import Tokenizer, models, pre_tokenizers, processors
    from transformers import PreTrainedTokenizerFast

    special = ["<pad>", "<|im_start|>", "<|im_end|>", "[IMG]", "[IMG_BREAK]", "[IMG_END]"]
    special += [first] if first else []
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    vocab = {token: number for number, token in enumerate([*special, *alphabet])}
    inner = Tokenizer(models.BPE(vocab=vocab, merges=[]))
    inner.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    if first:
        inner.post_processor = processors.TemplateProcessing(
            single=f"{first} $A", special_tokens=[(first, vocab[first])]
        )
    return PreTrainedTokenizerFast(
        tokenizer_object=inner,
        pad_token="<pad>",
        additional_special_tokens=special[1:],
        chat_template=template,
        padding_side="right",
        model_max_length=4096,
    )


def size(tokenizer: Any) -> int:
    """Entries an embedding needs."""
    return len(tokenizer)


def clip_encoder(width: int, tokenizer: Any, *, projected: bool) -> Any:
    """A CLIP text encoder with two layers; `projected` as SD3 and SDXL's second take it."""
    from transformers import CLIPTextConfig, CLIPTextModel, CLIPTextModelWithProjection

    config = CLIPTextConfig(
        vocab_size=size(tokenizer),
        hidden_size=width,
        intermediate_size=width * 2,
        num_hidden_layers=3,
        num_attention_heads=2,
        projection_dim=width,
        bos_token_id=0,
        eos_token_id=1,
        pad_token_id=1,
    )
    kind = CLIPTextModelWithProjection if projected else CLIPTextModel
    return seeded(lambda: kind(config))


def t5_encoder(width: int, tokenizer: Any) -> Any:
    """A T5 encoder with one layer."""
    from transformers import T5Config, T5EncoderModel

    config = T5Config(
        vocab_size=size(tokenizer),
        d_model=width,
        d_kv=8,
        d_ff=width * 2,
        num_layers=1,
        num_heads=2,
        feed_forward_proj="gated-gelu",
    )
    return seeded(lambda: T5EncoderModel(config))


def seeded(make: Any, seed: int = 0) -> Any:
    """What `make` makes, with the same random weights each time, ready to be used.

    The usual first weights hardly let the prompt through, and ones and zeros hide mistakes.
    """
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        module = make()
        for parameter in module.parameters():
            if parameter.ndim < 2:
                torch.nn.init.normal_(parameter, mean=0.5, std=0.2)
            else:
                torch.nn.init.normal_(parameter, std=parameter[0].numel() ** -0.5)
    return module.eval().requires_grad_(False)


def qwen3(width: int, tokenizer: Any, *, layers: int) -> Any:
    """A Qwen3 language model."""
    from transformers import Qwen3Config, Qwen3ForCausalLM

    config = Qwen3Config(head_dim=4, **_language(width, tokenizer, layers))
    return seeded(lambda: Qwen3ForCausalLM(config))


def gemma2(width: int, tokenizer: Any) -> Any:
    """A Gemma 2 without its head."""
    from transformers import Gemma2Config, Gemma2Model

    settings = _language(width, tokenizer, 1) | {"bos_token_id": 6, "pad_token_id": 0}
    config = Gemma2Config(head_dim=4, sliding_window=4096, **settings)
    return seeded(lambda: Gemma2Model(config))


def qwen25_vl(width: int, tokenizer: Any) -> Any:
    """A Qwen2.5-VL; its eyes are never opened."""
    from transformers import Qwen2_5_VLConfig, Qwen2_5_VLForConditionalGeneration

    text = _language(width, tokenizer, 2)
    text["rope_scaling"] = {"type": "mrope", "mrope_section": [1, 1, 2]}
    config = Qwen2_5_VLConfig(
        text_config=text,
        vision_config={
            "depth": 1,
            "hidden_size": 8,
            "intermediate_size": 8,
            "num_heads": 2,
            "out_hidden_size": width,
        },
    )
    return seeded(lambda: Qwen2_5_VLForConditionalGeneration(config))


def mistral3(width: int, tokenizer: Any, *, layers: int) -> Any:
    """A Mistral 3; its eyes are never opened."""
    from transformers import Mistral3Config, Mistral3ForConditionalGeneration

    config = Mistral3Config(
        text_config={"model_type": "mistral", "head_dim": 4} | _language(width, tokenizer, layers),
        vision_config={
            "model_type": "pixtral",
            "hidden_size": 8,
            "intermediate_size": 8,
            "num_hidden_layers": 1,
            "num_attention_heads": 2,
            "image_size": 32,
            "patch_size": 8,
        },
        image_token_index=3,
    )
    return seeded(lambda: Mistral3ForConditionalGeneration(config))


def _language(width: int, tokenizer: Any, layers: int) -> dict[str, Any]:
    return {
        "vocab_size": size(tokenizer),
        "hidden_size": width,
        "intermediate_size": width * 2,
        "num_hidden_layers": layers,
        "num_attention_heads": 2,
        "num_key_value_heads": 2,
        "max_position_embeddings": 4096,
        "bos_token_id": 1,
        "eos_token_id": 2,
        "pad_token_id": 0,
    }
