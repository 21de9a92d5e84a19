"""Building the tokenizer: a small byte-level CLIP vocabulary.

Any text can be written in it, since every byte has a token; the words of the scenes and common
words of other prompts are single tokens, because they are what the vocabulary is learnt from.
"""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from typing import Final

import numpy as np
from tokenizers import Tokenizer, models, pre_tokenizers, trainers
from transformers import CLIPTokenizer

from workers.starter.captions import caption
from workers.starter.scenes import sample_scene

VOCABULARY_SIZE: Final = 2048
MAXIMUM_LENGTH: Final = 77
START: Final = "<|startoftext|>"
END: Final = "<|endoftext|>"
WORD_END: Final = "</w>"

COMMON_WORDS: Final = Path(__file__).with_name("common_words.txt")
SEED: Final = 3
CAPTION_COUNT: Final = 2000
CAPTION_WORD_WEIGHT: Final = 1000


def _word_counts() -> Counter[str]:
    """Return how often each word counts; scene words far above the rest, so they stay whole."""
    counts = Counter(COMMON_WORDS.read_text(encoding="utf-8").split())
    rng = np.random.default_rng(SEED)
    for _ in range(CAPTION_COUNT):
        text = caption(sample_scene(rng), rng).lower().replace(",", " ")
        for word in set(text.split()):
            counts[word] = CAPTION_WORD_WEIGHT
    return counts


def _learn_merges() -> list[tuple[str, str]]:
    """Return the byte pairs to merge, most useful first."""
    learner = Tokenizer(models.BPE(end_of_word_suffix=WORD_END))
    learner.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    trainer = trainers.BpeTrainer(
        vocab_size=10 * VOCABULARY_SIZE,
        end_of_word_suffix=WORD_END,
        show_progress=False,
    )
    # Sorted, because equally frequent pairs would otherwise follow the order of a set.
    counts = sorted(_word_counts().items())
    learner.train_from_iterator((word for word, n in counts for _ in range(n)), trainer)
    merges = json.loads(learner.to_str())["model"]["merges"]
    return [(left, right) for left, right in merges]


def _vocabulary(merges: list[tuple[str, str]]) -> tuple[dict[str, int], list[tuple[str, str]]]:
    """Return token ids and the merges that fit: bytes, bytes ending a word, merges, two marks."""
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    tokens = [*alphabet, *(byte + WORD_END for byte in alphabet)]
    known = set(tokens)
    kept: list[tuple[str, str]] = []
    for left, right in merges:
        if len(tokens) == VOCABULARY_SIZE - 2:
            break
        kept.append((left, right))
        if left + right not in known:
            known.add(left + right)
            tokens.append(left + right)
    tokens += [START, END]
    return {token: index for index, token in enumerate(tokens)}, kept


def build_tokenizer() -> CLIPTokenizer:
    """Return the tokenizer; ids below 512 are bytes, the last two are the start and end marks."""
    vocabulary, merges = _vocabulary(_learn_merges())
    return CLIPTokenizer(vocab=vocabulary, merges=merges, model_max_length=MAXIMUM_LENGTH)


def save_tokenizer(tokenizer: CLIPTokenizer, folder: Path) -> None:
    """Write the tokenizer files, the two classic ones (vocab.json, merges.txt) included."""
    tokenizer.save_pretrained(str(folder))
    model = json.loads(tokenizer.backend_tokenizer.to_str())["model"]
    vocabulary = json.dumps(model["vocab"], ensure_ascii=False)
    (folder / "vocab.json").write_text(vocabulary + "\n", encoding="utf-8")
    lines = ["#version: 0.2", *(" ".join(pair) for pair in model["merges"])]
    (folder / "merges.txt").write_text("\n".join(lines) + "\n", encoding="utf-8")
