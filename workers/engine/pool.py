"""Components kept between tasks: on the device while there is room, then in host memory.

What was used longest ago goes first, from the device to the host and from the host for good.
Loading the same model again then takes the time of a copy, or none.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Final

import psutil

from workers.engine.devices import Device, module_bytes
from workers.engine.streaming import Streamed

HOST_RESERVE: Final = 0.15
"""Share of host memory that kept components leave free."""


@dataclass(eq=False, kw_only=True, slots=True)
class Part:
    """One component that is kept."""

    key: Hashable
    name: str  #: of the component, for people
    module: Any
    bytes: int
    placed: bool = False
    streamed: Streamed | None = None
    used: int = 0
    laid: Any = None  #: which adapters lie over it
    compiled_for: str | None = None  #: the kind of group its blocks are compiled for
    just_compiled: bool = False  #: and have not computed yet


class Pool:
    """The components of one device."""

    def __init__(self, device: Device, *, host_limit: int | None = None) -> None:
        """`host_limit` in bytes is the most that kept components take of host memory.

        Without it they take what is there, but for a reserve.
        """
        self._device = device
        self._host_limit = host_limit
        self._parts: dict[Hashable, Part] = {}
        self._in_use: set[Hashable] = set()
        self._clock = 0

    def begin(self) -> None:
        """A task begins: what the last one used may go when room is needed."""
        self._in_use.clear()

    def get(self, key: Hashable, name: str, load: Callable[[], Any], expected: int = 0) -> Part:
        """The component under `key`, loaded if it is not kept: about `expected` bytes."""
        part = self._parts.get(key)
        if part is None:
            self._make_room_on_host(expected)
            module = load()
            part = Part(key=key, name=name, module=module, bytes=module_bytes(module))
            self._parts[key] = part
        self._clock += 1
        part.used = self._clock
        self._in_use.add(key)
        return part

    def has(self, key: Hashable) -> bool:
        """Whether it is kept."""
        return key in self._parts

    @property
    def placed_bytes(self) -> int:
        """Bytes on the device."""
        return sum(part.bytes for part in self._parts.values() if part.placed)

    @property
    def kept_bytes(self) -> int:
        """Bytes of all that is kept, wherever it is."""
        return sum(part.bytes for part in self._parts.values())

    def clear_others(self) -> bool:
        """Take off the device what this task does not use; whether there was anything."""
        others = [p for p in self._parts.values() if p.placed and p.key not in self._in_use]
        for part in others:
            self.rest(part)
        return bool(others)

    def place(self, parts: Sequence[Part], *, keep: Iterable[Part] = ()) -> None:
        """Bring `parts` onto the device, taking others but `keep` off as it fills up."""
        if not self._device.has_own_memory:
            return
        wanted = [part for part in parts if not part.placed or part.streamed is not None]
        for part in wanted:
            self.rest(part)
        stay = {id(part) for part in (*parts, *keep)}
        others = [p for p in self._oldest() if p.placed and id(p) not in stay]
        while others and self._device.free_bytes() < sum(part.bytes for part in wanted):
            self.rest(others.pop(0))
            self._device.empty()
        for part in wanted:
            self._device.place(part.module)
            part.placed = True

    def stream(self, part: Part) -> None:
        """Let a component compute with its blocks coming and going."""
        if not self._device.has_own_memory or part.streamed is not None:
            return
        self.rest(part)
        part.streamed = self._device.stream(part.module)
        part.placed = True

    def only(self, parts: Iterable[Part]) -> None:
        """Take everything else off the device."""
        stay = {id(part) for part in parts}
        gone = [p for p in self._parts.values() if p.placed and id(p) not in stay]
        for part in gone:
            self.rest(part)
        if gone:
            self._device.empty()

    def forget_but(self, parts: Iterable[Part]) -> None:
        """Drop everything else for good."""
        stay = {id(part) for part in parts}
        self._drop([part for part in self._parts.values() if id(part) not in stay])

    def clear(self) -> None:
        """Drop everything: nobody knows what state an error left it in."""
        self._drop(list(self._parts.values()))

    def rebuild(self) -> None:
        """After an error: undo streaming, whose hooks may stand in the middle of a step."""
        self.only(())

    def drop(self, part: Part) -> None:
        """Drop one for good."""
        self._drop([part])

    def weigh(self, part: Part) -> None:
        """Take note of its size anew: adapters were laid over it or lifted."""
        part.bytes = module_bytes(part.module)

    def rest(self, part: Part) -> None:
        """Take one off the device."""
        if part.streamed is not None:
            part.streamed.remove()
            part.streamed = None
        elif part.placed:
            self._device.take_off(part.module)
        part.placed = False

    def _drop(self, parts: Iterable[Part]) -> None:
        dropped = list(parts)
        for part in dropped:
            self.rest(part)
            self._parts.pop(part.key, None)
            self._in_use.discard(part.key)
        if dropped:
            dropped.clear()
            self._device.empty()

    def _oldest(self) -> list[Part]:
        return sorted(self._parts.values(), key=lambda part: part.used)

    def _make_room_on_host(self, expected: int) -> None:
        """Drop what was used longest ago while there is no room for so many bytes more."""
        idle = [part for part in self._oldest() if part.key not in self._in_use]
        while idle and self._host_is_full(expected):
            self._drop([idle.pop(0)])

    def _host_is_full(self, expected: int) -> bool:
        if self._host_limit is not None:
            return self.kept_bytes + expected > self._host_limit
        memory = psutil.virtual_memory()
        return memory.available - expected < memory.total * HOST_RESERVE
