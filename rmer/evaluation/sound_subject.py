"""A model on the sound of clips: whatever is scored was a file first."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from torch import Tensor

from rmer.data.preparation.recording_files import FileError, SoundFiles
from rmer.evaluation.endpoints import Floats
from rmer.evaluation.subject import Subject
from rmer.systems.frozen import FrozenNetwork
from rmer.systems.listening_network import ListeningNetwork

# By how much the spectrogram of a file may miss the one that gradients were taken through, standardised
# units: 1e-5 of rounding, and steps of single samples make more than .01.
SAME_SOUND = 1e-3


@dataclass(frozen=True, eq=False, kw_only=True)
class SoundSubject(Subject):
    """A subject whose inputs are rows of samples; see :class:`rmer.evaluation.subject.Subject`.

    ``network`` listens (:class:`rmer.systems.listening_network.ListeningNetwork`), ``reader`` is the same
    model without ears: predictions are what it says to the spectrograms of WAV files, written, read back and
    preprocessed as any recording of the data set.
    """

    reader: FrozenNetwork
    files: SoundFiles

    def first(self, clips: int) -> SoundSubject:
        return self.of(range(clips))

    def of(self, rows: Sequence[int]) -> SoundSubject:
        places = [row for row in rows if row < len(self.inputs)]
        inputs, labels = self.inputs[places], self.labels[places]
        return replace(self, inputs=inputs, labels=labels, files=self.files.of(places))

    def seen(self, inputs: Tensor) -> Tensor:
        listening = self.network.model
        assert isinstance(listening, ListeningNetwork)
        with torch.no_grad():
            clips = torch.split(inputs.to(self.network.device), self.batch_size)
            return torch.cat([listening.spectrograms(some) for some in clips])

    def predicted(self, inputs: Tensor) -> Floats:
        with tempfile.TemporaryDirectory() as folder:
            return self.read(self.files.write(inputs, Path(folder)), inputs)[0]

    def read(self, files: Sequence[Path], rows: Tensor) -> tuple[Floats, Tensor]:
        """Return the predictions for files that hold ``rows``, and the spectrograms that they were made of.

        Raises FileError where a file does not hold its row, or does not sound as the network that gradients
        are taken of hears it: then the adversaries are not adversaries of this model.
        """
        if not bool((self.files.read(files) == rows).all()):
            raise FileError("a file does not hold the samples that were written to it")
        spectrograms = self.files.spectrograms(files)
        differences = (self.seen(rows).cpu() - spectrograms).abs().flatten(1).amax(1)
        for clip, difference in enumerate(differences.tolist()):
            if not difference <= SAME_SOUND:
                what = f"the spectrogram of the file misses the one that was attacked by {difference:.2g}"
                raise FileError(f"clip {self.files.clips[clip]}: {what}")
        inputs = spectrograms.to(self.reader.device, self.reader.dtype)
        return self.reader.predict_in_batches(inputs)["output"].double().cpu().numpy(), spectrograms
