"""A data set as a model that was trained on another one sees it: its own targets, its own standardisation."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from rmer.data.dataset import Dataset
from rmer.data.splits import ALL, IntArray
from rmer.data.standardised import Standardised, part_of
from rmer.errors import UserError

# What makes spectrograms of two data sets the same kind of input.
SAME_FRONTEND = ("sample_rate", "fps", "bands")
# What is known of a whole clip, and by how much it may differ between two readings of one file, relatively.
WHOLE_CLIP, SAME_CLIP = ("spec_mean", "spec_mean_square", "spec_frames"), 1e-6


class UnlikeDataError(UserError):
    """A model cannot be tested on a data set that it was not trained on."""


def as_targets_of(dataset: Dataset, own: Dataset, *, where: str) -> Dataset:
    """Return ``dataset`` with the targets, and if it has them all the concepts, of ``own``, in their order.

    Names decide; further targets are left out. The digest stays, as nothing of the data has changed. Raises
    UnlikeDataError where a target is missing, labels are of another kind (ratings, classes, tags), or
    spectrograms were made otherwise.
    """
    missing = [name for name in own.emotions if name not in dataset.emotions]
    if missing:
        mend = f"It has {', '.join(dataset.emotions)}; preprocess it with targets=new=old to rename some"
        raise UnlikeDataError(f"lacks {', '.join(missing)}, which the model predicts", where=where, mend=mend)
    if dataset.labels != own.labels:
        what = f"its targets are {dataset.labels}, those of the model's own data {own.labels}"
        raise UnlikeDataError(what, where=where, mend="Name a data set of the same kind")
    if other := [key for key in SAME_FRONTEND if dataset.frontend.get(key) != own.frontend.get(key)]:
        what = f"its spectrograms have another {', '.join(other)} than those that the model was trained on"
        raise UnlikeDataError(what, where=where, mend="Preprocess both data sets alike")
    concepts = own.concepts if set(own.concepts) <= set(dataset.concepts) else ()
    found = replace(dataset, emotions=own.emotions, concepts=concepts)
    vars(found)["digest"] = dataset.digest
    return found


def learnt_clips(own: Dataset, rows: IntArray, other: Dataset) -> list[str]:
    """Return the clips of ``other`` that are among ``rows`` of the data that a model was trained on.

    Clips are known by mean, mean square and length of their whole spectrograms, whatever the excerpt, the
    targets or the scale; not, if a decoder or front end reads them otherwise.
    """
    mine, theirs = (data.clips[list(WHOLE_CLIP)].to_numpy(np.float64) for data in (own, other))
    mine, counts = np.unique(mine[rows], axis=0, return_counts=True)
    mine = mine[counts == 1]  # what several clips share tells none of them
    alike = np.isclose(theirs[:, None], mine[None], rtol=SAME_CLIP, atol=0).all(2).any(1)
    return [str(name) for name in other.clips["clip"][alike]]


def on_other_data(own: Standardised, dataset: Dataset) -> Standardised:
    """Return what a model sees where all clips of another data set are tested.

    Mean, standard deviation and the box of valid inputs are those of its own data, whose training and
    validation part stay.
    """
    return replace(own, test=part_of(dataset, dataset.split(ALL)["test"], own.normalisation))
