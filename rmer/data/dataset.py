"""A data set ready for training and attacks: spectrogram excerpts, labels and splits in memory, and on disk.

On disk it is a folder of ``spectrograms.npy``, ``clips.csv`` and ``dataset.json``, all readable without rmer.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, get_args

import numpy as np
import pandas as pd

from rmer.data.clip_table import MEND, read_clip_table, read_duplicates, require_file
from rmer.data.csv_tables import TEXT_COLUMNS, write_table
from rmer.data.folds import fold_split, folds_of
from rmer.data.splits import ALL, PARTS, SPLIT_SEED, FloatArray, IntArray, grouped, published_order
from rmer.data.tables.class_labels import LabelKind
from rmer.errors import UserError
from rmer.files import whole

EMOTIONS = ("valence", "energy", "tension", "anger", "fear", "happy", "sad", "tender")
CONCEPTS = (
    "melody",
    "articulation",
    "rhythm_complexity",
    "rhythm_stability",
    "dissonance",
    "atonality",
    "mode",
)

# Labels and what models predict of them: ratings, divided by the largest that raters could give.
RATING_SCALE = (0.0, 1.0)

SPECTROGRAMS_FILE = "spectrograms.npy"
CLIPS_FILE = "clips.csv"
DATASET_FILE = "dataset.json"
DUPLICATES_FILE = "duplicates.csv"
FORMAT = 1

_REQUIRED_COLUMNS = ("clip", "file", "album", "track", "spec_mean", "spec_mean_square", "split_published")


@dataclass(frozen=True, eq=False)
class Dataset:
    """Clips of one data set, in the order of the ratings file.

    ``spectrograms`` holds raw log10(1 + x) excerpts, float32 [clips, frames, bands]. ``clips`` has one row
    a clip: ``clip``, ``file``, ``album``, ``track``, the emotions and concepts (0-1), ``spec_mean``,
    ``spec_mean_square`` and ``spec_frames`` of the full spectrogram, ``excerpt_start``, ``split_published``
    and, where there are any, ``split_album`` and ``split_official``. ``concepts`` is empty where there are
    none. ``frontend`` says how the spectrograms were made, ``name`` what the data set is called (data sets
    of before do not say), ``labels`` what its targets are (:mod:`rmer.data.tables.class_labels`),
    ``duplicates`` pairs of clips of one recording.
    """

    spectrograms: FloatArray
    clips: pd.DataFrame
    emotions: tuple[str, ...]
    concepts: tuple[str, ...]
    frontend: dict[str, str | int | float]
    name: str = ""
    labels: LabelKind = "ratings"
    duplicates: tuple[tuple[str, str], ...] = ()

    def __post_init__(self) -> None:
        problems = _problems(self)
        if problems:
            raise UserError("; ".join(problems), where="data set", mend=MEND)

    def __len__(self) -> int:
        return len(self.clips)

    @cached_property
    def digest(self) -> str:
        """16 hex digits over the spectrograms and the parsed clip table; file names do not count."""
        content = hashlib.sha256(json.dumps([self.emotions, self.concepts]).encode())
        for name in sorted(set(self.clips.columns) - {"file"}):
            column = self.clips[name]
            content.update(f"{name}\n".encode())
            if name in TEXT_COLUMNS:
                content.update(json.dumps(column.tolist()).encode())
            else:
                content.update(np.ascontiguousarray(column.to_numpy(np.float64), "<f8").tobytes())
        content.update(json.dumps(self.spectrograms.shape).encode())
        content.update(np.ascontiguousarray(self.spectrograms, "<f4").data)
        return content.hexdigest()[:16]

    def emotion_labels(self) -> FloatArray:
        """Return the targets, float32 [clips, K], 0-1."""
        return self.clips[list(self.emotions)].to_numpy(np.float32)

    def concept_labels(self) -> FloatArray | None:
        """Return the concepts, float32 [clips, C], 0-1; None where the data set has none."""
        return self.clips[list(self.concepts)].to_numpy(np.float32) if self.concepts else None

    def split(self, scheme: str, fold: int = 0) -> dict[str, IntArray]:
        """Return row indices of train, validation and test under ``scheme`` (published, album or official).

        Clips of a published part come in the order in which the published ``random_split`` drew them, clips
        of other parts in the order of the table. Of a cross-validation (``5-fold``), ``fold`` is tested, of
        ``all`` every clip.
        """
        if folds := folds_of(scheme):
            seed = int(self.frontend.get("split_seed", SPLIT_SEED))
            names, labels = self.clips["clip"].tolist(), self.emotion_labels()
            return fold_split(
                names, self.groups(), labels, fold=fold, folds=folds, seed=seed, kind=self.labels
            )
        if scheme == ALL:
            none = np.arange(0)
            return {"train": none, "validation": none, "test": np.arange(len(self))}
        column = f"split_{scheme}"
        if column not in self.clips:
            known = [name[6:] for name in map(str, self.clips.columns) if name.startswith("split_")]
            mend = f"Splits of this data set: {', '.join(known)}"
            if scheme == "album":
                mend += ". The album split needs a track list at preprocess"
            raise UserError(f"no split {scheme!r}", where="data set", mend=mend)
        labels = self.clips[column].to_numpy()
        order = published_order(len(self)) if scheme == "published" else np.arange(len(self))
        return {part: order[labels[order] == part] for part in PARTS}

    def groups(self) -> list[str]:
        """Return the group of each clip that no fold tears apart: album, else recording, else the clip."""
        names = self.clips["clip"].tolist()
        rows = {name: row for row, name in enumerate(names)}
        albums = [
            f"album {album}" if album else f"file {file}" if file else f"clip {name}"
            for album, file, name in self.clips[["album", "file", "clip"]].itertuples(index=False)
        ]
        return grouped(albums, [(rows[first], rows[second]) for first, second in self.duplicates])

    def save(self, folder: Path) -> None:
        """Write the data set into ``folder``; each file appears whole, the description last."""
        description = {
            "format": FORMAT,
            "name": self.name,
            "labels": self.labels,
            "digest": self.digest,
            "emotions": list(self.emotions),
            "concepts": list(self.concepts),
            "shape": list(self.spectrograms.shape),
            "frontend": self.frontend,
        }
        with whole(folder / SPECTROGRAMS_FILE) as file, file.open("wb") as stream:
            np.save(stream, np.ascontiguousarray(self.spectrograms, np.float32), allow_pickle=False)
        with whole(folder / CLIPS_FILE) as file:
            write_table(self.clips, file)
        with whole(folder / DATASET_FILE) as file:
            file.write_text(json.dumps(description, indent=2) + "\n", encoding="utf-8")

    def sizes(self, scheme: str, fold: int = 0) -> dict[str, int]:
        """Return the number of clips, and of those in each part of a split."""
        parts = {part: len(rows) for part, rows in self.split(scheme, fold).items()}
        return {"clips": len(self), **parts}

    @classmethod
    def load(cls, folder: Path) -> Dataset:
        """Read a folder that :meth:`save` wrote. Raises UserError where a file is missing, cut or altered."""
        folder = Path(folder)
        description = _read_description(folder / DATASET_FILE)
        dataset = cls(
            spectrograms=_read_spectrograms(folder / SPECTROGRAMS_FILE),
            clips=read_clip_table(folder / CLIPS_FILE),
            emotions=tuple(description["emotions"]),
            concepts=tuple(description["concepts"]),
            frontend=dict(description["frontend"]),
            name=str(description.get("name", "")),
            labels=description.get("labels", "ratings"),
            duplicates=read_duplicates(folder / DUPLICATES_FILE),
        )
        if dataset.digest != description["digest"]:
            what = f"contents do not match their digest {description['digest']} in {DATASET_FILE}"
            raise UserError(what, where=str(folder), mend=MEND)
        return dataset


@dataclass(frozen=True)
class Normalisation:
    """Standardisation of raw log spectrograms: ``(raw - mean) / std``, one number each for all bands."""

    mean: float
    std: float

    def standardise(self, raw: FloatArray) -> FloatArray:
        """Return standardised float32 spectrograms of the same shape, computed in float32 as published."""
        centred = np.asarray(raw, np.float32) - np.float32(self.mean)
        return np.asarray(centred / np.float32(self.std), np.float32)

    @property
    def silence(self) -> float:
        """Standardised value of a raw 0, the lowest value that a spectrogram can take."""
        return -self.mean / self.std


def fit_normalisation(clips: pd.DataFrame) -> Normalisation:
    """Fit on the rows given (all clips as published, training clips as corrected), in float64.

    ``mean`` is the mean of per-clip means; ``std`` the root of the mean over clips of the mean squared
    deviation of a clip's full spectrogram from ``mean`` (not pooled: every clip counts the same).
    """
    if clips.empty:
        raise UserError("no clips to fit the normalisation on", where="data set")
    means = clips["spec_mean"].to_numpy(np.float64)
    mean = float(means.mean())
    deviations = clips["spec_mean_square"].to_numpy(np.float64) - 2 * mean * means + mean**2
    std = float(np.sqrt(max(deviations.mean(), 0.0)))
    if not (np.isfinite(mean) and std > 0):
        what = f"spectrograms cannot be standardised (mean {mean}, std {std})"
        raise UserError(what, where="data set", mend="Check that the audio is not silent")
    return Normalisation(mean, std)


def _read_description(path: Path) -> dict[str, Any]:
    require_file(path)
    try:
        description = json.loads(path.read_text(encoding="utf-8"))
        known = description["format"] == FORMAT
        complete = (
            isinstance(description.get("digest"), str)
            and isinstance(description.get("frontend"), dict)
            and all(isinstance(description.get(key), list) for key in ("emotions", "concepts"))
            and all(isinstance(name, str) for name in description["emotions"] + description["concepts"])
            and description.get("labels", "ratings") in get_args(LabelKind)
        )
    except OSError as error:
        raise UserError(f"is not a data set ({error.strerror})", where=str(path), mend=MEND) from error
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise UserError("is not a description of a data set", where=str(path), mend=MEND) from error
    if not (known and complete):
        raise UserError(f"is not a data set of format {FORMAT}", where=str(path), mend=MEND)
    return dict(description)


def _read_spectrograms(path: Path) -> FloatArray:
    require_file(path)
    try:
        array = np.load(path, allow_pickle=False)
    except OSError as error:
        raise UserError(f"cannot be read ({error.strerror or error})", where=str(path), mend=MEND) from error
    except Exception as error:  # of a damaged file numpy raises many kinds, those of zip and tokenize, too
        what = f"is not a whole array ({type(error).__name__})"
        raise UserError(what, where=str(path), mend=MEND) from error
    if not isinstance(array, np.ndarray) or array.dtype != np.float32:
        raise UserError("is not a float32 array", where=str(path), mend=MEND)
    return array


def _problems(dataset: Dataset) -> list[str]:
    clips, targets = dataset.clips, [*dataset.emotions, *dataset.concepts]
    problems = []
    missing = [name for name in [*_REQUIRED_COLUMNS, *targets] if name not in clips]
    if missing:
        problems.append(f"the clip table lacks {', '.join(missing)}")
    if not dataset.emotions:
        problems.append("there is no target")
    if dataset.spectrograms.ndim != 3:
        problems.append(f"spectrograms have {dataset.spectrograms.ndim} dimensions, not 3")
    elif len(dataset.spectrograms) != len(clips):
        problems.append(f"{len(dataset.spectrograms)} spectrograms but {len(clips)} clips")
    if not missing:
        numbers = clips[targets].select_dtypes("number")
        if numbers.shape[1] < len(targets) or not np.isfinite(numbers.to_numpy(float)).all():
            problems.append("labels are not all finite numbers")
        if clips["clip"].duplicated().any():
            problems.append("clip names occur twice")
    return problems
