"""Adversaries as a run keeps them, and as they are read back: what is scored is what is stored."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from rmer.data.audio.decoders import FULL_SCALE
from rmer.data.audio.masking import noise_to_mask
from rmer.data.audio.recordings import HEADER
from rmer.data.dataset import Normalisation
from rmer.evaluation.budgets import Point
from rmer.evaluation.sound_subject import SoundSubject
from rmer.evaluation.subject import Subject
from rmer.tracking import Artifact, Run

Columns = dict[str, np.ndarray]


@dataclass(frozen=True, eq=False)
class Saved:
    """Adversaries of each metric, the attack's main one first, as read back.

    ``inputs`` are what was attacked [clips, 1, ...], ``heard`` what the model gets of them [clips, ...];
    ``spectrograms`` are those of the main ones, standardised [clips, 1, frames, bands], and ``sizes`` columns
    of the per-clip table that measure these.
    """

    inputs: dict[str, Tensor]
    heard: dict[str, Tensor]
    spectrograms: Tensor
    sizes: Columns


def save(run: Run, subject: Subject, point: Point, normalisation: Normalisation) -> Saved:
    """Save what was found within one budget: arrays of spectrograms, or sounds as files."""
    if isinstance(subject, SoundSubject):
        return _save_sounds(run, subject, point)
    return _save_arrays(run, subject, point, normalisation)


def _save_arrays(run: Run, subject: Subject, point: Point, normalisation: Normalisation) -> Saved:
    saved: dict[str, Tensor] = {}
    for metric, adversaries in point.adversaries.items():
        file = run.work_dir / (f"{metric}.npy" if saved else Path(Artifact.ADVERSARIES).name)
        np.save(file, adversaries[:, 0].numpy().astype(np.float32), allow_pickle=False)
        run.file(file, str(Path(Artifact.ADVERSARIES).parent))
        saved[metric] = torch.from_numpy(np.load(file, allow_pickle=False))[:, None]
    result, main = point.results[0], next(iter(saved.values()))
    ratio = _signal_to_perturbation(normalisation, subject.inputs, main)
    return Saved(saved, saved, main, {"linf": result.linf.numpy(), "l2": result.l2.numpy(), "snr_db": ratio})


def _save_sounds(run: Run, subject: SoundSubject, point: Point) -> Saved:
    """Save one WAV file a clip and metric, ``adversaries/<metric>/<clip>.wav``."""
    inputs: dict[str, Tensor] = {}
    heard: dict[str, Tensor] = {}
    spectrograms: Tensor | None = None
    for metric, rows in point.adversaries.items():
        folder = run.work_dir / "sounds" / metric
        files = subject.files.write(rows, folder)
        _, heard[metric] = subject.read(files, rows)
        if spectrograms is None:
            audio = subject.seen(rows) is None
            spectrograms = subject.files.spectrograms(files) if audio else heard[metric]
        inputs[metric] = subject.files.read(files)
        run.file(folder, Artifact.SOUNDS)
    assert spectrograms is not None
    return Saved(inputs, heard, spectrograms, _sizes_of_sound(subject.inputs, next(iter(inputs.values()))))


def _sizes_of_sound(clean: Tensor, adversaries: Tensor) -> Columns:
    """Measure perturbations: norms in units of full scale, ratios to the clip and to what it masks in dB."""
    samples = clean[:, 0, HEADER:].double()
    delta = adversaries[:, 0, HEADER:].double() - samples
    ratio = 10 * (samples.square().sum(1) / delta.square().sum(1)).log10()
    masked = [
        noise_to_mask(*both) for both in zip(torch.split(samples, 1), torch.split(delta, 1), strict=True)
    ]
    loudest = torch.stack([found.max() for found in masked])
    return {
        "linf": (delta.abs().amax(1) / FULL_SCALE).numpy(),
        "l2": (delta.square().sum(1).sqrt() / FULL_SCALE).numpy(),
        "snr_db": torch.where(ratio.isfinite(), ratio, torch.nan).numpy(),
        "noise_to_mask_db": torch.where(loudest.isfinite(), loudest, torch.nan).numpy(),
        "audible_share": np.array([float((found > 0).double().mean()) for found in masked]),
    }


def _signal_to_perturbation(normalisation: Normalisation, inputs: Tensor, adversaries: Tensor) -> np.ndarray:
    """Power of the raw log spectrogram over the perturbation's, dB [clips]; NaN where the latter is zero."""
    signal = inputs.double() * normalisation.std + normalisation.mean
    perturbation = (adversaries.double() - inputs.double()) * normalisation.std
    ratio = signal.square().sum((1, 2, 3)) / perturbation.square().sum((1, 2, 3))
    return torch.where(ratio.isfinite(), 10 * ratio.log10(), torch.nan).numpy()
