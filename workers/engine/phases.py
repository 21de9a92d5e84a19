"""The four phases over a task's state, each at the shapes of a rung.

Each phase computes at a fixed shape, padded where items run out, because a result depends on the
shape it was computed at. What a phase made goes to host memory, so that the next one finds it
whatever the mode.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch

from storage.contract.errors import InputUnusable
from storage.contract.items import GroupSpec
from storage.contract.outcomes import Reason
from workers.engine.batching import Batch
from workers.engine.benches import Benches
from workers.engine.clock import LOAD, Clock
from workers.engine.compiling import timed
from workers.engine.devices import are_finite, move
from workers.engine.families.base import Bench, DenoiseInputs, Inputs, Phase, Tensor
from workers.engine.ladder import Rung
from workers.engine.pixels import fault_of, to_bytes
from workers.engine.ports import Picture, PictureSource, Watch
from workers.engine.task import Task, Text, numbers
from workers.engine.tiling import tiling


@dataclass(kw_only=True)
class Phases:
    """The phases of one group in one dtype; `at` is the phase under way."""

    benches: Benches
    spec: GroupSpec
    sources: PictureSource | None
    watch: Watch
    clock: Clock
    at: Phase | None = None

    def encode(self, task: Task, rung: Rung) -> None:
        """Embeddings of every distinct text, one text encoder after the other."""
        adapter = self.benches.adapter
        texts = [text for text in self._texts(task) if text not in task.rows]
        if not texts:
            return
        for encoder in self.benches.components(Phase.ENCODE):
            for negative in (False, True):
                missing = [
                    text
                    for text in texts
                    if text[1] is negative and encoder not in task.parts.get(text, {})
                ]
                for start in range(0, len(missing), rung.shape.encode):
                    self._encode(task, encoder, missing[start : start + rung.shape.encode], rung)
        for text in texts:
            task.rows[text] = adapter.join(self.spec, task.parts.pop(text, {}))
        self._count_tokens(task)

    def look_ahead(self, batches: Sequence[Batch]) -> None:
        """Begin to fetch the pictures of batches that come next."""
        if self.sources is not None:
            for batch in batches:
                self.sources.prefetch([batch.slots[place] for place, _ in batch.wanted])

    def condition(self, task: Task, rung: Rung, batch: Batch, number: int) -> None:
        """What the denoiser needs of a batch's pictures, and where its noise begins."""
        open_ = [n for n in dict.fromkeys(numbers(batch)) if n not in task.noise]
        if not open_:
            return
        generators = [torch.Generator("cpu").manual_seed(item.seed) for item in batch.slots]
        if not self._is_conditioned(batch):
            rows: list[Any] = [{} for _ in batch.slots]
        else:
            inputs = self._inputs(task, batch)
            if inputs is None:
                return
            bench = self._bench(Phase.CONDITION)
            with (
                self._computing(Phase.CONDITION, number),
                tiling(bench, rung, sliced=self.spec.batch.decode == 1),
            ):
                made = self.benches.adapter.condition(bench, inputs, generators)
                rows = [self._kept(row) for row in made]
        for place, item in batch.wanted:
            if item not in task.noise:
                task.conditions[item] = rows[place]
                task.noise[item] = generators[place].get_state()

    def denoise(self, task: Task, batch: Batch, number: int, *, keep: bool) -> Tensor | None:
        """Latents of a batch; with `keep` they go to the task's state, on the host.

        None if none of its items is to be had.
        """
        wanted = [n for _, n in batch.wanted if n not in task.pictures and n not in task.again]
        if not wanted:
            return None
        slots = [n if n in task.noise else wanted[0] for n in numbers(batch)]
        bench = self._bench(Phase.DENOISE)
        with self._computing(Phase.DENOISE, number):
            inputs = self._denoise_inputs(task, slots)
            latents = self.benches.adapter.denoise(
                bench,
                inputs,
                timed(self.benches.denoiser, lambda step: self.watch.tell("denoise", number, step)),
            )
            sound = [are_finite([row]) for row in latents]
            for place, item in batch.wanted:
                if item in wanted and not sound[place]:
                    task.again[item] = _faulty(item, "latents are not finite")
            if not keep:
                return latents
            for place, item in batch.wanted:
                if item in wanted and sound[place]:
                    task.latents[item] = self._kept(latents[place])
        return None

    def decode(
        self, task: Task, rung: Rung, batch: Batch, latents: Tensor | None, number: int
    ) -> None:
        """Pictures of a batch, from `latents` or from the task's state."""
        settled = task.pictures.keys() | task.again.keys()
        places = {place for place, item in batch.wanted if item not in settled}
        if latents is None:
            places = {place for place, item in batch.wanted if item in task.latents}
        at = dict(batch.wanted)
        size = rung.shape.decode
        for start in range(0, batch.size, size):
            chunk = range(start, min(start + size, batch.size))
            chosen = [place for place in chunk if place in places]
            if not chosen:
                continue
            # Rows nobody wants are computed only where they stand among wanted ones.
            rows = [
                latents[place] if latents is not None else task.latents.get(at.get(place, -1))
                for place in chunk
            ]
            filler = rows[chosen[0] - start]
            rows = [filler if row is None else row for row in rows]
            rows += [filler] * (size - len(rows))
            self._decode(task, rung, {place - start: at[place] for place in chosen}, rows, number)

    def _decode(
        self, task: Task, rung: Rung, wanted: dict[int, int], rows: Sequence[Any], number: int
    ) -> None:
        bench = self._bench(Phase.DECODE)
        with self._computing(Phase.DECODE, number), tiling(bench, rung, sliced=False):
            latents = torch.stack(list(rows)).to(bench.device)
            decoded = self.benches.adapter.decode(bench, latents)
            for place, item in wanted.items():
                self._settle(task, item, decoded[place].permute(1, 2, 0), latents[place])

    def _settle(self, task: Task, item: int, picture: Tensor, latents: Tensor) -> None:
        """The picture of an item, or what is wrong with it."""
        if not are_finite([picture]):
            task.recode[item] = _faulty(item, "pixels are not finite")
            task.latents[item] = self._kept(latents)
            return
        task.latents.pop(item, None)
        task.recode.pop(item, None)
        pixels = to_bytes(picture)
        flat = fault_of(pixels)
        if flat is not None:
            task.again[item] = _faulty(item, flat, Reason.CONSTANT)
            return
        beyond = task.beyond.get(task.items[item].prompt, 0)
        task.pictures[item] = Picture(item=item, pixels=pixels, truncated_tokens=beyond)

    def _texts(self, task: Task) -> list[Text]:
        items = [i for n, i in task.items.items() if n not in task.pictures]
        texts = [(item.prompt, False) for item in items]
        if self.benches.adapter.needs_negatives(self.spec):
            texts += [(item.negative_prompt, True) for item in items]
        return list(dict.fromkeys(texts))

    def _encode(self, task: Task, encoder: str, texts: Sequence[Text], rung: Rung) -> None:
        padded = [text for text, _ in texts]
        padded += [padded[0]] * (rung.shape.encode - len(texts))
        bench = self._bench(Phase.ENCODE, encoder)
        with self._computing(Phase.ENCODE, 0):
            rows = self.benches.adapter.encode(bench, encoder, padded, negative=texts[0][1])
            for text, row in zip(texts, rows, strict=False):
                kept = self._kept(row)
                task.parts.setdefault(text, {})[encoder] = kept
                if not are_finite(kept.values()):
                    self._spoilt(task, text)

    def _spoilt(self, task: Task, text: Text) -> None:
        for number, item in task.items.items():
            if text in ((item.prompt, False), (item.negative_prompt, True)):
                task.again[number] = _faulty(number, "embeddings are not finite")

    def _count_tokens(self, task: Task) -> None:
        encoders = self.benches.components(Phase.ENCODE)
        bench = self._bench(Phase.ENCODE, encoders[-1])
        limit = self.benches.adapter.token_limit(bench)
        for item in task.items.values():
            if item.prompt not in task.beyond:
                length = self.benches.adapter.count_tokens(bench, item.prompt)
                task.beyond[item.prompt] = max(0, length - limit)

    def _is_conditioned(self, batch: Batch) -> bool:
        pictured = any(item.pictures for item in batch.slots)
        return pictured or bool(self.benches.adapter.components(self.spec, Phase.CONDITION))

    def _inputs(self, task: Task, batch: Batch) -> list[Inputs] | None:
        """Pictures of each slot; an item whose own cannot be used fails alone."""
        opened: dict[int, Inputs] = {}
        at = numbers(batch)
        for item, slot in zip(at, batch.slots, strict=True):
            if item in opened or item in task.pictures:
                continue
            try:
                opened[item] = self._opened(slot)
            except InputUnusable as error:
                task.pictures[item] = Picture(item=item, fault=Reason.INPUT, detail=error.message)
        if not opened:
            return None
        filler = next(iter(opened.values()))
        return [opened.get(item, filler) for item in at]

    def _opened(self, slot: Any) -> Inputs:
        if not slot.pictures:
            return Inputs()
        if self.sources is None:
            raise InputUnusable("this worker cannot open input pictures")
        return self.sources.inputs_of(slot, self.spec)

    def _denoise_inputs(self, task: Task, slots: Sequence[int]) -> DenoiseInputs:
        items = [task.items[number] for number in slots]
        negatives = None
        if self.benches.adapter.needs_negatives(self.spec):
            negatives = [task.rows[item.negative_prompt, True] for item in items]
        return DenoiseInputs(
            items=items,
            prompts=[task.rows[item.prompt, False] for item in items],
            negatives=negatives,
            conditions=[task.conditions[number] for number in slots],
            generators=[_generator(task.noise[number]) for number in slots],
        )

    def _bench(self, phase: Phase, encoder: str | None = None) -> Bench:
        """The bench of a phase; `at` is None meanwhile, for it is weights that may not fit."""
        self.at = None
        with self.clock.timing(LOAD):
            return self.benches.bench(phase, encoder)

    def _kept(self, row: Any) -> Any:
        return move(row, self.benches.device)

    @contextmanager
    def _computing(self, phase: Phase, number: int) -> Iterator[None]:
        """Without gradients, timed, and known by name should it fail."""
        self.at = phase
        self.watch.tell(phase, number, 0)
        with self.clock.timing(phase), torch.no_grad(), self.benches.device.computing():
            yield


def _faulty(item: int, detail: str, fault: Reason = Reason.NAN) -> Picture:
    return Picture(item=item, fault=fault, detail=detail)


def _generator(state: Any) -> Any:
    generator = torch.Generator("cpu")
    generator.set_state(state)
    return generator
