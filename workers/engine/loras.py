"""LoRAs: laid over one component at a time, and lifted without a trace.

A file holds parts for the denoiser and for text encoders. In the phased modes the components are
never together, so each takes its own part: diffusers' conversion of the whole file (its own
format, kohya's, peft's), then the keys under the component's name. A LoRA made for another family
is refused, by the names and shapes of what it would change.
"""

from __future__ import annotations

import inspect
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any, Final

from storage.contract.errors import ModelError, ModelUnusable
from storage.contract.families.record import Family
from storage.contract.items import Lora
from storage.models.files import locate_file
from storage.models.weights import file_hash
from workers.engine.families.base import Tensor

_LAYERS_PER_BLOCK: Final = 2
"""Of SDXL's UNet. Only names of the UNet's blocks depend on it, which text encoders ignore."""


def locate_lora(lora: Lora) -> Path:
    """Its file on this machine, fetched if need be; `ModelUnusable` says what is missing."""
    try:
        return locate_file(lora.id, revision=lora.revision, weight_name=lora.weight_name)
    except ModelError as error:
        raise ModelUnusable(error.message, hint=error.hint) from error


def hash_lora(lora: Lora) -> str:
    """SHA-256 of its file, as model sites list it."""
    return file_hash(locate_lora(lora))


def lay(components: Mapping[str, Any], loras: Sequence[Lora], family: Family) -> None:
    """Lay `loras` over components of `family` (by name), each with its weight.

    They must have been lifted before. Parts of a file for other components are left for those.
    Raises `ModelUnusable` if a LoRA does not belong to the family; then none lies.
    """
    try:
        for name, component in components.items():
            laid = [
                (f"lora_{place}", lora.weight)
                for place, lora in enumerate(loras)
                if _lay_one(name, component, lora, f"lora_{place}", family)
            ]
            if laid:
                _weigh(name, component, laid, family)
                component.eval().requires_grad_(False)
    except BaseException:
        lift(components)
        raise


def lift(components: Mapping[str, Any]) -> None:
    """Take all LoRAs off: the component is what it was, to the bit."""
    from diffusers.utils.peft_utils import recurse_remove_peft_layers

    for component in components.values():
        if getattr(component, "peft_config", None):
            recurse_remove_peft_layers(component)
            del component.peft_config
            component._hf_peft_config_loaded = False


@dataclass(frozen=True, slots=True)
class _Read:
    """A file as diffusers converts it."""

    weights: dict[str, Tensor]
    alphas: dict[str, float] | None
    metadata: dict[str, Any] | None

    def of(self, name: str) -> dict[str, Tensor]:
        """What is for one component, without its name."""
        start = name + "."
        return {k.removeprefix(start): v for k, v in self.weights.items() if k.startswith(start)}


def _lay_one(name: str, component: Any, lora: Lora, adapter: str, family: Family) -> bool:
    """Whether the LoRA has a part for this component; if so it lies, with a weight of 1."""
    file = locate_lora(lora)
    read = _read(file, component if name == family.denoiser else None, family)
    _check_family(file, read, family)
    part = read.of(name)
    if not part:
        return False
    is_denoiser = name == family.denoiser
    _check_shapes(file, component, _in_peft_names(part, component, is_denoiser), family)
    options = {
        "network_alphas": read.alphas,
        "metadata": read.metadata,
        "adapter_name": adapter,
    }
    with _translated(file), warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # peft's, of a second adapter
        if is_denoiser:
            component.load_lora_adapter(read.weights, prefix=name, **options)
        else:
            from diffusers.loaders.lora_base import _load_lora_into_text_encoder

            _load_lora_into_text_encoder(
                read.weights, text_encoder=component, prefix=name, **options
            )
    return True


