"""How much of a disturbance the model of masking calls audible, and how loud it is."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from rmer.data.audio.masking import noise_to_mask
from rmer.errors import UserError

Samples = npt.NDArray[np.int16]


@dataclass(frozen=True)
class Audibility:
    """Figures of one clip and its adversary, in dB.

    ``snr`` is the power of the clip over that of the difference, infinite where there is none. The
    others are of the noise-to-mask ratios of all bands and frames: the largest, the mean of the ratios of
    power (as in ITU-R BS.1387), and the share above 0 dB.
    """

    snr: float
    largest_nmr: float
    mean_nmr: float
    audible: float


def audibility(clean: Samples, adversary: Samples) -> Audibility:
    """Measure the difference of two clips, int16 [samples] at 22 050 Hz.

    Raises UserError when they differ in length or are empty.
    """
    require_equal_lengths(clean, adversary)
    original, difference = _row(clean), _row(adversary) - _row(clean)
    ratios = noise_to_mask(original, difference)
    return Audibility(
        snr=_decibels(original.square().sum() / difference.square().sum()),
        largest_nmr=float(ratios.max()),
        mean_nmr=_decibels((10 ** (ratios / 10)).mean()),
        audible=float((ratios > 0).double().mean()),
    )


def require_equal_lengths(clean: Samples, adversary: Samples) -> None:
    """Raise UserError where two clips cannot be compared sample by sample."""
    if len(clean) != len(adversary) or not len(clean):
        what = f"clips of {len(clean)} and {len(adversary)} samples cannot be compared"
        raise UserError(what, where="listening", mend="Pass the whole clip and the whole adversary")


def _row(samples: Samples) -> Tensor:
    return torch.as_tensor(samples.astype(np.float64))[None]


def _decibels(ratio: Tensor) -> float:
    return float(10 * ratio.log10())
