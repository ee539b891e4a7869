"""Short sounds for tests of what is heard: the synthetic music, and noise that it masks."""

from __future__ import annotations

from functools import cache

import numpy as np
import numpy.typing as npt
import torch

from rmer.data.audio.decoders import quantise
from rmer.data.audio.masking import bin_limits, istft, stft
from rmer.data.demo.design import draw_design
from rmer.data.demo.synthesis import synthesise

Samples = npt.NDArray[np.int16]


@cache
def music(number: int = 0, seconds: float = 4.0) -> Samples:
    """A clip of the synthetic music, int16 [samples] at 22 050 Hz, half as loud as could be."""
    design = draw_design(8, 42)
    palette = design.palettes[design.album[number]]
    samples = quantise(0.6 * synthesise(design.cues[number], palette, seconds, np.random.default_rng(number)))
    samples.flags.writeable = False
    return samples


def masked_noise(samples: Samples, decibels: float, seed: int = 0) -> npt.NDArray[np.float64]:
    """Noise whose magnitudes stay so many dB above what the samples mask, float64 [samples]."""
    limits = 10 ** (decibels / 20) * bin_limits(torch.as_tensor(samples.astype(np.float64))[None])
    phases = 2 * torch.pi * torch.rand(limits.shape, generator=torch.Generator().manual_seed(seed))
    noise = istft(torch.polar(limits, phases.double()), len(samples))
    for _ in range(20):  # of limits that differ between frames, no signal has them all: it stays below them
        spectra = stft(noise)
        noise = istft(spectra * (limits / spectra.abs()).clamp(max=1), len(samples))
    return np.asarray(noise[0].numpy())


def disturbed(samples: Samples, noise: npt.NDArray[np.float64]) -> Samples:
    return np.clip(np.rint(samples + noise), -32768, 32767).astype(np.int16)
