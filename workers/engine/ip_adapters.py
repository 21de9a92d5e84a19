"""IP-Adapters: a picture as a second prompt.

An adapter has two parts: an image encoder, which the condition phase uses and drops, and weights
that go into the UNet's attention and the projection in front of it. Safetensors only.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import lru_cache
from pathlib import Path
from typing import Any

from storage.contract.errors import ModelError, ModelUnusable
from storage.contract.items import IpAdapter
from storage.models.files import locate_file
from storage.models.hub import fetch_hub_files
from storage.models.weights import file_hash, stamp_of
from workers.engine.families.base import Bench, Picture, Row, Tensor

_PARTS = ("image_proj", "ip_adapter")


def locate_ip_adapter(adapter: IpAdapter) -> Path:
    """The file of its weights on this machine, fetched if need be; else `ModelUnusable`."""
    try:
        return locate_file(
            adapter.model,
            revision=adapter.revision,
            weight_name=adapter.weight_name,
            subfolder=adapter.subfolder,
        )
    except ModelError as error:
        raise ModelUnusable(error.message, hint=error.hint) from error


def image_encoder_folder(adapter: IpAdapter) -> Path:
    """Where its image encoder lies: beside the weights, as on the hub.

    An adapter for SDXL that was trained with SD's image encoder (``..._vit-h``) finds it in
    ``models``, where the repository keeps that one.
    """
    file = locate_ip_adapter(adapter)
    place = "models" if "vit-h" in file.stem else adapter.subfolder.strip("/")
    found = file.parent / "image_encoder"
    if not Path(adapter.model).expanduser().exists():
        wanted = [f"{place}/image_encoder/*.{end}" for end in ("json", "safetensors")]
        try:
            folder = fetch_hub_files(adapter.model, adapter.revision, wanted)
        except ModelError as error:
            raise ModelUnusable(error.message, hint=error.hint) from error
        found = folder / place / "image_encoder"
    elif "vit-h" in file.stem and (shared := file.parent.parent / place / "image_encoder").is_dir():
        found = shared
    if not found.is_dir():
        raise ModelUnusable(f"{file} has no image encoder: there is no {found}")
    return found


@lru_cache(maxsize=4)
def reads_hidden_states(file: Path) -> bool:
    """Whether it looks at the encoder's last states but one, or at the summary of the picture.

    diffusers decides by the class of the projection, which follows from its weights
    (``_convert_ip_adapter_image_proj_to_diffusers``): one linear layer takes the summary.
    Raises `ModelUnusable` for what looks at faces, which are not found here.
    """
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(file, framework="pt") as opened:
            names = {key.removeprefix("image_proj.") for key in opened.keys()}  # noqa: SIM118
    except (SafetensorError, OSError) as error:
        raise ModelUnusable(f"{file} is not a whole safetensors file: {error}") from error
    if "proj.weight" in names:
        return False
    faces = "perceiver_resampler.proj_in.weight" in names or (
        "norm.weight" in names and "proj.3.weight" not in names
    )
    if faces:
        raise ModelUnusable(
            f"{file} is a FaceID adapter: it takes faces that another program found, not pictures",
            hint="use one of the ip-adapter, -plus or -full files",
        )
    return True


def weights_hash(file: Path) -> str:
    """SHA-256 of the file."""
    return file_hash(file)


def attach(unet: Any, adapter: IpAdapter | None) -> None:
    """Put the adapter's weights into `unet`, or take out those that are in; scale them.

    Idempotent: the weights stay while the same file is asked for, and is not replaced.
    """
    file = None if adapter is None else locate_ip_adapter(adapter)
    wanted = None if file is None else (file, stamp_of([file]))
    if getattr(unet, "_rendermill_ip_adapter", None) != wanted:
        _detach(unet)
        if file is not None:
            _load(unet, file)
            unet._rendermill_ip_adapter = wanted
    if adapter is not None:
        for processor in _processors(unet):
            processor.scale = [adapter.scale] * len(processor.scale)


def _load(unet: Any, file: Path) -> None:
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        weights = load_file(file)
    except (SafetensorError, OSError) as error:
        raise ModelUnusable(f"{file} is not a whole safetensors file: {error}") from error
    split: dict[str, dict[str, Tensor]] = {part: {} for part in _PARTS}
    for key, value in weights.items():
        part, _, rest = key.partition(".")
        if part in split:
            split[part][rest] = value
    if not all(split.values()):
        raise ModelUnusable(f"{file} is not an IP-Adapter: it has no image_proj or no ip_adapter")
    before = unet.encoder_hid_proj, unet.config.get("encoder_hid_dim_type"), unet.attn_processors
    try:
        unet._load_ip_adapter_weights([split], low_cpu_mem_usage=False)
    except (RuntimeError, KeyError, ValueError) as error:
        _restore(unet, before)
        said = str(error).splitlines()[0]
        raise ModelUnusable(f"{file} does not fit this model's UNet: {said}") from error
    unet.eval().requires_grad_(False)
    unet._rendermill_before_ip_adapter = before


def _detach(unet: Any) -> None:
    if getattr(unet, "_rendermill_ip_adapter", None) is not None:
        _restore(unet, unet._rendermill_before_ip_adapter)
        unet._rendermill_ip_adapter = None


def _restore(unet: Any, before: tuple[Any, Any, Any]) -> None:
    unet.encoder_hid_proj = before[0]
    unet.register_to_config(encoder_hid_dim_type=before[1])
    unet.set_attn_processor(dict(before[2]))


def _processors(unet: Any) -> list[Any]:
    return [p for p in unet.attn_processors.values() if hasattr(p, "to_k_ip")]


def look(bench: Bench, picture: Picture) -> Row:
    """What the image encoder makes of a picture, and of none (for guidance); on the host."""
    adapter = bench.spec.ip_adapter
    if adapter is None:
        return {}
    hidden = reads_hidden_states(locate_ip_adapter(adapter))
    values = _processor(bench.pipeline)(picture, return_tensors="pt").pixel_values
    seen, unseen = bench.pipeline.encode_image(values, bench.device, 1, hidden)
    return {"look": seen.cpu(), "no_look": unseen.cpu()}


def _processor(pipeline: Any) -> Any:
    """The model's own, or (SDXL's has none) the one that diffusers makes then."""
    from transformers import CLIPImageProcessor

    own = getattr(pipeline, "feature_extractor", None)
    side = pipeline.image_encoder.config.image_size
    return own or CLIPImageProcessor(size=side, crop_size=side)


class PicturePrompts:
    """The slots' pictures as the UNet takes them."""

    def __init__(self, bench: Bench, rows: Sequence[Row], *, guided: bool) -> None:
        """`guided`: with classifier-free guidance, so that the batch is doubled."""
        import torch

        self._pipeline = bench.pipeline
        # A UNet that reads the guidance scale computes no negative, whatever the scale.
        guided = guided and bench.pipeline.unet.config.time_cond_proj_dim is None
        halves = ("no_look", "look") if guided else ("look",)
        found = [torch.stack([row[name] for row in rows]) for name in halves]
        self.embeddings = [torch.cat(found).to(bench.device, bench.dtype)]
        """One tensor of shape (n or 2n, 1, ...)."""

    @contextmanager
    def installed(self) -> Iterator[None]:
        """The pipeline's own method would repeat one slot's picture over the whole batch."""
        self._pipeline.prepare_ip_adapter_image_embeds = lambda *_, **__: self.embeddings
        try:
            yield
        finally:
            del self._pipeline.prepare_ip_adapter_image_embeds
