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
        return self.spectrogram(samples, first[:, None] + places(index))

    def spectrogram(self, samples: Tensor, begin: Tensor) -> Tensor:
        """Return the log spectrogram [batch, frames, 149] of frames that begin at ``begin`` [batch, frames].

        ``samples`` [batch, samples] are peak-normalised steps, with silence after them; the transform runs
        in their arithmetic.
        """
        begin = begin.clamp(max=samples.shape[1])  # all later ones are silent
        spectrum: Tensor = _Magnitudes.apply(samples, begin, self.window.to(samples))  # type: ignore[no-untyped-call]
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
    return scaled_to_full(steps, peak)


def scaled_to_full(steps: Tensor, peak: Tensor) -> Tensor:
    """Scale 16-bit steps, float64, so that ``peak`` becomes 32767; truncated, gradients straight through."""
    scaled: Tensor = _Truncated.apply(steps / (peak / (FULL_SCALE - 1)))  # type: ignore[no-untyped-call]
    return scaled


def truncated(scaled: Tensor) -> Tensor:
    """Return values cut off to 16 bit, of the same type; those beyond wrap around."""
    return scaled.to(torch.int32).to(torch.int16).to(scaled)


def places(frames: Tensor) -> Tensor:
    """Return the first sample of each frame (int64, of any shape), from the first that sounds."""
    return (frames.double() * HOP).long()


class _Truncated(torch.autograd.Function):
    """Truncation to 16 bit, where what exceeds them wraps around; gradients pass unchanged."""

    @staticmethod
    def forward(ctx: Any, scaled: Tensor) -> Tensor:
        return truncated(scaled)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Any:
        return gradient


class _Magnitudes(torch.autograd.Function):
    """Magnitudes [batch, frames, 1024] of the windowed Fourier transforms of frames of [batch, samples].

    By hand, as autograd transforms all 2048 bins on the way back and takes three times as long; clip by clip,
    as what one clip needs stays in the caches of a CPU.
    """

    @staticmethod
    def forward(ctx: Any, samples: Tensor, begin: Tensor, window: Tensor) -> Tensor:
        padded = nn.functional.pad(samples, (0, FRAME_SIZE))
        magnitudes = samples.new_empty(*begin.shape, FRAME_SIZE // 2)
        spectra = []
        for clip, first, found in zip(padded, begin, magnitudes, strict=True):
            spectrum = torch.fft.rfft(_windows_at(clip, first, window))
            _write_magnitudes(spectrum, found)
            if ctx.needs_input_grad[0]:
                spectra.append(spectrum)
        ctx.save_for_backward(magnitudes, begin, window, *spectra)
        ctx.samples = samples.shape[1]
        return magnitudes

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Any:
        magnitudes, begin, window, *spectra = ctx.saved_tensors
        summed = gradient.new_zeros(len(begin), ctx.samples + FRAME_SIZE)
        # All bins but the first stand for their mirror images, too, which have the other half.
        halved, tiny = window / 2, torch.finfo(magnitudes.dtype).tiny
        for clip, first, found, spectrum, given in zip(
            summed, begin, magnitudes, spectra, gradient, strict=True
        ):
            weights = torch.clamp_min(found, tiny)
            torch.div(given, weights, out=weights)
            weights[:, 0] *= 2
            windows = torch.fft.irfft(_scaled(spectrum, weights), FRAME_SIZE, norm="forward").mul_(halved)
            _add_at(clip, first, windows)
        return summed[:, : ctx.samples], None, None


def _windows_at(clip: Tensor, first: Tensor, window: Tensor) -> Tensor:
    """Return windows [frames, 2048] of a clip [samples], each from its ``first`` sample on."""
    if not _by_hand(clip):
        return clip.unfold(0, FRAME_SIZE, 1)[first].mul_(window)
    samples, shape = clip.numpy(), window.numpy()
    windows = np.empty((len(first), FRAME_SIZE), samples.dtype)
    for begin, frame in zip(first.tolist(), windows, strict=True):
        np.multiply(samples[begin : begin + FRAME_SIZE], shape, out=frame)
    return torch.from_numpy(windows)


def _write_magnitudes(spectrum: Tensor, found: Tensor) -> None:
    """Write the magnitudes of all bins but the last of a spectrum [frames, 1025] to ``found``."""
    if _by_hand(spectrum):  # torch takes five times as long
        np.abs(spectrum.numpy()[:, :-1], out=found.numpy())
    else:
        found.copy_(spectrum[:, :-1].abs())


def _scaled(spectrum: Tensor, weights: Tensor) -> Tensor:
    """Return a spectrum [frames, 1025] times real weights of all bins but the last, which becomes 0."""
    scaled = torch.empty_like(spectrum)
    scaled[:, -1] = 0
    if _by_hand(spectrum):  # torch makes the weights complex first
        np.multiply(spectrum.numpy()[:, :-1], weights.numpy(), out=scaled.numpy()[:, :-1])
    else:
        torch.mul(spectrum[:, :-1], weights, out=scaled[:, :-1])
    return scaled


def _add_at(clip: Tensor, first: Tensor, windows: Tensor) -> None:
    """Add windows [frames, 2048] to a clip [samples] in place, each from its ``first`` sample on."""
    if _by_hand(clip):
        summed, frames = clip.numpy(), windows.numpy()
        for begin, frame in zip(first.tolist(), frames, strict=True):
            summed[begin : begin + FRAME_SIZE] += frame
        return
    inside = torch.arange(FRAME_SIZE, device=first.device)
    clip.scatter_add_(0, (first[:, None] + inside).flatten(), windows.flatten())


def _by_hand(clip: Tensor) -> bool:
    """Say whether numpy takes windows one by one: in a third of the time of indices, but not compiled."""
    return clip.device.type == "cpu" and not torch.compiler.is_compiling()
