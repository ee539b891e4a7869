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
from rmer.systems.audio_model import AudioModel
from rmer.systems.frozen import FrozenNetwork
from rmer.systems.listening_network import Ear, ListeningNetwork


@dataclass(frozen=True, eq=False, kw_only=True)
class SoundSubject(Subject):
    """A subject whose inputs are rows of samples; see :class:`rmer.evaluation.subject.Subject`.

    ``network`` listens (:class:`rmer.systems.listening_network.ListeningNetwork`), ``reader`` is the same
    model without ears: predictions are what it says to WAV files, written, read back and prepared for it as
    any recording of the data set.
    """

    reader: FrozenNetwork
    files: SoundFiles

    def first(self, clips: int) -> SoundSubject:
        return self.of(range(clips))

    def of(self, rows: Sequence[int]) -> SoundSubject:
        places = [row for row in rows if row < len(self.inputs)]
        inputs, labels = self.inputs[places], self.labels[places]
        return replace(self, inputs=inputs, labels=labels, files=self.files.of(places))

    @property
    def ear(self) -> Ear:
        """What the model gets of sounds."""
        listening = self.network.model
        assert isinstance(listening, ListeningNetwork)
        return listening.ear

    def heard(self, rows: Tensor) -> Tensor:
        """Return what the model gets of rows [clips, 1, cells]."""
        with torch.no_grad():
            clips = torch.split(rows.to(self.network.device), self.batch_size)
            return torch.cat([self.ear(some) for some in clips])

    def seen(self, inputs: Tensor) -> Tensor | None:
        return None if isinstance(self.reader.model, AudioModel) else self.heard(inputs)

    def predicted(self, inputs: Tensor) -> Floats:
        with tempfile.TemporaryDirectory() as folder:
            return self.read(self.files.write(inputs, Path(folder)), inputs)[0]

    def read(self, files: Sequence[Path], rows: Tensor) -> tuple[Floats, Tensor]:
        """Return the predictions for files that hold ``rows``, and what the model got of the files.

        Raises FileError where a file does not hold its row, or does not sound as the network that gradients
        are taken of hears it: then the adversaries are not adversaries of this model.
        """
        if not bool((self.files.read(files) == rows).all()):
            raise FileError("a file does not hold the samples that were written to it")
        heard = self.ear.of_files(self.files, files)
        differences = (self.heard(rows).cpu() - heard.cpu()).abs().flatten(1).amax(1)
        for clip, difference in enumerate(differences.tolist()):
            if not difference <= self.ear.rounding:
                what = f"what the model gets of the file misses what was attacked by {difference:.2g}"
                raise FileError(f"clip {self.files.clips[clip]}: {what}")
        return self.said_of(heard), heard

    def said_of(self, heard: Tensor) -> Floats:
        """Return the predictions for what the model gets of files, float64 [clips, targets]."""
        inputs = heard.to(self.reader.device, self.reader.dtype)
        return self.reader.predict_in_batches(inputs)["output"].double().cpu().numpy()
