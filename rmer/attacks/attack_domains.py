"""What an attack changes: spectrograms, or the sound of clips."""

from __future__ import annotations

from typing import Literal

Domain = Literal["spectrogram", "waveform"]
SPECTROGRAM: Domain = "spectrogram"
WAVEFORM: Domain = "waveform"
DOMAINS: tuple[Domain, ...] = (SPECTROGRAM, WAVEFORM)
