"""A trained model as it is served: rows of spectrograms or of audio in, a table of emotions out.

Everything here has to run where nothing of rmer is installed but this code: without madmom, so with the
front end of torch, and with the formats that libsndfile reads.
"""

from __future__ import annotations

import base64
import binascii
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import soundfile
from torch import nn

from rmer.data.audio.complaints import complaints_on_stderr
from rmer.data.audio.decoders import FULL_SCALE
from rmer.data.audio.filterbank import BANDS, FPS
from rmer.data.audio.frontend import FRAMES
from rmer.data.dataset import Normalisation
from rmer.data.preparation.songs import Song, read_song
from rmer.data.tables.rating_scale import RatingScale
from rmer.errors import UserError, shown
from rmer.evaluation.song_emotions import CONCEPT_UNITS, Audio2Emotions, SeedModel

AUDIO, PATH, SPECTROGRAM = COLUMNS = ("audio", "path", "spectrogram")
# Limits of a request: rows, characters of a recording in base64, minutes of a recording.
MOST_ROWS, MOST_CHARACTERS, MOST_MINUTES = 64, 64 * 2**20, 30.0


class ServedModel:
    """One trained model that predicts tables.

    ``network`` meets the model contract, ``described`` is what its training logged: targets, concepts,
    normalisation, front end, scale. ``folder`` is the one below which recordings are read that are given by
    their path; None: none are.
    """

    def __init__(self, network: nn.Module, described: Mapping[str, Any], folder: Path | None = None) -> None:
        self.emotions, self.concepts = tuple(described["targets"]), tuple(described["concepts"])
        self._folder = None if folder is None else folder.resolve()
        frames = int(described["frontend"].get("frames", FRAMES))
        self._hears = Audio2Emotions(
            (SeedModel("served", network),),
            self.emotions,
            self.concepts,
            Normalisation(**described["normalisation"]),
            frames,
            RatingScale(*described.get("rating_scale", ())),
            str(described.get("units", CONCEPT_UNITS)),
        )

    def predict(self, rows: pd.DataFrame) -> pd.DataFrame:
        """Return the emotions of each row, and the concepts where they have names, in rating points.

        A row has one of the columns ``audio`` (the bytes of a WAV, FLAC, Ogg or MP3 file in base64), ``path``
        (of such a file) and ``spectrogram`` (lists [frames, 149], raw: log10(1 + x), as preprocess makes
        them). Raises UserError where it has none or several, where one cannot be used, and over the limits.
        """
        unknown = [str(name) for name in rows if name not in COLUMNS]
        if unknown or not len(rows.columns):
            what = f"has the columns {shown(', '.join(unknown))}" if unknown else "has no column"
            raise UserError(what, where="input", mend=f"Give {', '.join(COLUMNS)}")
        if not 0 < len(rows) <= MOST_ROWS:
            mend = f"Give 1 to {MOST_ROWS}"
            raise UserError(f"has {len(rows)} rows", where="input", mend=mend)
        found = [self._predicted(row, f"row {place}") for place, row in enumerate(rows.to_dict("records"))]
        return pd.DataFrame(found, columns=self.columns)

    @property
    def columns(self) -> list[str]:
        """The columns of a prediction."""
        return [*self.emotions, *(f"concept_{name}" for name in self.concepts)]

    def _predicted(self, row: Mapping[Any, Any], where: str) -> list[float]:
        given = {str(name): value for name, value in row.items() if _is_given(value)}
        if len(given) != 1:
            what = f"holds {' and '.join(given) or 'nothing'}"
            raise UserError(what, where=where, mend=f"Give one of {', '.join(COLUMNS)}")
        ((kind, value),) = given.items()
        song = {AUDIO: self._of_audio, PATH: self._of_path, SPECTROGRAM: self._of_spectrogram}[kind](
            value, where
        )
        # Windows that do not overlap but for the last, as in `rmer predict`.
        heard = self._hears(song)
        conceived = heard.concept_curve.mean(axis=0) if self.concepts else np.zeros(0)
        return [float(value) for value in (*heard.mean, *conceived)]

    def _of_audio(self, text: Any, where: str) -> Song:
        if not isinstance(text, str):
            raise UserError("audio is no text", where=where, mend="Give the bytes of a file in base64")
        if len(text) > MOST_CHARACTERS:
            mend = f"Give at most {MOST_CHARACTERS // 2**20} MiB, in base64"
            raise UserError(f"audio has {len(text) / 2**20:.0f} MiB", where=where, mend=mend)
        try:
            content = base64.b64decode(text, validate=True)
        except (binascii.Error, ValueError) as error:
            mend = "Give the bytes of a WAV, FLAC, Ogg or MP3 file in base64"
            raise UserError("audio is no base64", where=where, mend=mend) from error
        with tempfile.TemporaryDirectory() as folder:
            file = Path(folder) / "audio"
            file.write_bytes(content)
            return self._of_file(file, where)

    def _of_path(self, text: Any, where: str) -> Song:
        if self._folder is None:
            mend = "Send audio, or set RMER_AUDIO_FOLDER to the folder whose files may be read"
            raise UserError("no file may be read here", where=where, mend=mend)
        path = (self._folder / str(text)).resolve()
        if not path.is_relative_to(self._folder) or not path.is_file():
            what = f"there is no file {shown(str(text))} in RMER_AUDIO_FOLDER"
            raise UserError(what, where=where, mend="Give a path relative to it")
        return self._of_file(path, where)

    def _of_file(self, file: Path, where: str) -> Song:
        """Read a file after a look at how long it lasts, as a small one may hold hours of silence."""
        try:
            with complaints_on_stderr():
                seconds = float(soundfile.info(file).duration)
        except soundfile.SoundFileError as error:
            mend = "Give a WAV, FLAC, Ogg or MP3 file"
            raise UserError("holds no audio that can be decoded", where=where, mend=mend) from error
        if seconds > 60 * MOST_MINUTES:
            what = f"lasts {seconds / 60:.0f} minutes"
            raise UserError(what, where=where, mend=f"Give at most {MOST_MINUTES:g}")
        try:
            return read_song(file, frontend="torch", frames=self._hears.frames)
        except UserError as error:  # without the name of a temporary file
            raise UserError(error.what, where=where, mend=error.mend) from error

    def _of_spectrogram(self, values: Any, where: str) -> Song:
        mend = f"Give lists [frames, {BANDS}] of numbers from 0, log10(1 + x) as preprocess makes them"
        try:
            spectrogram = np.asarray([list(frame) for frame in values], np.float32)
        except (TypeError, ValueError) as error:
            raise UserError("spectrogram is no table of numbers", where=where, mend=mend) from error
        if spectrogram.ndim != 2 or spectrogram.shape[1] != BANDS:
            raise UserError(f"spectrogram has the form {list(spectrogram.shape)}", where=where, mend=mend)
        if not np.isfinite(spectrogram).all() or spectrogram.min() < 0:
            raise UserError("spectrogram holds numbers below 0, or none", where=where, mend=mend)
        if len(spectrogram) > 60 * MOST_MINUTES * FPS:
            what = f"spectrogram has {len(spectrogram)} frames"
            raise UserError(what, where=where, mend=f"Give at most {60 * MOST_MINUTES * FPS:.0f}")
        return Song("", np.full(1, FULL_SCALE - 1, np.int16), spectrogram, "none")


def _is_given(value: Any) -> bool:
    """Tell whether a cell holds something: MLflow fills optional columns with None or NaN."""
    return value is not None and not (isinstance(value, float) and np.isnan(value))
