"""The front end in torch: batched, differentiable, and equal to madmom's where madmom is not installed."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from rmer.data.audio.decoders import FULL_SCALE
from rmer.data.audio.filterbank import FRAME_SIZE, HOP, filterbank, silent_audio
from rmer.threads import torch_threads


class Audio2Spect(nn.Module):
    """Mono audio at 22 050 Hz to raw log spectrograms, within 2e-6 (float32) or 5e-7 (float64) of madmom.

    Rounding and truncation to 16 bit let the gradient through unchanged (straight-through), so that attacks
    can work on the waveform. ``dtype`` is that of the filterbank and the result; the transform runs in
    float64, because in float32 the quiet bands beside a loud tone come out wrong by 6e-6.
    """

    window: Tensor
    filters: Tensor

    def __init__(self, dtype: torch.dtype = torch.float32) -> None:
        super().__init__()
        window = np.hanning(FRAME_SIZE) / np.iinfo(np.int16).max
        self.register_buffer("window", torch.as_tensor(window), persistent=False)
        self.register_buffer("filters", torch.as_tensor(filterbank(), dtype=dtype), persistent=False)

    def forward(self, audio: Tensor, start: Tensor | None = None, frames: int | None = None) -> Tensor:
        """Return log spectrograms [batch, frames, 149].

        Parameters
        ----------
        audio : [batch, samples] in [-1, 1]; shorter clips are followed by zeros.
        start : [batch] first frame of each excerpt; without it, the whole spectrogram from frame 0.
        frames : Frames of an excerpt, repeated cyclically where the clip is shorter. Without it, those of the
            longest clip, and shorter ones are followed by the spectrogram of silence.

        Raises UserError when a clip is silent.
        """
        samples = normalise(audio)
        # The first sample that is not zero, and the length up to the last.
        sounding = (samples != 0).int()
        first = sounding.argmax(dim=1)
        length = samples.shape[1] - sounding.flip(1).argmax(dim=1) - first
        counts = torch.ceil(length / HOP).long()
        if frames is None:
            index = torch.arange(int(counts.max()), device=audio.device).expand(len(audio), -1)
        else:
            offset = torch.zeros_like(counts) if start is None else start
            index = (offset[:, None] + torch.arange(frames, device=audio.device)) % counts[:, None]
        begin = first[:, None] + (index.double() * HOP).long()
        position = begin[:, :, None] + torch.arange(FRAME_SIZE, device=audio.device)
        padded = nn.functional.pad(samples, (0, 1))
        position = position.clamp(max=samples.shape[1]).flatten(1)
        windows = padded.gather(1, position).reshape(*index.shape, FRAME_SIZE) * self.window
        spectrum = torch.fft.rfft(windows)[..., : FRAME_SIZE // 2].abs()
        return torch.log10(1 + spectrum.to(self.filters.dtype) @ self.filters)


class TorchAudio2Spect:
    """:class:`Audio2Spect` for one NumPy signal: float [samples] to float32 [frames, 149]."""

    def __init__(self) -> None:
        self._module = Audio2Spect()

    def __call__(self, audio: npt.NDArray[np.floating[Any]]) -> npt.NDArray[np.float32]:
        # One clip is too little to share: two threads take 1.6 times as long.
        with torch_threads(1), torch.no_grad():
            spectrogram = self._module(torch.as_tensor(audio)[None])[0]
        return np.asarray(spectrogram.numpy(), np.float32)


def normalise(audio: Tensor) -> Tensor:
    """Peak-normalise [batch, samples] as madmom does in int16; float64 integers, gradients straight through.

    The peak is that of int16 absolute values, among which that of -32768 is itself: where such a sample meets
    a lower peak, its normalised value wraps around.
    """
    full_scale = FULL_SCALE - 1
    steps = audio.double() * FULL_SCALE
    steps = (steps + (steps.round() - steps).detach()).clamp(-FULL_SCALE, full_scale)
    magnitudes = torch.where(steps == -FULL_SCALE, steps, steps.abs())
    peak = magnitudes.amax(dim=1, keepdim=True)
    if bool((peak == 0).any()):
        raise silent_audio()
    scaled = steps / (peak / full_scale)
    wrapped = (scaled.trunc() + FULL_SCALE).remainder(2 * FULL_SCALE) - FULL_SCALE
    return scaled + (wrapped - scaled).detach()
