"""Where the recordings of a data set lie, and their samples, decoded once a process."""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path

import numpy as np

from rmer.data.dataset import Dataset, Normalisation
from rmer.data.preparation.recording_files import SoundFiles, find_sound
from rmer.errors import UserError
from rmer.tracking import Store, Tag


def sound_folder(store: Store, dataset_run_id: str, given: str) -> str:
    """Return the folder of the recordings: the one given, else that of preprocess; empty where unknown."""
    return given or store.get(dataset_run_id).tags.get(Tag.SOUNDTRACKS_DIR, "")


def found_recordings(dataset: Dataset, rows: tuple[int, ...], folder: str, dataset_run_id: str) -> SoundFiles:
    """Return the recordings of some rows of a data set, not yet standardised (mean 0, standard deviation 1).

    Raises UserError where the folder is not known, and what :func:`find_sound` raises.
    """
    if not folder:
        mend = "Give soundtracks_dir, the folder that preprocess was given"
        what = "the data set was preprocessed before its runs said where the recordings lie"
        raise UserError(what, where=f"run {dataset_run_id}", mend=mend)
    return _decoded(dataset, rows, folder)


@lru_cache(maxsize=2)  # the many models of a study hear the same clips: some in training, others in attacks
def _decoded(dataset: Dataset, rows: tuple[int, ...], folder: str) -> SoundFiles:
    return find_sound(dataset, np.array(rows), Path(folder), Normalisation(0.0, 1.0))
