"""Scores of one system as functions of how much each album, or fold, counts: means, errors, correlations."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

# What is smaller than this share of the whole is rounding error.
ROUNDING = 1e-12
# A score without a value is NaN, and no cause for a warning.
QUIET = np.errstate(invalid="ignore", divide="ignore", over="ignore")

Floats = npt.NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Endpoint:
    """One system's score in each of its seeds.

    ``sizes`` are numbers of clips of each album, ``[albums]``. ``scores`` maps weights ``[draws, albums]``
    (how often each album counts) to scores ``[draws, seeds]``, NaN where a score has no value. Of a
    cross-validation, folds stand where else albums do, and ``overlap`` is the number of clips that each
    tests, as a share of all others (its models were trained or stopped by these); 0 without one.
    """

    sizes: Floats
    scores: Callable[[Floats], Floats]
    overlap: float = 0.0

    @property
    def per_seed(self) -> Floats:
        """Scores of the seeds over all clips, ``[seeds]``."""
        values: Floats = self.scores(np.ones((1, len(self.sizes))))[0]
        return values

    def __sub__(self, before: Endpoint) -> Endpoint:
        """Return what the same seeds gained over ``before``, another score on the same clips."""
        check_albums(self, before)
        return Endpoint(
            self.sizes, lambda weights: self.scores(weights) - before.scores(weights), self.overlap
        )


@QUIET
def mean_endpoint(values: npt.ArrayLike, albums: Sequence[object]) -> Endpoint:
    """Return the mean over clips of ``values`` ``[seeds, clips]``, every clip counting the same.

    ``albums`` ``[clips]`` names the album of each clip; a clip without (``""``, None, NaN) is one of its own.
    """
    array, members = np.asarray(values, dtype=np.float64), _members(albums)
    if array.ndim != 2 or not array.shape[0] or array.shape[1] != members.shape[1]:
        raise ValueError(f"values must be [seeds, {members.shape[1]} clips], not {array.shape}")
    sizes, sums = members.sum(axis=1), array @ members.T
    return Endpoint(sizes, lambda weights: weights @ sums.T / (weights @ sizes)[:, None])


@QUIET
def error_endpoint(
    values: npt.ArrayLike, albums: Sequence[object], link: Callable[[Floats], Floats] | None = None
) -> Endpoint:
    """Return ``link`` of the mean of ``values`` ``[seeds, clips, targets]`` over clips, averaged.

    ``link`` (the root, say) works on each target alone; ``albums`` are as for :func:`mean_endpoint`.
    """
    array = np.asarray(values, dtype=np.float64)
    if link is None:
        return mean_endpoint(array.mean(axis=-1), albums)
    members = _members(albums)
    sizes, sums = members.sum(axis=1), np.tensordot(array, members, (1, 1))

    @QUIET
    def scores(weights: Floats) -> Floats:
        shares = weights / (weights @ sizes)[:, None]
        mean: Floats = np.moveaxis(link(sums @ shares.T), -1, 0).mean(axis=-1)
        return mean

    return Endpoint(sizes, scores)


def correlation_endpoint(
    labels: npt.ArrayLike, predictions: npt.ArrayLike, albums: Sequence[object]
) -> Endpoint:
    """Return the Pearson correlation over clips, averaged over targets.

    ``labels`` are ``[clips, targets]``, ``predictions`` ``[seeds, clips, targets]``; ``albums`` as for
    :func:`mean_endpoint`. As in :mod:`rmer.evaluation.metrics`, a target whose labels are constant in a draw
    is left out of that draw's average; a seed whose predictions are constant there has no value.
    """
    members = _members(albums)
    true, predicted = np.asarray(labels, dtype=np.float64), np.asarray(predictions, dtype=np.float64)
    if true.ndim != 2 or len(true) != members.shape[1] or predicted.shape[1:] != true.shape:
        raise ValueError(
            f"labels must be [{members.shape[1]} clips, targets], not {true.shape}, and predictions "
            f"[seeds, clips, targets], not {predicted.shape}"
        )
    # Centred first, so that sums of squares lose no digits.
    x, y = true - true.mean(axis=0), predicted - predicted.mean(axis=1, keepdims=True)
    sizes = members.sum(axis=1)
    sums = [np.tensordot(part, members, (-2, 1)) for part in (x, x**2, y, y**2, x * y)]
    floors = [
        np.where(np.ptp(raw, axis=-2) > 0, ROUNDING * (part**2).mean(axis=-2), math.inf)
        for raw, part in ((true, x), (predicted, y))
    ]

    @QUIET
    def scores(weights: Floats) -> Floats:
        shares = weights / (weights @ sizes)[:, None]
        mx, mxx, my, myy, mxy = (np.moveaxis(part @ shares.T, -1, 0) for part in sums)
        vx, vy = mxx - mx**2, myy - my**2
        vx[vx <= floors[0]], vy[vy <= floors[1]] = math.nan, math.nan
        r = np.clip((mxy - mx[:, None] * my) / np.sqrt(vx[:, None] * vy), -1, 1)
        rated = np.isfinite(vx)[:, None]
        mean: Floats = np.where(rated, r, 0).sum(axis=-1) / rated.sum(axis=-1)
        return mean

    return Endpoint(sizes, scores)


def over_folds(folds: Sequence[Endpoint]) -> Endpoint:
    """Return the mean of each seed's scores in the folds of a cross-validation, every clip counting the same.

    What is no mean over clips, such as a correlation, is thus one of each fold. Predictions of different
    models are not put into one correlation: its sign would suffer from their different means, which lie the
    farther from those of the tested clips, the farther these lie from the others (Parker, Günter and Bedo,
    "Stratification bias in low signal microarray studies", BMC Bioinformatics 8:326, 2007), and attacks on
    correlation are on that of the clips that one model is tested on.
    """
    sizes = np.array([fold.sizes.sum() for fold in folds])
    values = np.array([fold.per_seed for fold in folds])  # [folds, seeds]

    @QUIET
    def scores(weights: Floats) -> Floats:
        counted = weights * sizes
        # A fold that was not drawn has no say, also where its score has no value.
        known = np.where(np.isfinite(values), values, 0.0)
        missing = (counted > 0).astype(float) @ ~np.isfinite(values) > 0
        mean: Floats = np.where(missing, math.nan, counted @ known / counted.sum(axis=1, keepdims=True))
        return mean

    return Endpoint(sizes, scores, overlap=1 / (len(folds) - 1))


def check_albums(*endpoints: Endpoint) -> None:
    """Raise ValueError where endpoints are over different clips: their albums differ in number or size."""
    if not all(np.array_equal(endpoint.sizes, endpoints[0].sizes) for endpoint in endpoints):
        raise ValueError("scores are over different clips: their albums differ in number or size")


def _members(albums: Sequence[object]) -> Floats:
    """Return which clip belongs to which album, ``[albums, clips]`` of 0 and 1; albums sorted by name."""
    names = [
        (0, album, 0) if isinstance(album, str) and album else (1, "", clip)
        for clip, album in enumerate(albums)
    ]
    if not names:
        raise ValueError("there is no clip")
    rows = {name: row for row, name in enumerate(sorted(set(names)))}
    return np.eye(len(rows))[:, [rows[name] for name in names]]
