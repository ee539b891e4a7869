"""Folds of a cross-validation: every clip is tested once, and no group lies in two parts."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
from noise_data import noise_dataset

from rmer.data.dataset import Dataset
from rmer.data.folds import fold_split
from rmer.data.splits import PARTS
from rmer.errors import UserError


def grouped_clips(clips: int, groups: int) -> tuple[list[str], list[str], np.ndarray]:
    """Return names, groups of unequal sizes, and labels that differ more between groups than within."""
    rng = np.random.default_rng(5)
    members = np.concatenate([np.arange(groups), rng.integers(0, max(1, groups // 3), clips - groups)])
    labels = rng.normal(0, 1, (groups, 4))[members] + rng.normal(0, 0.5, (clips, 4))
    return [f"{clip:03d}" for clip in range(clips)], [f"g{member}" for member in members], labels


@pytest.mark.parametrize(("clips", "groups", "folds"), [(120, 60, 10), (60, 20, 5), (40, 12, 3), (40, 40, 2)])
def test_every_clip_is_tested_once_and_no_group_is_torn_apart(clips: int, groups: int, folds: int) -> None:
    names, of, labels = grouped_clips(clips, groups)
    tested: list[int] = []
    for fold in range(1, folds + 1):
        parts = fold_split(names, of, labels, fold=fold, folds=folds, seed=42)
        assert tuple(parts) == PARTS
        assert sorted(np.concatenate(list(parts.values())).tolist()) == list(range(clips))
        held = [{of[row] for row in parts[part]} for part in PARTS]
        assert sum(map(len, held)) == len(set(of))
        assert 0.02 * clips <= len(parts["validation"]) <= 0.25 * clips
        tested += parts["test"].tolist()
    assert sorted(tested) == list(range(clips))


def test_folds_are_alike() -> None:
    """Of the standardised first component of the labels, the means of folds lie closer than by chance."""
    names, of, labels = grouped_clips(120, 60)
    centred = labels - labels.mean(0)
    component = centred @ np.linalg.svd(centred, full_matrices=False)[2][0]
    means = [
        component[fold_split(names, of, labels, fold=fold, folds=5, seed=42)["test"]].mean()
        for fold in range(1, 6)
    ]
    rng = np.random.default_rng(0)
    drawn = [[part.mean() for part in np.split(rng.permutation(component), 5)] for _ in range(200)]
    assert np.std(means) < np.median(np.std(drawn, axis=1))


def test_folds_depend_on_the_seed_and_not_on_the_order_of_clips() -> None:
    names, of, labels = grouped_clips(60, 20)
    split = fold_split(names, of, labels, fold=2, folds=5, seed=1)
    order = np.random.default_rng(0).permutation(60)
    shuffled = fold_split(
        [names[row] for row in order], [of[row] for row in order], labels[order], fold=2, folds=5, seed=1
    )
    assert {part: sorted(order[rows].tolist()) for part, rows in shuffled.items()} == {
        part: rows.tolist() for part, rows in split.items()
    }
    others = fold_split(names, of, labels, fold=2, folds=5, seed=2)
    assert others["test"].tolist() != split["test"].tolist()


def test_classes_are_in_every_fold() -> None:
    labels = np.repeat(np.eye(4), [10, 10, 30, 30], axis=0)
    names = [f"{clip:03d}" for clip in range(80)]
    for fold in range(1, 6):
        rows = fold_split(names, names, labels, fold=fold, folds=5, seed=3, kind="classes")["test"]
        assert labels[rows].sum(0).tolist() == [2, 2, 6, 6]


@pytest.mark.parametrize(("groups", "folds"), [(4, 5), (2, 2)])
def test_too_few_groups_are_told(groups: int, folds: int) -> None:
    names, of, labels = grouped_clips(20, groups)
    with pytest.raises(UserError, match=f"{groups} albums .* cannot make {folds} folds"):
        fold_split(names, of, labels, fold=1, folds=folds, seed=42)


def test_a_fold_that_there_is_not_is_refused() -> None:
    with pytest.raises(UserError, match="no fold 6 of 5"):
        fold_split(*grouped_clips(20, 10), fold=6, folds=5, seed=42)


def test_groups_of_a_data_set_are_albums_then_files_and_hold_duplicates() -> None:
    dataset = noise_dataset(["train"] * 6)
    clips = dataset.clips.assign(album=["a", "a", "b", "", "", ""], file=["", "", "", "x", "x", ""])
    pairs = (("001", "002"),)
    dataset = dataclasses.replace(dataset, clips=clips, duplicates=pairs)
    members = [dataset.groups().index(group) for group in dataset.groups()]
    assert members == [0, 0, 0, 3, 3, 5]


def test_the_split_of_a_fold_is_a_scheme_of_the_data_set() -> None:
    dataset: Dataset = noise_dataset(["train"] * 30)
    rows = [dataset.split("5-fold", fold)["test"] for fold in range(1, 6)]
    assert sorted(np.concatenate(rows).tolist()) == list(range(30))
    assert {len(found) for found in rows} <= {5, 6, 7}
