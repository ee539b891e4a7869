"""Folds of a cross-validation, which no album straddles: each is tested by models that did not see it."""

from __future__ import annotations

import re
import warnings
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
from sklearn.model_selection import StratifiedGroupKFold

from rmer.data.splits import FloatArray, IntArray
from rmer.data.tables.class_labels import LabelKind
from rmer.errors import UserError

SCHEME = re.compile(r"([1-9]\d*)-fold")
STRATA = 5
VALIDATION = 0.1
_MEND = "Give fewer folds, at least 2, or more clips"


def scheme_of(folds: int) -> str:
    """Return the split scheme of a cross-validation, ``5-fold``."""
    return f"{folds}-fold"


def folds_of(scheme: str) -> int:
    """Return the number of folds of a split scheme, 0 where it is no cross-validation."""
    found = SCHEME.fullmatch(scheme)
    return int(found[1]) if found else 0


def fold_split(
    names: Sequence[str],
    groups: Sequence[str],
    labels: FloatArray,
    *,
    fold: int,
    folds: int,
    seed: int,
    kind: LabelKind = "ratings",
) -> dict[str, IntArray]:
    """Return the ascending row indices of train, validation and test, where ``fold`` (from 1) is tested.

    Clips of a group stay together. Folds have like shares of the classes or, of other targets, of
    :data:`STRATA` equally large ranges of their first principal component; validation clips, about a tenth
    of all, are whole groups of what is not tested (scikit-learn's StratifiedGroupKFold, twice). Neither
    depends on the order of the clips.

    ``names``, ``groups`` [clips] and ``labels`` [clips, K] are those of each clip. Raises UserError where
    there are too few groups, or is no such fold.
    """
    if not 1 <= fold <= folds:
        raise UserError(f"there is no fold {fold} of {folds}", where="data set", mend="Count folds from 1")
    order = np.argsort(np.asarray(names, dtype=str), kind="stable")
    of, classes = np.asarray(groups, dtype=str)[order], _strata(labels[order], kind)
    few = f"{len(set(of))} albums (or clips without one) cannot make {folds} folds, with others to train on"
    if not 2 <= folds <= len(set(of)):
        raise UserError(few, where="data set", mend=_MEND)
    test = _tested(of, classes, folds, seed)[fold - 1]
    rest = np.setdiff1d(np.arange(len(order)), test)
    parts = min(max(2, round(len(rest) / len(order) / VALIDATION)), len(set(of[rest])))
    if parts < 2:
        raise UserError(few, where="data set", mend=_MEND)
    validation = rest[_tested(of[rest], classes[rest], parts, seed)[0]]
    rows = {"train": np.setdiff1d(rest, validation), "validation": validation, "test": test}
    if not all(len(part) for part in rows.values()):
        raise UserError(few, where="data set", mend=_MEND)
    return {part: np.sort(order[found]) for part, found in rows.items()}


def _tested(
    groups: npt.NDArray[np.str_], classes: IntArray, folds: int, seed: int
) -> list[npt.NDArray[np.intp]]:
    """Return the rows of each fold."""
    # Where no class could be in every fold, there is nothing to balance.
    balanced = classes if np.bincount(classes).max() >= folds else np.zeros_like(classes)
    splitter = StratifiedGroupKFold(folds, shuffle=True, random_state=seed)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # of classes smaller than that
        return [test for _, test in splitter.split(groups, balanced, groups)]


def _strata(labels: FloatArray, kind: LabelKind) -> IntArray:
    """Return what folds are balanced by, [clips]; rounded, so that it does not hang on the last bit."""
    values = np.asarray(labels, np.float64)
    if kind == "classes":
        return np.asarray(values.argmax(axis=1), np.int64)
    spread = values.std(0)
    standardised = (values - values.mean(0)) / np.where(spread > 0, spread, 1)
    axis = np.linalg.svd(standardised, full_matrices=False)[2][0].round(9)
    axis *= np.sign(axis[np.abs(axis).argmax()])  # either direction is an axis
    places = (standardised @ axis).round(9).argsort(kind="stable").argsort(kind="stable")
    return np.asarray(places * STRATA // len(values), np.int64)
