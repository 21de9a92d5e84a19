"""CLIP's tokenizer files from the published merges (CLIP's simple_tokenizer.py)."""

from __future__ import annotations

import gzip
import json
from functools import lru_cache
from importlib.resources import files
from typing import Final

_MERGES: Final = 49152 - 256 - 2  # of the file's lines, those that the models were trained with
_END_OF_WORD: Final = "</w>"
START, END = "<|startoftext|>", "<|endoftext|>"


def tokenizer_files(pad: str = END) -> dict[str, str]:
    """Names and contents of a CLIPTokenizer's files; `pad` fills prompts up ("!" in newer ones)."""
    return {
        "vocab.json": json.dumps(_vocabulary(), ensure_ascii=False),
        "merges.txt": "#version: 0.2\n" + "\n".join(_merges()) + "\n",
        "tokenizer_config.json": json.dumps(
            {
                "tokenizer_class": "CLIPTokenizer",
                "model_max_length": 77,
                "bos_token": START,
                "eos_token": END,
                "unk_token": END,
                "pad_token": pad,
            }
        ),
        "special_tokens_map.json": json.dumps(
            {"bos_token": START, "eos_token": END, "unk_token": END, "pad_token": pad}
        ),
    }


@lru_cache(maxsize=1)
def _merges() -> list[str]:
    packed = files("storage.models.clip").joinpath("bpe_simple_vocab_16e6.txt.gz").read_bytes()
    lines = gzip.decompress(packed).decode().split("\n")
    return lines[1 : _MERGES + 1]


def _vocabulary() -> dict[str, int]:
    letters = _letters()
    words = [*letters, *(letter + _END_OF_WORD for letter in letters)]
    words += ["".join(merge.split()) for merge in _merges()]
    return {word: number for number, word in enumerate([*words, START, END])}


def _letters() -> list[str]:
    """A printable letter for each byte, in CLIP's order."""
    printable = [*range(ord("!"), ord("~") + 1), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    others = [byte for byte in range(256) if byte not in printable]
    return [chr(byte) for byte in printable] + [chr(256 + n) for n in range(len(others))]
