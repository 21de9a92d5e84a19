"""Weight files: which of a component's belong together, what they hold, and their hash."""

from __future__ import annotations

import hashlib
import json
import math
import re
import struct
from collections.abc import Iterable, Mapping
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Final, Protocol

import msgspec

from storage.contract.errors import ModelError

SUFFIX: Final = ".safetensors"
PICKLE_SUFFIXES: Final = (".bin", ".ckpt", ".pt", ".pth")
_HEADER_LIMIT: Final = 100 << 20  # safetensors' own limit
_BLOCK: Final = re.compile(r"[A-Za-z_]\w*\.\d+(?=\.)")


class WeightFile(msgspec.Struct, frozen=True, kw_only=True):
    """One safetensors file, known by its header."""

    name: str
    size: int  #: bytes
    parameters: int
    blocks: dict[str, int] = {}  #: parameters by block; "" for those in no block


class WeightSource(Protocol):
    """Tells of a model's weight files, wherever they are."""

    def weights(self, component: str) -> list[WeightFile]:
        """The component's files of one variant, the plain one if there is one."""

    def has_pickles(self, component: str) -> bool:
        """Whether the component has weights in a form that is refused."""


class FolderWeights:
    """Weights in a local folder."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def weights(self, component: str) -> list[WeightFile]:
        """By their headers; `ModelError` if one is damaged."""
        return [read_weight_file(file) for file in weight_files(self._folder / component)]

    def has_pickles(self, component: str) -> bool:
        """By their names."""
        files = (self._folder / component).glob("*")
        return any(file.suffix in PICKLE_SUFFIXES for file in files)


def weight_files(folder: Path) -> list[Path]:
    """The component's safetensors files of one variant: the plain one, if it is there."""
    names, _ = one_variant(file.name for file in folder.glob(f"*{SUFFIX}"))
    return [folder / name for name in names]


def variant_of(folder: Path) -> str | None:
    """The variant diffusers must be asked for: None, or "fp16" if there is nothing else."""
    return one_variant(file.name for file in folder.glob(f"*{SUFFIX}"))[1]


def one_variant(names: Iterable[str]) -> tuple[list[str], str | None]:
    """Of file names, the safetensors ones of one variant, sorted; and which variant that is."""
    by_variant: dict[str | None, list[str]] = {}
    for name in sorted(name for name in names if name.endswith(SUFFIX)):
        by_variant.setdefault(_variant(name), []).append(name)
    for variant in (None, "fp16", "bf16", *sorted(filter(None, by_variant))):
        if variant in by_variant:
            return by_variant[variant], variant
    return [], None


def weights_hash(folder: Path, components: Iterable[str]) -> str:
    """SHA-256 over the weight files of these components, in order; 16 digits of it.

    A component may be "", for a model that stands alone in its folder (a ControlNet).
    """
    return files_hash(file for name in components for file in weight_files(folder / name))


def files_hash(files: Iterable[Path]) -> str:
    """SHA-256 over these files, in order; 16 digits of it. For LoRAs and the like."""
    digest = hashlib.sha256()
    for file in files:
        digest.update(_digest_of(file))
    return digest.hexdigest()[:16]


def file_hash(file: Path) -> str:
    """SHA-256 of one file, as model sites list it; computed once while the file stays as it is."""
    return _digest_of(file).hex()


def stamp_of(files: Iterable[Path]) -> str:
    """Sizes and times of files: another one after any of them was replaced, and cheap to ask."""
    stats = [(file.name, file.stat()) for file in files]
    return " ".join(f"{name} {stat.st_size} {stat.st_mtime_ns}" for name, stat in stats)


def _digest_of(file: Path) -> bytes:
    stat = file.stat()
    return _file_hash(file, stat.st_size, stat.st_mtime_ns)


@lru_cache(maxsize=256)
def _file_hash(file: Path, _size: int, _modified: int) -> bytes:
    # Size and time are in the key, so a file that was replaced is read again.
    with open(file, "rb") as stream:
        return hashlib.file_digest(stream, "sha256").digest()


def _variant(name: str) -> str | None:
    """What stands between a file's first dot and its shard number or suffix.

    ``model.fp16-00001-of-00002.safetensors`` is of the variant "fp16"; Stable Diffusion 1.5 also
    has "non_ema", the weights without their moving average.
    """
    middle = name.partition(".")[2].removesuffix("safetensors").rstrip(".")
    return re.sub(r"-\d+-of-\d+$", "", middle) or None


class _Tensor(msgspec.Struct):
    """What is read of a tensor's entry in a safetensors header."""

    shape: tuple[int, ...]


def read_weight_file(file: Path) -> WeightFile:
    """What a safetensors file's header tells; `ModelError` if it is damaged."""
    shapes = read_shapes(file)
    return WeightFile(
        name=file.name,
        size=file.stat().st_size,
        parameters=sum(math.prod(shape) for shape in shapes.values()),
        blocks=blocks_of({name: math.prod(shape) for name, shape in shapes.items()}),
    )


def blocks_of(parameters: Mapping[str, int]) -> dict[str, int]:
    """Parameters by block, from those by tensor name.

    A block is an entry of a list that stands at the top of the module, as diffusers streams
    them: ``transformer_blocks.7.attn.to_q.weight`` is of the block ``transformer_blocks.7``.
    """
    blocks: dict[str, int] = {}
    for name, count in parameters.items():
        found = _BLOCK.match(name)
        block = found[0] if found else ""
        blocks[block] = blocks.get(block, 0) + count
    return blocks


def streamed_parameters(files: Iterable[WeightFile]) -> int:
    """Parameters on the device at once where blocks are streamed.

    What is in no block, the largest block, and the next one, which is fetched meanwhile.
    """
    blocks: dict[str, int] = {}
    for file in files:
        for block, count in file.blocks.items():
            blocks[block] = blocks.get(block, 0) + count
    outside = blocks.pop("", 0)
    return outside + sum(sorted(blocks.values(), reverse=True)[:2])


def read_shapes(file: Path) -> dict[str, tuple[int, ...]]:
    """Shapes of the tensors named in a safetensors header; `ModelError` if it is damaged."""
    try:
        with open(file, "rb") as stream:
            (length,) = struct.unpack("<Q", stream.read(8))
            if length > _HEADER_LIMIT:
                raise ValueError(f"its header claims {length} bytes")
            header = json.loads(stream.read(length))
        return {
            name: msgspec.convert(tensor, _Tensor).shape
            for name, tensor in header.items()
            if name != "__metadata__"
        }
    except (OSError, ValueError, AttributeError, RecursionError, struct.error) as error:
        raise ModelError(f"{file} is not a safetensors file: {error}") from error


if TYPE_CHECKING:
    _source: WeightSource = FolderWeights(Path())
