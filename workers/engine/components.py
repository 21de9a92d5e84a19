"""Loading one component of a model, strictly: safetensors only, every weight accounted for.

The class is the one that model_index.json names, or the component's own config where it stands
alone. Only classes of diffusers and transformers are taken: any other would be code that came
with the model.
"""

from __future__ import annotations

import inspect
import json
import os
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any, Final

from storage.contract.errors import ModelError, ModelUnusable
from storage.models.weights import stamp_of, variant_of, weight_files

os.environ.setdefault("DIFFUSERS_DISABLE_REMOTE_CODE", "true")  # diffusers reads it on import

_LIBRARIES: Final = ("diffusers", "transformers")
_FORMER: Final = "FeatureExtractor"
"""What Stable Diffusion's models call a CLIPImageProcessor or DPTImageProcessor."""

_WHOLE: Final = "tokenizer.json"
"""All of a tokenizer in one file."""

_UNUSED: Final = ("safety_checker", "watermarker")
"""Checker and watermark are steps of the output, whatever the model brings."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Source:
    """Where a component with weights lies, and as what it is loaded."""

    folder: Path
    class_name: str  #: of diffusers or transformers
    library: str
    dtype: str

    @property
    def kind(self) -> Any:
        """The class."""
        return find_class(self.library, self.class_name, self.folder)

    @property
    def stamp(self) -> str:
        """Of its weight files and its config: another one after any of them was replaced."""
        config = [file] if (file := self.folder / "config.json").is_file() else []
        return stamp_of([*config, *weight_files(self.folder)])

    @property
    def stored_bytes(self) -> int:
        """What loading it takes of host memory, nearly."""
        return sum(file.stat().st_size for file in weight_files(self.folder))


def read_index(folder: Path) -> dict[str, Any]:
    """What model_index.json holds."""
    return _read_json(folder / "model_index.json")


def named_classes(index: Mapping[str, Any]) -> dict[str, tuple[str, str]]:
    """Library and class of each component that model_index.json names."""
    named = {
        name: (str(value[0]), str(value[1]))
        for name, value in index.items()
        if isinstance(value, list) and len(value) == 2 and value[0] and value[1]
    }
    return {name: value for name, value in named.items() if name not in _UNUSED}


def source_in(folder: Path, name: str, dtype: str) -> Source:
    """Component `name` of the pipeline in `folder`."""
    found = named_classes(read_index(folder)).get(name)
    if found is None:
        raise ModelUnusable(f"{folder / 'model_index.json'} names no {name}")
    return Source(folder=folder / name, library=found[0], class_name=found[1], dtype=dtype)


def source_alone(folder: Path, dtype: str) -> Source:
    """A model that stands alone, such as a ControlNet, by its own config."""
    config = _read_json(folder / "config.json")
    if name := config.get("_class_name"):
        return Source(folder=folder, library="diffusers", class_name=str(name), dtype=dtype)
    names = config.get("architectures") or [""]
    return Source(folder=folder, library="transformers", class_name=str(names[0]), dtype=dtype)


def find_class(library: str, name: str, where: Path) -> Any:
    """A class of diffusers or transformers; anything else is refused."""
    if library in _LIBRARIES:
        import importlib

        name = name.replace(_FORMER, "ImageProcessor")
        found = getattr(importlib.import_module(library), name, None)
        if inspect.isclass(found):
            return found
    raise ModelUnusable(
        f"{where} names the class {library}.{name}, which neither diffusers nor transformers has",
        hint="code that comes with a model is never run",
    )


def load_component(source: Source) -> Any:
    """The component on the host, ready to compute; `ModelUnusable` names the file at fault."""
    import torch

    _quiet()
    _check_files(source.folder)
    kind = source.kind
    try:
        component, report = kind.from_pretrained(
            source.folder,
            dtype=getattr(torch, source.dtype),
            use_safetensors=True,
            variant=variant_of(source.folder),
            output_loading_info=True,
            local_files_only=True,
        )
    except torch.OutOfMemoryError:
        raise
    except (OSError, ValueError, RuntimeError, KeyError, TypeError, AttributeError) as error:
        # Of another shape diffusers says how to load it all the same, at length.
        said = first_line(error).partition(" If you want to instead")[0]
        raise ModelUnusable(f"{source.folder}: {said}") from error
    _check_report(source.folder, component, report)
    component = component.eval().requires_grad_(False)
    if source.library == "diffusers" and _has_convolutions(component):
        # Convolutions on channels-last data need no reordering, on CPUs and on GPUs.
        component = component.to(memory_format=torch.channels_last)
    return component


def load_weightless(folder: Path) -> dict[str, Any]:
    """Tokenizers, processors and the scheduler of a pipeline, by their own classes."""
    loaded = {}
    for name, (library, class_name) in named_classes(read_index(folder)).items():
        if _has_weights(class_name):
            continue
        if name.startswith("tokenizer") and class_name.endswith("Processor"):
            # FLUX.2 has one that reads pictures too, for which it needs torchvision.
            class_name = "AutoTokenizer"  # noqa: PLW2901
        kind = find_class(library, class_name, folder / "model_index.json")
        try:
            loaded[name] = _weightless(kind, folder / name)
        except (
            *(OSError, ValueError, KeyError, TypeError, AttributeError),
            ImportError,  # a library that this kind of tokenizer needs
        ) as error:
            raise ModelUnusable(f"{folder / name}: {first_line(error)}") from error
    return loaded


def config_of(source: Source) -> Mapping[str, Any]:
    """A diffusers component's config, defaults of its class filled in, without its weights."""
    try:
        return _config_of(source, stamp_of([source.folder / "config.json"]))
    except OSError:
        return _config_of(source, "")  # says what is missing