def _weigh(name: str, component: Any, laid: list[tuple[str, float]], family: Family) -> None:
    adapters, weights = [one for one, _ in laid], [weight for _, weight in laid]
    if name == family.denoiser:
        component.set_adapters(adapters, weights)
    else:
        from diffusers.loaders.lora_base import set_adapters_for_text_encoder

        set_adapters_for_text_encoder(adapters, component, weights)


def _read(file: Path, denoiser: Any, family: Family) -> _Read:
    """The file in diffusers' names, by the family's own conversion."""
    import diffusers

    convert = getattr(getattr(diffusers, family.pipeline), "lora_state_dict", None)
    if convert is None:
        raise ModelUnusable(f"no LoRA can be laid over {family.title}")
    options: dict[str, Any] = {}
    if family.denoiser == "unet":
        plain = SimpleNamespace(layers_per_block=_LAYERS_PER_BLOCK)
        options["unet_config"] = plain if denoiser is None else denoiser.config
    if "return_alphas" in inspect.signature(convert).parameters:
        options["return_alphas"] = True
    with _translated(file):
        found = convert(
            str(file.parent),
            weight_name=file.name,
            use_safetensors=True,
            local_files_only=True,
            return_lora_metadata=True,
            **options,
        )
    alphas = found[1] if len(found) == 3 else None
    return _Read(found[0], alphas, found[-1] or None)


def _check_family(file: Path, read: _Read, family: Family) -> None:
    known = {family.denoiser, *(encoder for _, encoder in family.text_encoders)}
    named = {key.partition(".")[0] for key in read.weights}
    if strange := sorted(named - known):
        raise ModelUnusable(
            f"{file} is no LoRA for {family.title}: it changes {', '.join(strange[:3])}, of"
            f" which there is none",
        )
    if not any("lora" in key or "lokr" in key for key in read.weights):
        raise ModelUnusable(f"{file} is no LoRA: no tensor is named for one")


def _check_shapes(file: Path, component: Any, part: dict[str, Tensor], family: Family) -> None:
    modules = dict(component.named_modules())
    for key, value in part.items():
        target, found, _ = key.partition(".lora_")
        if not found or not key.endswith(("lora_A.weight", "lora_B.weight")):
            continue
        weight = getattr(modules.get(target), "weight", None)
        side = 1 if key.endswith("lora_A.weight") else 0
        if weight is None:
            said = f"it changes {target}, of which there is none"
        elif weight.shape[side] != value.shape[side]:
            said = f"{target} is {tuple(weight.shape)}, and its tensor {tuple(value.shape)}"
        else:
            continue
        raise ModelUnusable(
            f"{file} is no LoRA for this {family.title} model: {said}",
            hint="a LoRA goes with the family and version it was trained on",
        )


def _in_peft_names(part: dict[str, Tensor], component: Any, is_denoiser: bool) -> dict[str, Tensor]:
    from diffusers.utils import (
        convert_state_dict_to_diffusers,
        convert_state_dict_to_peft,
        convert_unet_state_dict_to_peft,
    )

    if not is_denoiser:
        converted = convert_state_dict_to_peft(convert_state_dict_to_diffusers(dict(part)))
        if hasattr(component, "text_model"):
            return dict(converted)
        # CLIPTextModel of transformers 5 has no inner one, as diffusers' own loading knows.
        return {key.removeprefix("text_model."): value for key, value in converted.items()}
    if any("lora_A" in key or ".lokr_" in key for key in part):
        return part
    return dict(convert_unet_state_dict_to_peft(dict(part)))


@contextmanager
def _translated(file: Path) -> Iterator[None]:
    """What the libraries raise over a file, as `ModelUnusable` that names it."""
    from safetensors import SafetensorError
    from torch import OutOfMemoryError

    try:
        yield
    except OutOfMemoryError:
        raise
    except (OSError, ValueError, RuntimeError, KeyError, TypeError, SafetensorError) as error:
        lines = str(error).strip().splitlines() or [type(error).__name__]
        raise ModelUnusable(f"{file} cannot be used as a LoRA: {lines[0]}") from error
