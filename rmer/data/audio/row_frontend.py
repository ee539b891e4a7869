"""The front end of rows of samples: what :mod:`rmer.data.audio.recordings` cuts out of clips, as excerpts."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from rmer.data.audio.decoders import FULL_SCALE
from rmer.data.audio.recordings import HEADER, Header, row_samples
from rmer.data.audio.torch_frontend import Audio2Spect, places, truncated


class Rows2Spect(nn.Module):
    """Rows [batch, HEADER + samples] to raw log spectrograms of their excerpts, float32 [batch, frames, 149].

    A row counts as the sound of its samples rounded to whole 16-bit steps, as a file would hold them;
    rounding and truncation let gradients through (straight-through), the header and samples that may not
    change get none. ``transform`` is the arithmetic of the Fourier transform.
    """

    def __init__(self, frames: int, transform: torch.dtype = torch.float32) -> None:
        super().__init__()
        self.frames = frames
        self.transform = transform
        self.audio2spect = Audio2Spect()

    def forward(self, rows: Tensor) -> Tensor:
        header, steps = rows[:, :HEADER].detach(), rows[:, HEADER:]
        start, count = (header[:, at, None].long() for at in (Header.START, Header.COUNT))
        samples: Tensor = _Heard.apply(steps, header, self.transform)  # type: ignore[no-untyped-call]
        frame = (start + torch.arange(self.frames, device=rows.device)) % count
        # The samples of a row begin with the excerpt, those of a clip that it repeats with the clip itself.
        return self.audio2spect.spectrogram(samples, places(frame) - places(start))


class Rows2Samples(nn.Module):
    """Rows [batch, HEADER + samples] to the samples of their excerpts, float32 [batch, samples] in [-1, 1].

    These are the samples that the spectrogram of an excerpt is made of, as fractions of full scale or, with
    ``peak_normalised``, of the largest sample of the whole clip; all excerpts of so many frames are equally
    long (:func:`rmer.data.audio.recordings.row_samples`). A clip that is shorter is repeated, as its
    spectrogram is. Samples count as rounded to whole 16-bit steps; gradients as in :class:`Rows2Spect`.
    """

    def __init__(self, frames: int, *, peak_normalised: bool = False) -> None:
        super().__init__()
        self.frames, self.peak_normalised = frames, peak_normalised

    def forward(self, rows: Tensor) -> Tensor:
        header, steps = rows[:, :HEADER].detach(), rows[:, HEADER:]
        start, count, low, high = (
            header[:, at, None].long() for at in (Header.START, Header.COUNT, Header.LOW, Header.HIGH)
        )
        place = torch.arange(row_samples(self.frames), device=rows.device)
        whole = steps.detach().round()
        # Without a gradient where nothing may change, else as if it had not been rounded.
        steps = torch.where((place >= low) & (place < high), steps + (whole - steps).detach(), whole)
        # A clip that is repeated begins its row, and its last sample is the first that may not change again.
        repeated = count <= self.frames
        period = torch.where(repeated, high + 1, len(place))
        samples = steps.gather(1, (torch.where(repeated, places(start), 0) + place) % period)
        return samples / (header[:, Header.PEAK, None] if self.peak_normalised else FULL_SCALE)


class _Heard(torch.autograd.Function):
    """Steps of a row [batch, samples] as the front end hears them: rounded, scaled by the peak, truncated.

    Gradients pass rounding and truncation, to samples that may change. One function, clip by clip, as each
    pass over the samples takes its time.
    """

    @staticmethod
    def forward(ctx: Any, steps: Tensor, header: Tensor, transform: torch.dtype) -> Tensor:
        # In float64, or some quotients would be truncated to another step than in the file's front end.
        scale = header[:, Header.PEAK, None].double() / (FULL_SCALE - 1)
        ctx.save_for_backward(header, scale)
        heard = torch.empty_like(steps, dtype=transform)
        for clip, quotient, found in zip(steps, scale, heard, strict=True):
            found.copy_(truncated(clip.round().double().div_(quotient)))
        return heard

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Any:
        header, scale = ctx.saved_tensors
        # As numbers of the header's kind, whose comparisons take less time than those of whole ones.
        place = torch.arange(gradient.shape[1], dtype=header.dtype, device=gradient.device)
        passed = torch.empty_like(gradient, dtype=header.dtype)
        bounds = header[:, [Header.LOW, Header.HIGH]]
        for clip, quotient, (low, high), found in zip(
            gradient, scale.to(passed), bounds, passed, strict=True
        ):
            torch.div(clip, quotient, out=found).masked_fill_((place < low) | (place >= high), 0.0)
        return passed, None, None
