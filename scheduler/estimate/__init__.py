"""How much memory, time and space a group needs. Pure; the formulas are in the functions.

`memory` is about bytes on a device, `batches` about how much is computed at once and by how many
workers, `seconds` about time and files.
"""

from scheduler.estimate.batches import (
    CPU_BATCH_PIXELS,
    GPU_BATCH_PIXELS,
    MAX_BATCH,
    batch_shape,
    cpu_threads,
    cpu_workers,
)
from scheduler.estimate.companions import Companions
from scheduler.estimate.memory import mode_bytes, requirements
from scheduler.estimate.parts import Part, parts
from scheduler.estimate.seconds import (
    ASSUMED_TFLOPS,
    image_bytes,
    repays_compiling,
    seconds_per_image,
    tflop,
)

__all__ = [
    "ASSUMED_TFLOPS",
    "CPU_BATCH_PIXELS",
    "GPU_BATCH_PIXELS",
    "MAX_BATCH",
    "Companions",
    "Part",
    "batch_shape",
    "cpu_threads",
    "cpu_workers",
    "image_bytes",
    "mode_bytes",
    "parts",
    "repays_compiling",
    "requirements",
    "seconds_per_image",
    "tflop",
]
