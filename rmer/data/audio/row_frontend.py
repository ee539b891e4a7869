"""The front end of rows of samples: what :mod:`rmer.data.audio.recordings` cuts out of clips, as excerpts."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from rmer.data.audio.recordings import HEADER, Header
from rmer.data.audio.torch_frontend import Audio2Spect, places, scaled_to_full


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
        place = torch.arange(steps.shape[1], device=rows.device)
        inside = (place >= header[:, Header.LOW, None]) & (place < header[:, Header.HIGH, None])
        steps = torch.where(inside, steps, steps.detach())
        steps = steps + (steps.round() - steps).detach()
        samples = scaled_to_full(steps.double(), header[:, Header.PEAK, None].double())
        frame = (start + torch.arange(self.frames, device=rows.device)) % count
        # The samples of a row begin with the excerpt, those of a clip that it repeats with the clip itself.
        return self.audio2spect.spectrogram(samples.to(self.transform), places(frame) - places(start))
