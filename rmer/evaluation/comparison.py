"""Is one system more robust than another, or as robust: one family of corrected comparisons."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from rmer.errors import UserError
from rmer.evaluation.bootstrap import DRAWS, SEED, estimate
from rmer.evaluation.endpoints import Endpoint, Floats
from rmer.evaluation.metrics import METRICS, Metric, under_attack
from rmer.evaluation.statistics import cliffs_delta, comparisons, hedges_g, holm, tost_welch, welch_seeds

ALPHA = 0.05
PRIMARY, SECONDARY = "delta/mae_clipped", "delta/corr"
MAE_MARGIN, CORR_MARGIN = METRICS["mae_clipped"].margin, METRICS["corr"].margin


@dataclass(frozen=True, eq=False)
class SystemSample:
    """The attacked models of one system: the same clips under each seed of the training.

    Attributes
    ----------
    name : The row of the tables that the models belong to.
    clips, albums : Names of the clips and of their albums, ``[clips]``; an album of ``""``, None or NaN is
        not known, and its clip counts as an album of its own.
    folds : Fold of each clip, ``[clips]``, of a cross-validation, else empty.
    labels : Ratings, ``[clips, targets]``.
    clean : Predictions for the clean clips, ``[seeds, clips, targets]``.
    adversarial : Metric that attacks aim at -> predictions for the adversaries that are worst by it, like
        ``clean`` (the same, where the attack had one aim).

    Raises ValueError when shapes do not match.
    """

    name: str
    clips: tuple[str, ...]
    albums: tuple[object, ...]
    labels: Floats
    clean: Floats
    adversarial: Mapping[str, Floats]
    folds: tuple[int, ...] = ()

    def __post_init__(self) -> None:
        shapes = [np.shape(array) for array in (self.clean, *self.adversarial.values())]
        expected = (np.shape(self.clean)[0], *np.shape(self.labels))
        if (
            any(shape != expected for shape in shapes)
            or not len(self.clips) == len(self.albums) == expected[1]
        ):
            raise ValueError(
                f"{self.name}: labels {np.shape(self.labels)} of {len(self.clips)} clips and "
                f"{len(self.albums)} albums do not match predictions {shapes}"
            )


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """System ``a`` against system ``b`` on one endpoint: a row of ``tables/comparisons.csv``.

    Attributes
    ----------
    endpoint : Its name: ``delta/corr``, ``adv/corr``.
    seeds_a, seeds_b, clips, albums, folds : How many of each; no folds without cross-validation.
    difference : Mean over seeds of ``a`` less that of ``b``, in units of the endpoint.
    low, high, p : 95 % t interval and two-sided p over seeds and albums, or folds; see
        :mod:`rmer.evaluation.bootstrap`.
    percentile_low, percentile_high : 95 % percentile interval of the crossed bootstrap, which is too narrow
        with few seeds or albums.
    p_holm : ``p``, corrected for all rows of the family.
    p_welch : Welch's test over seeds on these clips. It says nothing about other music.
    hedges_g, cliffs_delta : Sizes of the effect over seeds; positive where ``a`` has the higher values.
    margin, tost_p, tost_p_holm, tost_p_welch : Margin of equivalence, and p of the test *for* equivalence:
        over seeds and albums, that corrected for all rows, and over seeds alone.
    equivalent : Whether ``tost_p_holm`` is below .05. If not, equivalence is not shown, which shows no
        difference.
    """

    endpoint: str
    a: str
    b: str
    seeds_a: int
    seeds_b: int
    clips: int
    albums: int
    difference: float
    low: float
    high: float
    p: float
    percentile_low: float
    percentile_high: float
    p_holm: float = math.nan
    p_welch: float
    hedges_g: float
    cliffs_delta: float
    margin: float
    tost_p: float
    tost_p_holm: float = math.nan
    tost_p_welch: float
    equivalent: bool = False
    folds: int = 0


def endpoint_of(sample: SystemSample, endpoint: str) -> Endpoint:
    """Return a metric under attack (``adv/corr``), or what the attack adds to it (``delta/corr``)."""
    metric = _metric(endpoint)
    units = sample.albums, sample.folds
    attacked = metric.endpoint(sample.labels, sample.adversarial[metric.adversaries], *units)
    if endpoint.startswith("adv/"):
        return attacked
    return attacked - metric.endpoint(sample.labels, sample.clean, *units)


def usual_endpoints() -> list[str]:
    """Return the endpoints by which systems are compared: of metrics that have a margin of equivalence."""
    return [f"delta/{name}" for name, metric in under_attack().items() if metric.margin]


def compare_systems(
    samples: Sequence[SystemSample],
    reference: str,
    *,
    endpoints: Sequence[str] = (),
    margins: Mapping[str, float] | None = None,
    draws: int = DRAWS,
    seed: int = SEED,
) -> list[Comparison]:
    """Compare every other system with ``reference`` (every pair, where that is absent) on each endpoint.

    ``endpoints`` are by default those of :func:`usual_endpoints`; ``margins`` replaces the margins of some.

    The rows are one family. The p that enters Holm's correction is that of the t test over seeds and albums.
    It asks what the study claims: do the systems differ when trained again and on other music of this kind?
    And it keeps to its rate of false positives in simulation, as neither the percentile interval does, nor
    Welch's test where systems differ by album. ``difference`` is the other system's value less that of the
    reference.

    Raises UserError when two systems were attacked on different clips.
    """
    _check_same_clips(samples)
    names, rows, sizes = [sample.name for sample in samples], [], _sizes(samples[0])
    for endpoint in endpoints or usual_endpoints():
        scores = {sample.name: endpoint_of(sample, endpoint) for sample in samples}
        margin = (margins or {}).get(endpoint, _metric(endpoint).margin)
        for a, b in comparisons(names, reference):
            found = _compared(scores[a], scores[b], margin, draws, seed)
            rows.append(Comparison(endpoint=endpoint, a=a, b=b, **found | sizes))
    p_holm, tost_holm = holm([row.p for row in rows]), holm([row.tost_p for row in rows])
    return [
        dataclasses.replace(row, p_holm=float(p), tost_p_holm=float(tost), equivalent=bool(tost < ALPHA))
        for row, p, tost in zip(rows, p_holm, tost_holm, strict=True)
    ]


def _compared(a: Endpoint, b: Endpoint, margin: float, draws: int, seed: int) -> dict[str, Any]:
    """Return what a row says without names and without what the rest of the family decides."""
    difference = estimate(a, b, draws=draws, seed=seed)
    low, high = difference.interval()
    percentile_low, percentile_high = difference.percentile()
    x, y = a.per_seed, b.per_seed
    return {
        "seeds_a": len(x),
        "seeds_b": len(y),
        "difference": difference.value,
        "low": low,
        "high": high,
        "p": difference.p,
        "percentile_low": percentile_low,
        "percentile_high": percentile_high,
        "p_welch": welch_seeds(x, y)[2],
        "hedges_g": hedges_g(x, y),
        "cliffs_delta": cliffs_delta(x, y),
        "margin": margin,
        "tost_p": difference.tost(margin),
        "tost_p_welch": tost_welch(x, y, margin),
    }


def _sizes(sample: SystemSample) -> dict[str, int]:
    """Return how many clips, albums and folds there are; a clip without an album is one of its own."""
    named = {album for album in sample.albums if isinstance(album, str) and album}
    alone = sum(not (isinstance(album, str) and album) for album in sample.albums)
    return {"clips": len(sample.clips), "albums": len(named) + alone, "folds": len(set(sample.folds))}


def _metric(endpoint: str) -> Metric:
    return METRICS[endpoint.split("/")[1]]


def _check_same_clips(samples: Sequence[SystemSample]) -> None:
    names = [sample.name for sample in samples]
    if len(set(names)) < len(names):
        raise ValueError(f"a system occurs twice: {', '.join(names)}")
    for sample in samples[1:]:
        first, shape = samples[0], np.shape(sample.labels)
        same = sample.clips == first.clips and list(map(str, sample.albums)) == list(map(str, first.albums))
        same = same and shape == np.shape(first.labels) and sample.folds == first.folds
        if not same or not np.allclose(sample.labels, first.labels, rtol=0, atol=1e-6):
            what = "were attacked on different clips, or their clips have other albums or ratings"
            mend = "Compare attack runs of one data set and split"
            raise UserError(what, where=f"{first.name} and {sample.name}", mend=mend)