@lru_cache(maxsize=64)
def _config_of(source: Source, _stamp: str) -> Mapping[str, Any]:
    # The stamp is in the key, so a config that was replaced is read again.
    given = _read_json(source.folder / "config.json")
    parameters = inspect.signature(source.kind.__init__).parameters.values()
    defaults = {p.name: p.default for p in parameters if p.default is not inspect.Parameter.empty}
    return {**defaults, **given}


def first_line(error: BaseException) -> str:
    """What an error says, shortly."""
    text = str(error).strip()
    return text.splitlines()[0] if text else type(error).__name__


def _weightless(kind: Any, folder: Path) -> Any:
    if kind.__module__.startswith("diffusers."):
        return kind.from_config(kind.load_config(folder))
    loaded = kind.from_pretrained(folder, local_files_only=True)
    _check_vocabulary(loaded, folder)
    return loaded


def _check_vocabulary(loaded: Any, folder: Path) -> None:
    """Without its files a tokenizer loads all the same, and reads every text as nothing."""
    named = set(getattr(loaded, "vocab_files_names", {}).values())
    missing = sorted(name for name in named - {_WHOLE} if not (folder / name).is_file())
    if missing and not (folder / _WHOLE).is_file():
        raise ModelUnusable(f"{folder}: the tokenizer's {', '.join(missing)} is missing")


def _has_weights(class_name: str) -> bool:
    readers = ("Tokenizer", "TokenizerFast", "TokenizersBackend")
    lookers = ("Processor", "ProcessorFast", "ProcessorPil", "Extractor")
    ends = (*readers, *lookers, "Scheduler")
    return not class_name.endswith(ends)


def _has_convolutions(component: Any) -> bool:
    """Of pictures: torch cannot lay out a module that has some of videos too."""
    ranks = {parameter.dim() for parameter in component.parameters()}
    return 4 in ranks and 5 not in ranks


def _check_files(folder: Path) -> None:
    """Each weight file must be whole; diffusers' own message does not name it."""
    from safetensors import SafetensorError, safe_open

    files = weight_files(folder)
    if not files:
        raise ModelUnusable(
            f"{folder} has no safetensors weights",
            hint="pickled weights can run code and are refused; convert them",
        )
    for file in files:
        try:
            with safe_open(file, framework="pt") as opened:
                opened.keys()
        except (SafetensorError, OSError) as error:
            raise ModelUnusable(
                f"{file} is not a whole safetensors file: {first_line(error)}"
            ) from error


def _check_report(folder: Path, component: Any, report: Mapping[str, Any]) -> None:
    missing = sorted(report.get("missing_keys", ()))
    wrong = sorted(str(key) for key in report.get("mismatched_keys", ()))
    if missing or wrong:
        raise ModelUnusable(
            f"{folder}: the weights do not belong to this model:"
            f" {len(missing)} tensors are missing, {len(wrong)} have another shape"
            f" (first: {(missing + wrong)[0]})"
        )
    if any(parameter.is_meta for parameter in component.parameters()):
        raise ModelUnusable(f"{folder}: some weights were not loaded")


def _read_json(path: Path) -> dict[str, Any]:
    try:
        found = json.loads(path.read_bytes())
    except FileNotFoundError as error:
        raise ModelUnusable(f"{path} is missing") from error
    except (OSError, ValueError, RecursionError) as error:
        raise ModelUnusable(f"{path} cannot be read: {first_line(error)}") from error
    if not isinstance(found, dict):
        raise ModelUnusable(f"{path} holds no settings")
    return found


def _quiet() -> None:
    import diffusers
    import transformers

    transformers.utils.logging.disable_progress_bar()
    diffusers.utils.logging.disable_progress_bar()


__all__ = [
    "ModelError",
    "Source",
    "config_of",
    "first_line",
    "load_component",
    "load_weightless",
    "source_alone",
    "source_in",
]
