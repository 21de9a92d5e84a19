"""The engine against the bare diffusers pipeline, on one device, in one run.

    python -m tests.benchmarks.bench_engine starter --images 64 --batch 16 --steps 20
    python -m tests.benchmarks.bench_engine sd15 --images 4 --steps 2 --threads 2 --dtype bfloat16
    python -m tests.benchmarks.bench_engine sdxl --device cuda:0 --images 32 --dtype float16
    python -m tests.benchmarks.bench_engine sd15 --modes --steps 1   # peak of each mode, estimate

Contestants take turns; ratios are taken round by round, so that a machine whose speed drifts
does not decide. The bare loop is tried at several batch sizes first and runs at its best one.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from storage.contract.capability import Mode
from storage.models.resolve import describe

BATCHES = (1, 2, 4, 8, 16)
CARD_MODES = (Mode.RESIDENT, Mode.LEAN, Mode.PHASED, Mode.OFFLOAD)
UNLIMITED = 1 << 40


def main() -> None:
    """Run what was asked for and print the table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("model", help="starter, sd15, sdxl, or a folder")
    parser.add_argument("--images", type=int, default=8)
    parser.add_argument("--steps", type=int, default=4)
    parser.add_argument("--side", type=int)
    parser.add_argument("--batch", type=int, help="default: the bare loop's best")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--dtype", default="float32")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--switch", action="store_true", help="time a switch of models, too")
    parser.add_argument("--modes", action="store_true", help="peaks of all modes instead")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        model, side = _model(options, Path(folder))
        options.side = options.side or side
        if options.modes:
            _modes(options, model, Path(folder))
        else:
            _race(options, model, Path(folder))


def _model(options: argparse.Namespace, folder: Path) -> tuple[str, int]:
    """The model's name or folder, made if need be, and its native side."""
    import torch

    from tests.benchmarks.engine.models import MODELS

    if options.model not in MODELS:
        return options.model, describe(options.model).width
    build, side = MODELS[options.model]
    made = folder / options.model
    print(f"making {options.model} with random weights ...", flush=True)
    build(made, getattr(torch, options.dtype))
    return str(made), side


def _race(options: argparse.Namespace, model: str, folder: Path) -> None:
    batch = options.batch or _best_batch(options, model, folder)
    extra = ["--other", "starter" if options.model != "starter" else model] * options.switch
    rounds = []
    for number in range(options.rounds):
        order = ("bare", "engine") if number % 2 else ("engine", "bare")
        rounds.append({who: _run(options, who, model, folder, batch, *extra) for who in order})
        print(f"round {number + 1}: {json.dumps(rounds[-1])}", flush=True)
    ratios = sorted(
        one["engine"]["images_per_second"] / one["bare"]["images_per_second"] for one in rounds
    )
    whole = sorted(one["bare"]["seconds"] / one["engine"]["seconds"] for one in rounds)
    print(
        f"\n{options.model}, {options.images} images of {options.side}x{options.side},"
        f" {options.steps} steps, batches of {batch}, {options.dtype}, {options.device},"
        f" {options.threads} threads\n"
        f"{'':8}{'images/s':>10}{'first image':>13}{'loading':>9}{'peak GiB':>10}{'switch':>8}"
    )
    for who in ("bare", "engine"):
        one = {key: _median(rounds, who, key) for key in rounds[0][who] if key in _NUMBERS}
        print(
            f"{who:8}{one['images_per_second']:10.4f}{one['first_image_seconds']:11.1f} s"
            f"{one['load_seconds']:7.1f} s{one['peak_bytes'] / 2**30:10.2f}"
            f"{one.get('switch_seconds', float('nan')):6.1f} s"
        )
    idle = statistics.median(one["engine"]["idle_share"] for one in rounds)
    print(
        f"the engine is {statistics.median(ratios):.3f} times as fast"
        f" ({ratios[0]:.3f} to {ratios[-1]:.3f}); with loading {statistics.median(whole):.3f};"
        f" between its phases and batches {idle:.2%} of the time passes"
    )


_NUMBERS = (
    "load_seconds", "first_image_seconds", "seconds", "images_per_second", "peak_bytes",
    "switch_seconds",
)  # fmt: skip


def _best_batch(options: argparse.Namespace, model: str, folder: Path) -> int:
    rates = {}
    for batch in (size for size in BATCHES if size <= options.images):
        rates[batch] = _run(options, "bare", model, folder, batch)["images_per_second"]
        print(f"bare loop in batches of {batch}: {rates[batch]:.4f} images/s", flush=True)
    return max(rates, key=lambda batch: rates[batch])


def _modes(options: argparse.Namespace, model: str, folder: Path) -> None:
    """Each mode's metered peak beside its estimate, without what CUDA takes for itself."""
    batch = options.batch or 1
    card = describe(model)
    print(f"{'mode':10}{'estimate GiB':>14}{'peak GiB':>10}{'ratio':>8}{'seconds':>9}")
    for mode in CARD_MODES:
        limit = ["--vram-limit", str(UNLIMITED)] * (options.device == "cpu")
        one = _run(options, "engine", model, folder, batch, "--mode", mode, *limit)
        estimated = _estimate(options, card, batch, mode)
        peak = one["peak_bytes"]
        print(
            f"{mode:10}{estimated / 2**30:14.3f}{peak / 2**30:10.3f}{estimated / peak:8.2f}"
            f"{one['seconds']:9.1f}",
            flush=True,
        )


def _estimate(options: argparse.Namespace, card: Any, batch: int, mode: Mode) -> int:
    """The formula's bytes for a card, less what libraries take past the meter."""
    from scheduler import estimate
    from scheduler.estimate.memory import GPU_WORKSPACE
    from storage.contract.items import BatchShape, GroupSpec

    spec = GroupSpec(
        model=card.model,
        width=options.side,
        height=options.side,
        num_inference_steps=options.steps,
        guidance_scale=7.5,
        scheduler=card.scheduler,
        dtype=options.dtype,
        batch=BatchShape(encode=8, denoise=batch, decode=1),
    )
    return estimate.mode_bytes(card, spec, mode) - GPU_WORKSPACE


def _run(
    options: argparse.Namespace, who: str, model: str, folder: Path, batch: int, *extra: str
) -> dict[str, Any]:
    values = {
        "--images": options.images,
        "--batch": batch,
        "--steps": options.steps,
        "--side": options.side,
        "--device": options.device,
        "--dtype": options.dtype,
        "--threads": options.threads,
    }
    command = [sys.executable, "-m", "tests.benchmarks.engine.contestant"]
    command += [who, model, str(folder / who)]
    command += [str(part) for pair in values.items() for part in pair]
    done = subprocess.run([*command, *extra], capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(f"{who} ended with {done.returncode}:\n{done.stderr}")
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return found


def _median(rounds: list[dict[str, Any]], who: str, key: str) -> float:
    return float(statistics.median(one[who][key] for one in rounds))


if __name__ == "__main__":
    main()
