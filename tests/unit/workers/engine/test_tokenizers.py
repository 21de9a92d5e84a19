"""Tokenizers as models bring them."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from workers.engine.components import load_weightless


def test_a_tokenizer_that_is_only_a_sentencepiece_model_is_read(tmp_path: Path) -> None:
    """PixArt's T5 comes so: reading it takes sentencepiece and protobuf."""
    pieces = pytest.importorskip("sentencepiece")
    (tmp_path / "texts.txt").write_text(
        "\n".join(f"a red thing number {number} on a table" for number in range(200))
    )
    folder = tmp_path / "tokenizer"
    folder.mkdir()
    pieces.SentencePieceTrainer.train(
        input=str(tmp_path / "texts.txt"),
        model_prefix=str(folder / "spiece"),
        vocab_size=60,
        hard_vocab_limit=False,
        pad_id=0,
        eos_id=1,
        unk_id=2,
        bos_id=-1,
        minloglevel=2,
    )
    (folder / "tokenizer_config.json").write_text(json.dumps({"tokenizer_class": "T5Tokenizer"}))
    index = {"_class_name": "PixArtSigmaPipeline", "tokenizer": ["transformers", "T5Tokenizer"]}
    (tmp_path / "model_index.json").write_text(json.dumps(index))

    tokenizer = load_weightless(tmp_path)["tokenizer"]

    own = pieces.SentencePieceProcessor(model_file=str(folder / "spiece.model"))
    assert tokenizer("a red thing").input_ids == [*own.encode("a red thing"), 1]
