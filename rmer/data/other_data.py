"""A data set as a model that was trained on another one sees it: its own targets, its own standardisation."""

from __future__ import annotations

from dataclasses import replace

from rmer.data.dataset import Dataset
from rmer.data.splits import ALL
from rmer.data.standardised import Standardised, part_of
from rmer.errors import UserError

# What makes spectrograms of two data sets the same kind of input.
SAME_FRONTEND = ("sample_rate", "fps", "bands")


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


def on_other_data(own: Standardised, dataset: Dataset) -> Standardised:
    """Return what a model sees where all clips of another data set are tested.

    Mean, standard deviation and the box of valid inputs are those of its own data, whose training and
    validation part stay.
    """
    return replace(own, test=part_of(dataset, dataset.split(ALL)["test"], own.normalisation))
