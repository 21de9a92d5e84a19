"""Putting a diffusers pipeline together from the components that are there.

A phase has only its own components at hand. The pipeline classes take None for the others, but
read the configs of some: the VAE's for the scale between pixels and latents, the denoiser's for
its channels. A `StandIn` has a config and no weights, and serves there.
"""

from __future__ import annotations

import inspect
import warnings
from collections.abc import Mapping
from typing import Any

from storage.contract.errors import ModelUnusable

_STANDS_IN = ("vae", "unet", "transformer")
"""Components whose configs the pipelines read. The others must be None where they are absent:
the pipelines ask ``text_encoder is None`` to know whether they can encode."""

_NEVER_INSIDE = ("safety_checker", "watermarker", "watermark")
_SWITCHED_OFF = {"requires_safety_checker": False, "add_watermarker": False}
"""Checker and watermark are steps of the output, for every family alike."""


class StandIn:
    """A component's config without its weights."""

    def __init__(self, config: Mapping[str, Any], dtype: Any = None) -> None:
        """`config` is what the component's config file holds."""
        self.config = _Config(config)
        self.dtype = dtype

    def register_to_config(self, **values: Any) -> None:
        """What StableDiffusionUpscalePipeline does to a VAE with an old scaling factor."""
        self.config.update(values)

    def __getattr__(self, name: str) -> Any:
        """Models offer their config's values as attributes; QwenImage's VAE is read so."""
        if name.startswith("__") or name == "config" or name not in self.config:
            raise AttributeError(name)
        return self.config[name]


class _Config(dict[str, Any]):
    """A dictionary whose values are attributes too, as diffusers' configs are."""

    def __getattr__(self, name: str) -> Any:
        try:
            return self[name]
        except KeyError:
            raise AttributeError(name) from None


def assemble(
    pipeline_class: str, components: Mapping[str, object], configs: Mapping[str, object]
) -> Any:
    """A pipeline of the diffusers class `pipeline_class` with `components` inside.

    What the class takes and `components` does not have is None, or a `StandIn` where the
    pipelines read its config and `configs` has it (by component: a mapping, such as the contents
    of its config.json, or another pipeline's ``vae.config``). `configs` may hold the pipeline's
    own settings by name too (``force_zeros_for_empty_prompt`` of model_index.json). What the
    class does not take is left out, so that one set of components serves all kinds of tasks.

    Raises `ModelUnusable` if there is no such class.
    """
    import diffusers

    kind = getattr(diffusers, pipeline_class, None)
    if kind is None:
        raise ModelUnusable(f"diffusers has no pipeline {pipeline_class!r}")
    arguments: dict[str, Any] = {}
    for name, parameter in _parameters(kind).items():
        optional = parameter.default is not inspect.Parameter.empty
        if name in _SWITCHED_OFF:
            arguments[name] = _SWITCHED_OFF[name]
        elif name in _NEVER_INSIDE:
            arguments[name] = None
        elif components.get(name) is not None:
            arguments[name] = components[name]
        elif name in _STANDS_IN and isinstance(configs.get(name), Mapping):
            arguments[name] = StandIn(configs[name])  # type: ignore[arg-type]
        elif optional and parameter.default is not None and name in configs:
            arguments[name] = configs[name]
        elif not optional:
            arguments[name] = None
    with warnings.catch_warnings():
        # Old scheduler configs are mended on construction, and said to be old.
        warnings.simplefilter("ignore", FutureWarning)
        pipeline = kind(**arguments)
    pipeline.set_progress_bar_config(disable=True)
    return pipeline


def _parameters(kind: Any) -> dict[str, inspect.Parameter]:
    parameters = dict(inspect.signature(kind.__init__).parameters)
    parameters.pop("self", None)
    return parameters
