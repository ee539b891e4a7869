"""Clips whose sound is changed: as rows to attack, as files, and back through the ordinary preprocessing."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import numpy.typing as npt
import soundfile
import torch
from torch import Tensor

from rmer.data.audio.decoders import SAMPLE_RATE, quantise, read_signal
from rmer.data.audio.frontend import File2Spect
from rmer.data.audio.recordings import Recording, Samples, excerpts
from rmer.data.dataset import Dataset, Normalisation
from rmer.data.preparation.excerpts import excerpt
from rmer.data.splits import IntArray
from rmer.errors import DataErrors, UserError

# Raw log spectrograms of one recording, on two machines.
SAME_SPECTROGRAM = 1e-5


class FileError(AssertionError):
    """A file does not hold the sound that was written to it: a bug, or a full disk."""


@dataclass(frozen=True, eq=False)
class SoundFiles:
    """Some clips of a data set with their sound, and how a file becomes what a model gets.

    Attributes
    ----------
    clips : their names, which files are called by
    recordings : their decoded samples
    frames : of an excerpt
    file2spect, normalisation : the preprocessing of the data set, and the standardisation of the model
    """

    clips: tuple[str, ...]
    recordings: tuple[Recording, ...]
    frames: int
    file2spect: File2Spect
    normalisation: Normalisation

    def of(self, rows: Sequence[int]) -> SoundFiles:
        """Return some of the clips alone."""
        clips = tuple(self.clips[row] for row in rows)
        return replace(self, clips=clips, recordings=tuple(self.recordings[row] for row in rows))

    def rows(self) -> Tensor:
        """Return the clips as rows, float32 [clips, 1, cells] (:mod:`rmer.data.audio.recordings`)."""
        rows = [recording.row(self.frames) for recording in self.recordings]
        return torch.from_numpy(np.stack(rows))[:, np.newaxis]

    def write(self, rows: Tensor, folder: Path) -> list[Path]:
        """Write each clip whole, with the samples of its row [clips, 1, cells] in place, as 16-bit WAV files.

        Rows are cut off to whole steps; those of adversaries that were settled are whole.
        """
        folder.mkdir(parents=True, exist_ok=True)
        files = []
        for clip, recording, row in zip(self.clips, self.recordings, rows[:, 0].cpu().numpy(), strict=True):
            files.append(folder / f"{clip}.wav")
            whole = recording.replaced(row, self.frames)
            soundfile.write(files[-1], whole, SAMPLE_RATE, subtype="PCM_16", format="WAV")
        return files

    def read(self, files: Sequence[Path]) -> Tensor:
        """Return the rows of files that hold the clips, changed or not, shaped as :meth:`rows`.

        Rows are cut where the clip that was changed begins, so that a file of another length, start or peak
        gives another row.
        """
        rows = []
        for file, recording in zip(files, self.recordings, strict=True):
            samples, rate = soundfile.read(file, dtype="int16")
            if rate != SAMPLE_RATE or samples.shape != recording.samples.shape:
                raise FileError(
                    f"{file.name}: {samples.shape} samples at {rate} Hz are not those of the clip"
                )
            rows.append(Recording(samples, recording.start).row(self.frames))
        return torch.from_numpy(np.stack(rows))[:, np.newaxis]

    def spectrograms(self, files: Sequence[Path]) -> Tensor:
        """Return what the model gets of files: decoded, front end, excerpt, standardised.

        Float32 [clips, 1, frames, bands].
        """
        found = [
            excerpt(self.file2spect(file), recording.start, self.frames)
            for file, recording in zip(files, self.recordings, strict=True)
        ]
        return torch.from_numpy(self.normalisation.standardise(np.stack(found)))[:, np.newaxis]

    def samples(self, files: Sequence[Path], *, peak_normalised: bool) -> Tensor:
        """Return what a model that takes audio gets of files: decoded, the samples of the excerpt.

        Float32 [clips, samples] (:func:`rmer.data.audio.recordings.excerpts`).
        """
        decoded = (
            Recording(quantise(read_signal(file, self.file2spect.decoder).samples), recording.start)
            for file, recording in zip(files, self.recordings, strict=True)
        )
        return excerpts(decoded, self.frames, peak_normalised=peak_normalised)


def find_sound(dataset: Dataset, rows: IntArray, folder: Path, normalisation: Normalisation) -> SoundFiles:
    """Decode the recordings of some rows of a data set from the folder that it was made of.

    Raises DataErrors with every file that is missing, cannot be read, or is not what the data set was made
    of, which is judged by the spectrogram of its excerpt.
    """
    file2spect = File2Spect(str(dataset.frontend["decoder"]), str(dataset.frontend["frontend"]))
    file2spect.require()
    recordings, problems = [], []
    for row in rows:
        clip = dataset.clips.iloc[row]
        try:
            start = int(clip["excerpt_start"])
            recordings.append(_recording(folder / clip["file"], start, dataset.spectrograms[row], file2spect))
        except UserError as error:
            problems.append(f"clip {clip['clip']}: {error.what} ({folder / clip['file']})")
    if problems:
        mend = "Give the folder that preprocess was given as soundtracks_dir, or preprocess again"
        raise DataErrors(problems, where="sound of the data set", mend=mend)
    names = tuple(dataset.clips["clip"].iloc[rows])
    frames = int(dataset.spectrograms.shape[1])
    return SoundFiles(names, tuple(recordings), frames, file2spect, normalisation)


def _recording(
    file: Path, start: int, expected: npt.NDArray[np.float32], file2spect: File2Spect
) -> Recording:
    samples: Samples = quantise(read_signal(file, file2spect.decoder).samples)
    found = file2spect(file)
    heard = excerpt(found, start, len(expected))
    difference = float(np.abs(heard - expected).max())
    if difference > SAME_SPECTROGRAM:
        raise UserError(f"is another recording: its spectrogram differs by up to {difference:.2g}")
    return Recording(samples, start)
