"""Checkpoints of a training run, so that it can be stopped and continued at any step."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch

State = dict[str, Any]


def save(path: Path, state: State) -> None:
    """Write a checkpoint so that a crash leaves either the old one or the new one."""
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_suffix(".partial")
    torch.save(state, partial)
    partial.replace(path)


def load(path: Path) -> State | None:
    """Return the checkpoint, or None where there is none yet."""
    if not path.exists():
        return None
    state: State = torch.load(path, map_location="cpu", weights_only=True)
    return state


def pick_device() -> torch.device:
    """Return the CUDA device if there is one, else the CPU."""
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


class Average:
    """An exponential moving average of a module's parameters, steadier than the last step's."""

    def __init__(self, module: torch.nn.Module, decay: float) -> None:
        self.decay = decay
        self.values = {name: p.detach().clone() for name, p in module.named_parameters()}

    def update(self, module: torch.nn.Module, step: int) -> None:
        """Blend in the parameters after `step`, faster in the first steps."""
        decay = min(self.decay, (1 + step) / (10 + step))
        with torch.no_grad():
            for name, parameter in module.named_parameters():
                self.values[name].lerp_(parameter.detach(), 1.0 - decay)

    def copy_to(self, module: torch.nn.Module) -> None:
        """Overwrite the module's parameters with the average."""
        with torch.no_grad():
            for name, parameter in module.named_parameters():
                parameter.copy_(self.values[name])


class Training:
    """A module in training with its optimizer and average, kept in a file now and then."""

    def __init__(
        self,
        path: Path,
        module: torch.nn.Module,
        optimizer: torch.optim.Optimizer,
        *,
        decay: float,
    ) -> None:
        """`path` is the checkpoint's file; `decay` is the average's."""
        self._path = path
        self.module = module
        self.optimizer = optimizer
        self.average = Average(module, decay)

    def resume(self) -> int:
        """Load the checkpoint if there is one and return how many steps are done."""
        state = load(self._path)
        if state is None:
            return 0
        device = next(self.module.parameters()).device
        self.module.load_state_dict(state["module"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.average.values = {name: v.to(device) for name, v in state["average"].items()}
        return int(state["step"])

    def keep(self, done: int, total: int) -> None:
        """Write a checkpoint after every 250th step and the last one."""
        if done % 250 and done != total:
            return
        state = {"module": self.module.state_dict(), "optimizer": self.optimizer.state_dict()}
        save(self._path, state | {"average": self.average.values, "step": done})

    def set_rate(self, rate: float) -> None:
        """Set the learning rate of the next step."""
        for group in self.optimizer.param_groups:
            group["lr"] = rate


def steps_with_progress(first: int, total: int, label: str, every: int = 50) -> Iterator[int]:
    """Yield step numbers and print the pace (seconds per step) now and then."""
    started = time.monotonic()
    for step in range(first, total):
        yield step
        done = step + 1 - first
        if (step + 1) % every == 0:
            pace = (time.monotonic() - started) / done
            print(f"{label} step {step + 1}/{total}, {pace:.3f} s a step", flush=True)
