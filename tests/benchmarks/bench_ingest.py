"""Reading, checking, grouping and sharding manifests, beside msgspec's decoding alone.

Each figure is of a process of its own, which reports its CPU seconds without start-up and the
peak of its resident memory.

    python tests/benchmarks/bench_ingest.py [--rows 1000000] [--rounds 3]
"""

from __future__ import annotations

import argparse
import csv
import json
import random
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

WORDS = (  # noqa: SIM905 - a sentence is easier to read than a list
    "a lighthouse at dusk, oil on canvas, of the old harbour with red boats under heavy clouds"
    " painted in the style of a woodcut; detailed, soft light, wide angle, forest, mountain, fox"
).split()


def rows(count: int) -> Any:
    """Rows of nine columns with prompts of ten to thirty words, a few settings, one tag."""
    choose = random.Random(1)
    for number in range(count):
        yield {
            "prompt": " ".join(choose.choices(WORDS, k=choose.randint(10, 30))),
            "negative_prompt": "blurry, dull",
            "width": 64,
            "height": 64,
            "num_inference_steps": choose.choice([20, 30]),
            "guidance_scale": choose.choice([4.0, 7.5]),
            "scheduler": "ddim",
            "seed": number,
            "category": f"kind {number % 12}",
        }


def write(folder: Path, kind: str, count: int) -> Path:
    """A manifest of that format."""
    path = folder / f"rows-{count}.{kind}"
    if kind == "jsonl":
        with open(path, "w") as file:
            file.writelines(json.dumps(row) + "\n" for row in rows(count))
    elif kind == "csv":
        with open(path, "w", newline="") as file:
            writer = csv.writer(file)
            for number, row in enumerate(rows(count)):
                if not number:
                    writer.writerow(row)
                writer.writerow(row.values())
    else:
        import pyarrow
        from pyarrow import parquet

        some = list(rows(count))
        parquet.write_table(pyarrow.Table.from_pylist(some), path)
    return path


def read(path: Path) -> int:
    """All of it as `rendermill render` does, but for the upload of shards."""
    from scheduler.manifest.limits import Limits
    from scheduler.manifest.spool import ItemSpool
    from scheduler.service.options import SubmitOptions
    from scheduler.service.prepare import prepared
    from storage.models.resolve import describe

    with prepared(SubmitOptions(manifest=str(path)), limits=Limits(), describe=describe) as work:
        assert isinstance(work.sink, ItemSpool)
        assert sum(len(data) for _, _, data in work.sink.shards()) > 0
        return work.rows


def decode(path: Path) -> int:
    """msgspec's decoding of the same lines into dictionaries, and nothing else."""
    import msgspec

    decoder = msgspec.json.Decoder(dict[str, Any])
    with open(path, "rb") as file:
        return sum(1 for line in file if decoder.decode(line))


def worker(job: str, path: Path) -> None:
    """Do one job and print its figures."""
    started = time.process_time()
    count = {"read": read, "decode": decode}[job](path)
    seconds = time.process_time() - started
    print(json.dumps({"rows": count, "cpu_seconds": seconds, "peak_mib": _peak_mib()}))


def _peak_mib() -> float:
    """The largest memory this program had. `ru_maxrss` would count what its parent had, too."""
    status = Path("/proc/self/status").read_text()
    (line,) = [line for line in status.splitlines() if line.startswith("VmHWM:")]
    return int(line.split()[1]) / 1024


def measure(job: str, path: Path) -> dict[str, float]:
    """One process."""
    command = [sys.executable, __file__, "--job", job, str(path)]
    done = subprocess.run(command, capture_output=True, check=True)
    return dict(json.loads(done.stdout))


def main() -> None:
    """Alternate the jobs over some rounds and print medians."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--job", nargs=2, metavar=("JOB", "PATH"), help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.job:
        worker(options.job[0], Path(options.job[1]))
        return
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        few = write(folder, "jsonl", 1000)
        jobs = {
            f"read {kind}": ("read", write(folder, kind, options.rows))
            for kind in ("jsonl", "csv", "parquet")
        }
        jobs["decode jsonl (msgspec alone)"] = ("decode", jobs["read jsonl"][1])
        jobs["read 1,000 rows of jsonl"] = ("read", few)
        found: dict[str, list[dict[str, float]]] = {job: [] for job in jobs}
        for number in range(options.rounds):
            for job, (what, path) in jobs.items():
                found[job].append(measure(what, path))
            print(f"  round {number + 1} of {options.rounds} done", flush=True)
    for job, figures in found.items():
        speeds = sorted(figure["rows"] / figure["cpu_seconds"] for figure in figures)
        peak = max(figure["peak_mib"] for figure in figures)
        print(
            f"{job:32} {statistics.median(speeds):12,.0f} rows/s"
            f" ({speeds[0]:,.0f} to {speeds[-1]:,.0f})  peak {peak:5.0f} MiB"
        )


if __name__ == "__main__":
    main()
