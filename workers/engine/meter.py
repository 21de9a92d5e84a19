"""Counting the memory that tensors take while a block runs, as a card would count it.

Live storages are counted once each, whatever views there are of them. Weights are counted apart,
when they are placed, so a view of a weight costs nothing. What a kernel allocates inside and
frees again is not seen.
"""

from __future__ import annotations

import weakref
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import torch
from torch.utils._python_dispatch import TorchDispatchMode


class Meter(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Counts while it is entered; what was counted is released when the tensors die."""

    def __init__(self, limit: int) -> None:
        """`limit` is in bytes; to go over it raises `torch.OutOfMemoryError`."""
        super().__init__()  # type: ignore[no-untyped-call]
        self.limit = limit
        self.live = 0  #: bytes of activations
        self.weights = 0  #: bytes of weights that were placed
        self.peak = 0
        self._placed: dict[int, int] = {}  #: bytes by storage of a placed weight
        self._seen: dict[int, weakref.ref[Any]] = {}

    @property
    def taken(self) -> int:
        """Bytes taken now."""
        return self.live + self.weights

    def reset_peak(self) -> None:
        """Forget the largest so far."""
        self.peak = self.taken

    def place(self, tensors: Iterable[torch.Tensor]) -> None:
        """Count these weights; nothing is counted if there is no room for all of them."""
        fresh: dict[int, int] = {}
        for tensor in tensors:
            storage = tensor.untyped_storage()
            if storage._cdata not in self._placed:
                fresh[storage._cdata] = storage.nbytes()
        wanted = sum(fresh.values())
        if self.taken + wanted > self.limit:
            raise self._full(wanted)
        self._placed |= fresh
        self.weights += wanted
        self.peak = max(self.peak, self.taken)

    def take_off(self, tensors: Iterable[torch.Tensor]) -> None:
        """Count these weights no longer."""
        for tensor in tensors:
            self.weights -= self._placed.pop(tensor.untyped_storage()._cdata, 0)

    def is_placed(self, tensor: torch.Tensor) -> bool:
        """Whether the weight was placed."""
        return tensor.untyped_storage()._cdata in self._placed

    def __torch_dispatch__(
        self,
        func: Callable[..., Any],
        types: Any,
        args: tuple[Any, ...] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        for value in args:
            if isinstance(value, torch.nn.Parameter) and not self.is_placed(value):
                raise RuntimeError(
                    "a weight that lies in host memory is used on the device"
                    f" (shape {tuple(value.shape)}, by {func})"
                )
        result = func(*args, **(kwargs or {}))
        if isinstance(result, torch.Tensor):
            self._count(result)
        elif isinstance(result, (tuple, list)):
            for value in result:
                if isinstance(value, torch.Tensor):
                    self._count(value)
        return result

    def _count(self, tensor: torch.Tensor) -> None:
        storage = tensor.untyped_storage()
        key, size = storage._cdata, storage.nbytes()
        if not size or key in self._placed or key in self._seen:
            return
        if self.taken + size > self.limit:
            raise self._full(size)
        self._seen[key] = weakref.ref(storage, lambda _: self._forget(key, size))
        self.live += size
        self.peak = max(self.peak, self.taken)

    def _forget(self, key: int, size: int) -> None:
        del self._seen[key]
        self.live -= size

    def _full(self, wanted: int) -> torch.OutOfMemoryError:
        return torch.OutOfMemoryError(
            f"simulated card out of memory: tried to allocate {wanted} bytes, {self.taken} of"
            f" {self.limit} are taken ({self.weights} by weights)"
        )
