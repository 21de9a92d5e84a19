"""Checkpoints that are one file: made into a diffusers folder once, and used from there.

Configs and tokenizers come from a folder beside the file (``model/`` beside
``model.safetensors``), else from this package, else from the hub's cache. Nothing of the file
but tensors is read.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import tempfile
import threading
from pathlib import Path
from typing import Any, Final

import structlog

from storage.contract.errors import ModelError, ModelUnusable
from storage.models.bases import write_base
from storage.models.file_card import config_folder, has_configs, original_in
from storage.models.hub import fetch_hub_configs
from storage.models.originals import Original
from workers.engine.components import first_line

log = structlog.get_logger()

CACHE: Final = "RENDERMILL_MODEL_CACHE"
"""Environment variable: where converted checkpoints are kept."""

_SHARD: Final = "4GB"

_one_at_a_time: Final = threading.Lock()  # accelerate changes torch while it builds a model


def cache_folder() -> Path:
    """Where converted checkpoints are kept."""
    named = os.environ.get(CACHE)
    return Path(named) if named else Path.home() / ".cache" / "rendermill" / "models"


def folder_of(file: Path) -> Path:
    """The diffusers folder with what `file` holds, made if need be.

    Raises `ModelUnusable`: the file is no checkpoint, is not whole, or its configs are not known.
    """
    try:
        original = original_in(file, str(file))
    except ModelError as error:
        raise ModelUnusable(error.message, hint=error.hint) from error
    folder = cache_folder() / _key(file)
    with _one_at_a_time:
        if not (folder / "model_index.json").is_file():
            log.info("converting a checkpoint", action="model_converting", file=str(file))
            _convert(file, original, folder)
    return folder


def _key(file: Path) -> str:
    """Names the file as it is now, and what its configs were: another of either is another."""
    configs = config_folder(file)
    parts = [file, *(sorted(configs.rglob("*.json")) if configs else ())]
    text = "\n".join(f"{p.resolve()} {p.stat().st_size} {p.stat().st_mtime_ns}" for p in parts)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def _convert(file: Path, original: Original, folder: Path) -> None:
    """Write `folder` at once or not at all; of several that try, one wins."""
    folder.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder.parent, prefix="making-") as making:
        base = config_folder(file) or _base(original, Path(making) / "base", file)
        pipeline = _load(file, original, base)
        made = Path(making) / "model"
        pipeline.save_pretrained(made, safe_serialization=True, max_shard_size=_SHARD)
        try:
            made.rename(folder)
        except OSError:
            if not (folder / "model_index.json").is_file():
                raise
            shutil.rmtree(made)  # another process was faster


def _base(original: Original, folder: Path, file: Path) -> Path:
    if has_configs(original):
        write_base(folder, original.name, original.pipeline)
        return folder
    try:
        return fetch_hub_configs(original.base, None)
    except ModelError as error:
        raise ModelUnusable(
            f"{file} needs the configs and tokenizers of {original.base}: {error.message}",
            hint=f"put them into a folder {file.with_suffix('')} beside the file",
        ) from error


def _load(file: Path, original: Original, base: Path) -> Any:
    import diffusers
    import torch
    from diffusers.loaders.single_file_utils import SingleFileComponentError
    from safetensors import SafetensorError

    diffusers.utils.logging.disable_progress_bar()
    kind = getattr(diffusers, original.pipeline)
    try:
        pipeline = kind.from_single_file(
            str(file),
            config=str(base),
            local_files_only=True,
            use_safetensors=True,
            torch_dtype=_dtype(file),
        )
    except torch.OutOfMemoryError:
        raise
    except (
        *(OSError, ValueError, RuntimeError, KeyError, TypeError),
        *(SafetensorError, SingleFileComponentError),
    ) as error:
        raise ModelUnusable(f"{file}: {first_line(error)}") from error
    for name, component in pipeline.components.items():
        parameters = component.parameters() if hasattr(component, "parameters") else ()
        if any(parameter.is_meta for parameter in parameters):
            raise ModelUnusable(f"{file}: some weights of its {name} are missing")
    return pipeline


def _dtype(file: Path) -> Any:
    """As most of the file is stored, so that the copy is no larger."""
    import torch
    from safetensors import safe_open

    counts: dict[str, int] = {}
    with safe_open(file, framework="pt") as opened:
        for name in opened.keys():  # noqa: SIM118 - not a dictionary
            kind = opened.get_slice(name).get_dtype()
            counts[kind] = counts.get(kind, 0) + 1
    known = {"F16": torch.float16, "BF16": torch.bfloat16}
    return known.get(max(counts, key=lambda kind: counts[kind]), torch.float32)
