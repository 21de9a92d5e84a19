"""Models that turn prompts and pictures into vectors of length 1, by which they are compared.

``wordllama`` ships its vectors of words in its package and needs neither torch nor network.
Anything else is a folder or hub id of transformers: a text encoder, whose last states are
averaged over the words (or whose first one is taken, where its files say so), or a CLIP model
with its two towers. Weights are loaded from safetensors only, and no remote code runs.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Protocol, TypeVar

from storage.contract.errors import ModelUnusable, SettingError

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray
    from PIL import Image

    Vectors = NDArray[np.float32]

WORDLLAMA: Final = "wordllama"
LONGEST: Final = 512
"""Tokens of a prompt that are read, where the model itself sets no lower bound."""

T = TypeVar("T")

_EXTRA: Final = "install it: pip install 'rendermill[vectors]'"


class TextEmbedder(Protocol):
    """Turns texts into vectors."""

    def texts(self, texts: Sequence[str]) -> Vectors:
        """Vectors of length 1, or 0 for a text without any known word: (texts, dimensions)."""
        ...


class PictureEmbedder(TextEmbedder, Protocol):
    """Turns pictures, and texts about pictures, into vectors of one space."""

    def pictures(self, pictures: Sequence[Image.Image]) -> Vectors:
        """Vectors of length 1: (pictures, dimensions)."""
        ...


def open_text_embedder(model: str) -> TextEmbedder:
    """Load a model for prompts; `ModelUnusable` says what is wrong with it."""
    kind: Callable[[str], TextEmbedder] = _WordLlama if model == WORDLLAMA else _TextModel
    return _loaded(model, kind)


def open_picture_embedder(model: str) -> PictureEmbedder:
    """Load a CLIP model; `ModelUnusable` says what is wrong with it."""
    return _loaded(model, _Clip)


def _loaded(model: str, kind: Callable[[str], T]) -> T:
    try:
        return kind(model)
    except ImportError as error:
        raise SettingError(
            f"embedding with {model} needs the package {error.name}", hint=_EXTRA
        ) from error
    except (OSError, ValueError, RuntimeError, KeyError) as error:
        said = str(error).strip().splitlines()
        raise ModelUnusable(
            f"embedding model {model}: {said[0] if said else type(error).__name__}"
        ) from error


class _WordLlama:
    def __init__(self, _model: str) -> None:
        import wordllama

        # Named its own folder, it finds what its package holds, and asks no network.
        place = Path(wordllama.__file__).parent
        self._model = wordllama.WordLlama.load(cache_dir=place, disable_download=True)

    def texts(self, texts: Sequence[str]) -> Vectors:
        return _unit(self._model.embed(list(texts)))


class _TextModel:
    def __init__(self, model: str) -> None:
        from transformers import AutoModel, AutoTokenizer

        self._tokenizer = AutoTokenizer.from_pretrained(model, trust_remote_code=False)
        self._model = AutoModel.from_pretrained(
            model, use_safetensors=True, trust_remote_code=False
        ).eval()
        known = getattr(self._model.config, "max_position_embeddings", None) or LONGEST
        self._longest = min(LONGEST, known, self._tokenizer.model_max_length)
        self._takes_first = _takes_first(model)

    def texts(self, texts: Sequence[str]) -> Vectors:
        import torch

        tokens = self._tokenizer(
            list(texts),
            padding=True,
            truncation=True,
            max_length=self._longest,
            return_tensors="pt",
        )
        with torch.inference_mode():
            states = self._model(**tokens).last_hidden_state
        if self._takes_first:
            return _unit(states[:, 0].float().numpy())
        mask = tokens["attention_mask"].unsqueeze(-1)
        summed = (states * mask).sum(1) / mask.sum(1).clamp(min=1)
        return _unit(summed.float().numpy())


class _Clip:
    def __init__(self, model: str) -> None:
        from transformers import AutoTokenizer, CLIPModel
        from transformers.models.clip.image_processing_pil_clip import CLIPImageProcessorPil

        self._model = CLIPModel.from_pretrained(model, use_safetensors=True).eval()
        self._processor = CLIPImageProcessorPil.from_pretrained(model)
        self._tokenizer = AutoTokenizer.from_pretrained(model, trust_remote_code=False)

    def texts(self, texts: Sequence[str]) -> Vectors:
        import torch

        tokens = self._tokenizer(
            list(texts),
            padding=True,
            truncation=True,
            max_length=self._model.config.text_config.max_position_embeddings,
            return_tensors="pt",
        )
        with torch.inference_mode():
            pooled = self._model.text_model(
                input_ids=tokens["input_ids"], attention_mask=tokens["attention_mask"]
            ).pooler_output
            return _unit(self._model.text_projection(pooled).float().numpy())

    def pictures(self, pictures: Sequence[Image.Image]) -> Vectors:
        import torch

        pixels = self._processor(list(pictures), return_tensors="pt").pixel_values
        with torch.inference_mode():
            pooled = self._model.vision_model(pixel_values=pixels).pooler_output
            return _unit(self._model.visual_projection(pooled).float().numpy())


def _unit(vectors: Any) -> Vectors:
    import numpy as np

    whole: Vectors = np.nan_to_num(np.asarray(vectors, dtype=np.float32))
    lengths = np.linalg.norm(whole, axis=1, keepdims=True)
    lengths[lengths == 0] = 1
    scaled: Vectors = whole / lengths
    return scaled


def _takes_first(model: str) -> bool:
    """Whether a sentence-transformers folder pools by the first state."""
    file = Path(model) / "1_Pooling" / "config.json"
    if not file.is_file():
        file_path = _from_hub(model)
        if file_path is None:
            return False
        file = file_path
    return bool(json.loads(file.read_text()).get("pooling_mode_cls_token"))


def _from_hub(model: str) -> Path | None:
    if Path(model).exists():
        return None
    from transformers.utils import cached_file

    found = cached_file(
        model,
        "1_Pooling/config.json",
        _raise_exceptions_for_missing_entries=False,
        _raise_exceptions_for_connection_errors=False,
    )
    return Path(found) if found else None
