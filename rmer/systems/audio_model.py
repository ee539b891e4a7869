"""Models that take audio: the samples of an excerpt, with a front end of their own, which gradients pass."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from rmer.data.audio.decoders import SAMPLE_RATE
from rmer.data.audio.recordings import row_samples
from rmer.data.audio.resampling import Resampling
from rmer.errors import UserError, shown
from rmer.systems.network import Prediction

# What a model's metadata say of it; ``takes`` is "spectrogram" where nothing is said.
TAKES, RATE, PEAK = "takes", "sample_rate", "peak_normalised"
AUDIO, SPECTROGRAM = "audio", "spectrogram"
RATES = (4000, 192_000)


class AudioModel(nn.Module):
    """A model of the contract around a network that maps samples [batch, samples] to its targets.

    It takes the samples of excerpts at 22 050 Hz, float32 in [-1, 1]; ``network`` gets them at ``rate``,
    which they are resampled to in the graph. With ``peak_normalised`` they are to be given as fractions of
    the largest sample of the whole clip (:class:`rmer.data.audio.row_frontend.Rows2Samples`), else of full
    scale. Raises UserError for a rate that they cannot be resampled to.
    """

    needs_float32: ClassVar[bool] = True  # samples have 16 bit, of which bfloat16 keeps half

    def __init__(self, network: nn.Module, *, rate: int = SAMPLE_RATE, peak_normalised: bool = False) -> None:
        super().__init__()
        self.network, self.rate, self.peak_normalised = network, rate, peak_normalised
        self.resampling: nn.Module = nn.Identity()
        if rate != SAMPLE_RATE:
            try:
                if not RATES[0] <= rate <= RATES[1]:
                    raise ValueError(f"{rate} is not from {RATES[0]} to {RATES[1]}")
                self.resampling = Resampling(SAMPLE_RATE, rate)
            except ValueError as error:
                mend = f"Give the usual rate next to it, such as {SAMPLE_RATE}, 16000 or 44100"
                what = f"no model is given sound at {rate} Hz ({error})"
                raise UserError(what, where=RATE, mend=mend) from error
        self.training = network.training

    def forward(self, samples: Tensor) -> Prediction:
        """Map [batch, samples] to ``output`` [batch, targets] and ``c_prob`` [batch, concepts] or None."""
        found: Any = self.network(self.resampling(samples))
        return {"output": found, "c_prob": None} if isinstance(found, Tensor) else found


def hearing(network: nn.Module, described: Mapping[str, Any], *, where: str) -> nn.Module:
    """Return a network as what its metadata say that it takes: itself for spectrograms, or an AudioModel.

    Raises UserError for anything else that it could take, or a rate that is no number of Hz.
    """
    takes = described.get(TAKES, SPECTROGRAM)
    if takes not in (AUDIO, SPECTROGRAM):
        what = f"takes {shown(str(takes))}"
        raise UserError(what, where=where, mend=f"Let its metadata say {AUDIO} or {SPECTROGRAM}")
    if takes == SPECTROGRAM:
        return network
    rate = described.get(RATE, SAMPLE_RATE)
    if isinstance(rate, bool) or not isinstance(rate, int):
        what = f"{RATE} is {shown(str(rate))}"
        raise UserError(what, where=where, mend="Give a whole number of Hz")
    return AudioModel(network, rate=rate, peak_normalised=described.get(PEAK) is True)


def excerpt_samples(frames: int, rate: int = SAMPLE_RATE) -> int:
    """Return how many samples a model of a rate is given of an excerpt of so many frames."""
    return -(-row_samples(frames) * rate // SAMPLE_RATE)


def example_samples(frames: int, clips: int = 2) -> Tensor:
    """Return noise that any model that takes audio may be tried on, float32 [clips, samples]."""
    generator = torch.Generator().manual_seed(0)
    return 0.1 * torch.randn(clips, row_samples(frames), generator=generator).clamp(-5, 5)
