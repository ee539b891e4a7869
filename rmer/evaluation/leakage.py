"""Concept leakage: whether the units of a bottleneck carry more than the concepts that they are named after.

A unit may tell of the emotions, or of other concepts, what the rated concept does not: then its name says too
little, and explanations by it mislead. Two measures compare mutual informations I of predicted and of rated
concepts (Parisini et al., "Leakage and Interpretability in Concept-Based Models", arXiv:2504.14094, 2025):

* **concepts-task leakage** of a concept: max(0, I(predicted; emotion) - I(rated; emotion)) / H(emotion),
  averaged over emotions;
* **inter-concept leakage** of two concepts: what I(a; b) / sqrt(H(a) H(b)) of the predicted ones exceeds that
  of the rated ones by, at least 0; that of a concept is the average over the others.

All are continuous, so I is estimated from the nearest neighbours (Kraskov, Stögbauer & Grassberger 2004, by
scikit-learn), and H(x) stands for the estimate of I(x; x), which depends on the number of clips alone. Both
measures are in 0-1, and above 0 by chance: the estimates scatter with few clips.

The **control** says how far: it is the same measure of the ratings with the errors of other clips, which are
as inaccurate as the predicted concepts and cannot tell more than the ratings do.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd
from sklearn.feature_selection import mutual_info_regression

from rmer.evaluation.concepts import AttackedConcepts
from rmer.evaluation.endpoints import Floats

NEIGHBOURS = 3  # as in the paper
CONTROLS = 10  # shuffles of the errors
FEWEST_CLIPS = 8  # an estimate from fewer says nothing
TASK, BETWEEN = "task_leakage", "inter_leakage"


def leakage_table(model: AttackedConcepts, *, seed: int = 0, shuffles: int = CONTROLS) -> pd.DataFrame:
    """Return one row a concept: its leakage on clean clips, and that of the control.

    Columns: ``concept``, ``task_leakage``, ``task_leakage_control``, ``inter_leakage``,
    ``inter_leakage_control``; controls are means over so many shuffles, drawn with ``seed``. NaN where there
    are fewer than 8 clips, or a rating is missing.
    """
    names = (TASK, f"{TASK}_control", BETWEEN, f"{BETWEEN}_control")
    if len(model.clips) < FEWEST_CLIPS or not np.isfinite(model.rated).all():
        return pd.DataFrame({"concept": model.layer.concepts, **dict.fromkeys(names, np.nan)})
    rng = np.random.default_rng(seed)
    errors = model.clean - model.rated
    shams = [model.rated + rng.permutation(errors) for _ in range(shuffles)]
    emotions = model.labels, _wholes(model.labels)
    known = _told(model.rated, *emotions), _shared(model.rated)
    found = _leaks(model.clean, *emotions, known)
    control = np.mean([_leaks(sham, *emotions, known) for sham in shams], axis=0)
    values = found[0], control[0], found[1], control[1]
    return pd.DataFrame({"concept": model.layer.concepts, **dict(zip(names, values, strict=True))})


def leakage_means(table: pd.DataFrame) -> dict[str, float]:
    """Return the mean of each column of :func:`leakage_table` over the concepts."""
    return {name: float(table[name].mean()) for name in table.columns if name != "concept"}


def _leaks(
    concepts: Floats, labels: Floats, wholes: Floats, known: Sequence[Floats]
) -> tuple[Floats, Floats]:
    """Return both measures of each concept, [concepts]; ``known`` are informations of the rated ones."""
    task = np.maximum(0, _told(concepts, labels, wholes) - known[0]).mean(axis=1)
    between = np.maximum(0, _shared(concepts) - known[1])
    others = max(1, len(between) - 1)
    return task, between.sum(axis=1) / others


def _wholes(labels: Floats) -> Floats:
    """Return H(emotion), [emotions]."""
    return np.array([_information(label[:, np.newaxis], label)[0] for label in labels.T])


def _told(concepts: Floats, labels: Floats, wholes: Floats) -> Floats:
    """Return I(concept; emotion) / H(emotion), [concepts, emotions]; ``wholes`` are the latter."""
    told: Floats = np.stack([_information(concepts, label) for label in labels.T], 1) / wholes
    return told


def _shared(concepts: Floats) -> Floats:
    """Return I(a; b) / sqrt(H(a) H(b)) of every two concepts, [concepts, concepts]; 0 of one with itself."""
    informations = np.stack([_information(concepts, concept) for concept in concepts.T])
    informations = (informations + informations.T) / 2  # estimates are not quite symmetric
    whole = np.sqrt(np.maximum(np.diag(informations), np.finfo(float).tiny))
    normalised: Floats = informations / np.outer(whole, whole)
    np.fill_diagonal(normalised, 0)
    return normalised


def _information(concepts: Floats, other: Floats) -> Floats:
    """Return the estimated mutual information of each concept [clips, concepts] and another value [clips]."""
    found: Floats = mutual_info_regression(concepts, other, n_neighbors=NEIGHBOURS, random_state=0)
    return found
