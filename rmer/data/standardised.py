"""A data set as a model sees it: one split scheme, standardised tensors, and the box of valid inputs."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from torch import Tensor

from rmer.data.dataset import Dataset, Normalisation, fit_normalisation
from rmer.data.splits import PARTS, IntArray
from rmer.digests import text_digest
from rmer.errors import UserError

FitOn = Literal["all", "train"]


@dataclass(frozen=True)
class Part:
    """One part of a split: its rows of the data set's clip table, and float32 tensors.

    ``inputs`` [clips, 1, frames, bands] are standardised, ``labels`` [clips, targets] and, unless there are
    none, ``concepts`` [clips, concepts] lie in 0-1.
    """

    rows: IntArray
    inputs: Tensor
    labels: Tensor
    concepts: Tensor | None

    def __len__(self) -> int:
        return len(self.rows)

    def to(self, device: torch.device) -> Part:
        """Return the part with its tensors on ``device``."""
        concepts = None if self.concepts is None else self.concepts.to(device)
        return Part(self.rows, self.inputs.to(device), self.labels.to(device), concepts)


@dataclass(frozen=True)
class Standardised:
    """Training, validation and test part of a data set, and what standardised them.

    ``floor`` [bands] is standardised silence, ``ceiling`` [bands] the largest training value of each band.
    """

    train: Part
    validation: Part
    test: Part
    normalisation: Normalisation
    floor: Tensor
    ceiling: Tensor

    def part(self, name: str) -> Part:
        """Return the part called ``train``, ``validation`` or ``test``."""
        return {"train": self.train, "validation": self.validation, "test": self.test}[name]


def normalised_on(train_protocol: str) -> FitOn:
    """Return the clips that a training protocol fits mean and std on: all (published) or train."""
    return "all" if train_protocol == "published" else "train"


def standardise(dataset: Dataset, scheme: str, fit_on: FitOn, fold: int = 0) -> Standardised:
    """Split and standardise a data set; ``fold`` is that of a cross-validation.

    The published protocol fits mean and standard deviation on all clips, the corrected one on training
    clips. Raises UserError where a part of the split has no clip.
    """
    rows = dataset.split(scheme, fold)
    empty = [part for part in PARTS if not len(rows[part])]
    if empty:
        what = f"the {scheme} split has no {' and no '.join(empty)} clip"
        mend = "Give at least 11 clips, or another split scheme"
        raise UserError(what, where=f"data set of {len(dataset)} clips", mend=mend)
    normalisation = fit_normalisation(dataset.clips if fit_on == "all" else dataset.clips.iloc[rows["train"]])
    parts = {name: part_of(dataset, rows[name], normalisation) for name in PARTS}
    return Standardised(
        **parts,
        normalisation=normalisation,
        floor=torch.full((dataset.spectrograms.shape[2],), normalisation.silence, dtype=torch.float32),
        ceiling=parts["train"].inputs.amax(dim=(0, 1, 2)),
    )


def members_digest(dataset: Dataset, data: Standardised) -> str:
    """Return a digest of the clips of each part.

    In a cross-validation, duplicates and names of files decide, too, of which the data's own digest has none.
    """
    parts = (data.train, data.validation, data.test)
    return text_digest(*("\n".join(sorted(dataset.clips["clip"].iloc[part.rows])) for part in parts))


def part_of(dataset: Dataset, rows: IntArray, normalisation: Normalisation) -> Part:
    """Return some rows of a data set as one part, standardised."""
    concepts = dataset.concept_labels()
    return Part(
        rows=rows,
        inputs=torch.from_numpy(normalisation.standardise(dataset.spectrograms[rows])[:, np.newaxis]),
        labels=torch.from_numpy(dataset.emotion_labels()[rows]),
        concepts=None if concepts is None else torch.from_numpy(concepts[rows]),
    )
