"""``rendermill render`` against a bare diffusers loop that saves its pictures.

Every figure is of a whole process, from start to exit, over the same prompts; the contestants
take turns, and the ratio is taken round by round, so that a machine whose speed drifts does
not decide. Memory is the largest sum of the proportional set sizes of all processes.

    python tests/benchmarks/bench_render.py [--images 256] [--rounds 3] [--steps 20]
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from dataclasses import dataclass
from pathlib import Path

import psutil

BARE = Path(__file__).with_name("bare_loop.py")
SAMPLE_SECONDS = 0.2


@dataclass(frozen=True)
class Figure:
    """One run of one contestant."""

    seconds: float
    cpu_seconds: float
    peak_bytes: int


def prompts(count: int) -> list[str]:
    """As many different prompts of the starter model's world."""
    from workers.starter.vocabulary import BACKGROUNDS, OBJECT_COLOURS, POSITIONS, SHAPES

    made = [
        f"a {colour} {shape} at the {position} on a {background} background"
        for shape in SHAPES
        for colour in OBJECT_COLOURS
        for background in BACKGROUNDS
        for position in POSITIONS
        if colour != background
    ]
    return made[:: max(1, len(made) // count)][:count]


def measure(command: list[str]) -> Figure:
    """Run `command` to its end."""
    started = time.monotonic()
    before = os.times()
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
    peak = [0]
    ended = threading.Event()
    sampler = threading.Thread(target=_sample, args=(process.pid, peak, ended))
    sampler.start()
    _, errors = process.communicate()
    seconds = time.monotonic() - started
    ended.set()
    sampler.join()
    if process.returncode:
        raise SystemExit(f"{command} ended with {process.returncode}:\n{errors.decode()}")
    after = os.times()
    cpu = (after.children_user - before.children_user) + (
        after.children_system - before.children_system
    )
    return Figure(seconds, cpu, peak[0])


def _sample(pid: int, peak: list[int], ended: threading.Event) -> None:
    root = psutil.Process(pid)
    while not ended.wait(SAMPLE_SECONDS):
        total = 0
        try:
            for process in [root, *root.children(recursive=True)]:
                total += process.memory_full_info().pss
        except psutil.Error:
            continue
        peak[0] = max(peak[0], total)


def contestants(manifest: Path, options: argparse.Namespace) -> dict[str, list[str]]:
    """The commands by name."""
    python = sys.executable
    home = manifest.parent / "home"
    bare = [python, str(BARE), str(manifest), str(manifest.parent / "bare"), str(options.steps)]
    ours = [python, "-m", "scheduler", "render", str(manifest), "--home", str(home)]
    ours += ["--set", f"num_inference_steps={options.steps}"]
    found = {"rendermill": ours, f"bare, batches of {options.batch}": [*bare, str(options.batch)]}
    if options.single:
        found["bare, one at a time"] = [*bare, "1"]
    return found


def best_batch(manifest: Path, steps: int) -> int:
    """The bare loop's best fixed batch, each tried twice, the better time counting."""
    times = {}
    for size in (4, 8, 16, 32):
        command = [sys.executable, str(BARE), str(manifest), str(manifest.parent / "probe")]
        times[size] = min(measure([*command, str(steps), str(size)]).seconds for _ in range(2))
        print(f"  bare loop in batches of {size}: {times[size]:.1f} s", flush=True)
    return min(times, key=lambda size: times[size])


def main() -> None:
    """Run the rounds and print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--images", type=int, default=256)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--steps", type=int, default=20)
    parser.add_argument("--batch", type=int, help="of the bare loop; default: the best one")
    parser.add_argument("--single", action="store_true", help="one prompt at a time, too")
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        manifest = Path(folder) / "prompts.txt"
        manifest.write_text("".join(f"{prompt}\n" for prompt in prompts(options.images)))
        if options.batch is None:
            options.batch = best_batch(manifest, options.steps)
        names = contestants(manifest, options)
        rounds: list[dict[str, Figure]] = []
        for number in range(options.rounds):
            order = list(names) if number % 2 == 0 else list(reversed(names))
            rounds.append({name: measure(names[name]) for name in order})
            print(f"  round {number + 1} of {options.rounds} done", flush=True)
    report(rounds, options)


def report(rounds: list[dict[str, Figure]], options: argparse.Namespace) -> None:
    """Median figures, and ratios of ours to each of the others round by round."""
    print(f"\n{options.images} images, {options.steps} steps, medians of {len(rounds)} rounds")
    lines = []
    for name in rounds[0]:
        figures = [one[name] for one in rounds]
        seconds = statistics.median(figure.seconds for figure in figures)
        ratios = sorted(one[name].seconds / one["rendermill"].seconds for one in rounds)
        memory = statistics.median(figure.peak_bytes for figure in figures) / 2**20
        cpu = statistics.median(figure.cpu_seconds for figure in figures)
        lines.append(
            {
                "contestant": name,
                "images_per_second": round(options.images / seconds, 3),
                "seconds": round(seconds, 2),
                "cpu_seconds": round(cpu, 2),
                "peak_mib": round(memory),
                "rendermill_is_faster_by": [round(ratio, 3) for ratio in ratios],
            }
        )
        print(
            f"{name:28} {options.images / seconds:7.2f} images/s  {seconds:7.1f} s"
            f"  {cpu:7.1f} s CPU  {memory:6.0f} MiB"
            f"  rendermill is {statistics.median(ratios):.2f} times as fast"
            f" ({ratios[0]:.2f} to {ratios[-1]:.2f})"
        )
    if options.json:
        options.json.write_text(json.dumps(lines, indent=2))


if __name__ == "__main__":
    main()
