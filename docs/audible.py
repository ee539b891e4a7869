"""Makes the sounds and the table of docs/audible.md: ``python docs/audible.py``."""

from __future__ import annotations

from functools import cache
from pathlib import Path

import numpy as np
import numpy.typing as npt
import soundfile
import torch

from rmer.data.audio.decoders import FULL_SCALE, SAMPLE_RATE, quantise
from rmer.data.audio.masking import bin_limits, istft, stft
from rmer.data.demo.design import draw_design
from rmer.data.demo.synthesis import synthesise
from rmer.evaluation.hearing.audibility import audibility
from rmer.report.listening.sound_files import raised_difference

Samples = npt.NDArray[np.int16]
Floats = npt.NDArray[np.float64]

PAGE = Path(__file__).with_name("audible.md")
FOLDER = Path(__file__).with_name("sounds")
SECONDS = 1.6
CLIP, CLIPS, SEED = 11, 12, 42  # of the demo data
ROUNDS = 50
BEGIN, END = "<!-- begin: written by audible.py -->\n", "<!-- end -->\n"


@cache
def sounds() -> dict[str, tuple[str, Samples]]:
    """Return name -> what was added to the music, and the sound, int16 [samples] at 22 050 Hz."""
    music = _music()
    white = np.random.default_rng(SEED).standard_normal(len(music))
    inaudible = _masked_noise(music, -6.0)
    threshold = _masked_noise(music, 0.0)
    return {
        "music": ("nothing", music),
        "masking-6": ("noise 6 dB below the masking threshold", _added(music, inaudible)),
        "white-masking-6": ("white noise of the same power", _added(music, white * inaudible.std())),
        "masking-0": ("noise at the masking threshold", _added(music, threshold)),
        "snr-40": ("white noise, 40 dB SNR", _added(music, _at_snr(music, white, 40.0))),
    }


def table() -> str:
    """Return the table of the page, in Markdown."""
    music = sounds()["music"][1]
    lines = [
        "| sound | added to the music | SNR | mean ratio | largest ratio | above the threshold |",
        "|---|---|---|---|---|---|",
    ]
    for name, (what, samples) in sounds().items():
        figures = ["", "", "", ""]
        if name != "music":
            found = audibility(music, samples)
            levels = (found.snr, found.mean_nmr, found.largest_nmr)
            figures = [*(f"{level:.0f} dB" for level in levels), f"{100 * found.audible:.1f} %"]
        lines.append(f"| [{name}](sounds/{name}.flac) | {what} | {' | '.join(figures)} |")
    return "\n".join(lines) + "\n"


def raised() -> tuple[Samples, float]:
    """Return the noise below the threshold alone, and by how many dB it was raised."""
    return raised_difference(sounds()["music"][1], sounds()["masking-6"][1])


def _music() -> Samples:
    design = draw_design(CLIPS, SEED)
    rng = np.random.default_rng(SEED)
    return quantise(
        synthesise(design.cues[CLIP], design.palettes[design.album[CLIP]], SECONDS, rng, floor=0.0)
    )


def _masked_noise(music: Samples, decibels: float) -> Floats:
    """Return noise whose magnitudes stay so many dB above what the music masks, in 16-bit steps [samples]."""
    limits = 10 ** (decibels / 20) * bin_limits(torch.as_tensor(music.astype(np.float64))[None])
    phases = 2 * torch.pi * torch.rand(limits.shape, generator=torch.Generator().manual_seed(SEED))
    noise = istft(torch.polar(limits, phases.double()), len(music))
    for _ in range(ROUNDS):
        spectra = stft(noise)
        noise = istft(spectra * (limits / spectra.abs()).clamp(max=1), len(music))
    return np.asarray(noise[0].numpy())


def _at_snr(music: Samples, noise: Floats, decibels: float) -> Floats:
    power = np.square(music.astype(np.float64)).mean() / np.square(noise).mean()
    return noise * np.sqrt(power) * 10 ** (-decibels / 20)


def _added(music: Samples, noise: Floats) -> Samples:
    return quantise((music + noise) / FULL_SCALE)


def main() -> None:
    """Write the sounds, and the table into the page."""
    FOLDER.mkdir(exist_ok=True)
    alone = {"masking-6-alone": raised()[0]}
    for name, samples in {**{name: sound for name, (_, sound) in sounds().items()}, **alone}.items():
        soundfile.write(FOLDER / f"{name}.flac", samples, SAMPLE_RATE, "PCM_16")
    before, rest = PAGE.read_text(encoding="utf-8").split(BEGIN)
    PAGE.write_text(before + BEGIN + table() + END + rest.split(END)[1], encoding="utf-8")
    print(f"masking-6-alone: raised by {raised()[1]:.1f} dB")


if __name__ == "__main__":
    main()
