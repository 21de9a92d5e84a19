"""Pictures that look like photographs to an encoder, without being any."""

from __future__ import annotations

from typing import Any

import numpy as np


def scenery(side: int, *, seed: int = 0, roughness: float = 1.2) -> Any:
    """(side, side, 3) uint8: noise whose spectrum falls like that of natural pictures."""
    random = np.random.default_rng(seed)
    frequencies = np.fft.fftfreq(side)
    distance = np.hypot(*np.meshgrid(frequencies, frequencies))
    distance[0, 0] = 1

    def layer() -> Any:
        noise = np.fft.fft2(random.normal(size=(side, side))) / distance**roughness
        values = np.real(np.fft.ifft2(noise))
        return (values - values.mean()) / values.std()

    light = layer()
    channels = [128 + 40 * light + 6 * layer() for _ in range(3)]
    return np.clip(np.stack(channels, axis=-1), 0, 255).astype(np.uint8)
