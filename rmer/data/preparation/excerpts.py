"""The excerpt of each clip that systems see: drawn once, as published."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch

from rmer.data.splits import FloatArray

EXCERPT_SEED = 42


def excerpt_starts(lengths: Sequence[int], frames: int, seed: int = EXCERPT_SEED) -> list[int]:
    """Draw the first frame of each clip's excerpt, uniformly over those that keep it inside the clip.

    ``lengths`` are the clips' frames in the order of their names, one draw each from the stream of
    ``torch.manual_seed(seed)``; clips with at most ``frames`` frames start at 0, and draw all the same.
    """
    generator = torch.Generator().manual_seed(seed)
    return [int(torch.randint(0, max(n - frames, 0) + 1, (1,), generator=generator)) for n in lengths]


def excerpt(spectrogram: FloatArray, start: int, frames: int) -> FloatArray:
    """Cut ``frames`` frames from [length, bands]; a clip that is too short is repeated cyclically."""
    return spectrogram[(start + np.arange(frames)) % len(spectrogram)]
