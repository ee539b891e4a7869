"""Is one system more robust than another, or as robust: one family of corrected comparisons."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from rmer.errors import UserError
from rmer.evaluation.bootstrap import (
    DRAWS,
    SEED,
    Endpoint,
    correlation_endpoint,
    estimate,
    mean_endpoint,
)
from rmer.evaluation.metrics import clip_to_scale
from rmer.evaluation.statistics import (
    cliffs_delta,
    comparisons,
    hedges_g,
    holm,
    tost_welch,
    welch_seeds,
)

ALPHA = 0.05
MAE_MARGIN, CORR_MARGIN = 0.02, 0.05

Floats = npt.NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class SystemSample:
    """The attacked models of one system: the same clips under each seed of the training.

    Attributes
    ----------
    name
        The row of the tables that the models belong to.
    clips, albums
        Names of the clips and of their albums, ``[clips]``; an album of ``""``, None or NaN is not known, and
        its clip counts as an album of its own.
    labels
        Ratings, ``[clips, targets]``.
    clean, adversarial_mae, adversarial_corr
        Predictions, ``[seeds, clips, targets]``: for the clean clips, for the adversaries that are worst by
        clipped MAE, and for those that are worst by correlation (the same, where the attack had one aim).

    Raises
    ------
    ValueError
        When shapes do not match.
    """

    name: str
    clips: tuple[str, ...]
    albums: tuple[object, ...]
    labels: Floats
    clean: Floats
    adversarial_mae: Floats
    adversarial_corr: Floats

    def __post_init__(self) -> None:
        shapes = [np.shape(array) for array in (self.clean, self.adversarial_mae, self.adversarial_corr)]
        expected = (np.shape(self.clean)[0], *np.shape(self.labels))
        if (
            any(shape != expected for shape in shapes)
            or not len(self.clips) == len(self.albums) == expected[1]
        ):
            raise ValueError(
                f"{self.name}: labels {np.shape(self.labels)} of {len(self.clips)} clips and "
                f"{len(self.albums)} albums do not match predictions {shapes}"
            )


@dataclass(frozen=True)
class Comparison:
    """System ``a`` against system ``b`` on one endpoint: a row of ``tables/comparisons.csv``.

    Attributes
    ----------
    endpoint
        A name in :data:`ENDPOINTS`.
    seeds_a, seeds_b, clips, albums
        How many of each.
    difference
        Mean over seeds of ``a`` less that of ``b``, in units of the endpoint.
    low, high, p
        95 % t interval and two-sided p over seeds and albums; see :mod:`rmer.evaluation.bootstrap`.
    percentile_low, percentile_high
        95 % percentile interval of the crossed bootstrap, which is too narrow with few seeds or albums.
    p_holm
        ``p``, corrected for all rows of the family.
    p_welch
        Welch's test over seeds on these clips. It says nothing about other music.
    hedges_g, cliffs_delta
        Sizes of the effect over seeds; positive where ``a`` has the higher values.
    margin, tost_p, tost_p_holm, tost_p_welch
        Margin of equivalence, and p of the test *for* equivalence: over seeds and albums, that corrected for
        all rows, and over seeds alone.
    equivalent
        Whether ``tost_p_holm`` is below .05. If not, equivalence is not shown, which shows no difference.
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
    p_holm: float
    p_welch: float
    hedges_g: float
    cliffs_delta: float
    margin: float
    tost_p: float
    tost_p_holm: float
    tost_p_welch: float
    equivalent: bool


def clipped_mae_delta(sample: SystemSample) -> Endpoint:
    """Primary endpoint: how much the attack adds to the MAE of predictions clipped to the rating scale."""
    after, before = (
        np.abs(clip_to_scale(predictions) - sample.labels).mean(axis=-1)
        for predictions in (sample.adversarial_mae, sample.clean)
    )
    return mean_endpoint(after - before, sample.albums)


def correlation_delta(sample: SystemSample) -> Endpoint:
    """Secondary endpoint: correlation under the attack on correlation, less the clean one."""
    return attacked_correlation(sample) - correlation_endpoint(sample.labels, sample.clean, sample.albums)


def attacked_correlation(sample: SystemSample) -> Endpoint:
    """Return the correlation under the attack on correlation."""
    return correlation_endpoint(sample.labels, sample.adversarial_corr, sample.albums)


ENDPOINTS: Mapping[str, Callable[[SystemSample], Endpoint]] = {
    "delta/mae_clipped": clipped_mae_delta,
    "delta/corr": correlation_delta,
    "adv/corr": attacked_correlation,
}
MARGINS = {"delta/mae_clipped": MAE_MARGIN, "delta/corr": CORR_MARGIN, "adv/corr": CORR_MARGIN}
PRIMARY, SECONDARY = "delta/mae_clipped", "delta/corr"


def compare_systems(
    samples: Sequence[SystemSample],
    reference: str,
    *,
    endpoints: Sequence[str] = (PRIMARY, SECONDARY),
    margins: Mapping[str, float] = MARGINS,
    draws: int = DRAWS,
    seed: int = SEED,
) -> list[Comparison]:
    """Compare every other system with ``reference`` (every pair, where that is absent) on each endpoint.

    The rows are one family. The p that enters Holm's correction is that of the t test over seeds and albums.
    It asks what the study claims: do the systems differ when trained again and on other music of this kind?
    And it keeps to its rate of false positives in simulation, as neither the percentile interval does, nor
    Welch's test where systems differ by album. ``difference`` is the other system's value less that of the
    reference.

    Raises
    ------
    UserError
        When two systems were attacked on different clips.
    """
    _check_same_clips(samples)
    names, rows = [sample.name for sample in samples], []
    for endpoint in endpoints:
        scores = {sample.name: ENDPOINTS[endpoint](sample) for sample in samples}
        for a, b in comparisons(names, reference):
            row = _compare(scores[a], scores[b], margins[endpoint], draws, seed)
            rows.append(dataclasses.replace(row, endpoint=endpoint, a=a, b=b))
    p_holm, tost_holm = holm([row.p for row in rows]), holm([row.tost_p for row in rows])
    return [
        dataclasses.replace(row, p_holm=float(p), tost_p_holm=float(tost), equivalent=bool(tost < ALPHA))
        for row, p, tost in zip(rows, p_holm, tost_holm, strict=True)
    ]


def _compare(a: Endpoint, b: Endpoint, margin: float, draws: int, seed: int) -> Comparison:
    """Return a row without names and without what the rest of the family decides."""
    difference = estimate(a, b, draws=draws, seed=seed)
    low, high = difference.interval()
    percentile_low, percentile_high = difference.percentile()
    x, y = a.per_seed, b.per_seed
    return Comparison(
        endpoint="",
        a="",
        b="",
        seeds_a=len(x),
        seeds_b=len(y),
        clips=int(a.sizes.sum()),
        albums=len(a.sizes),
        difference=difference.value,
        low=low,
        high=high,
        p=difference.p,
        percentile_low=percentile_low,
        percentile_high=percentile_high,
        p_holm=math.nan,
        p_welch=welch_seeds(x, y)[2],
        hedges_g=hedges_g(x, y),
        cliffs_delta=cliffs_delta(x, y),
        margin=margin,
        tost_p=difference.tost(margin),
        tost_p_holm=math.nan,
        tost_p_welch=tost_welch(x, y, margin),
        equivalent=False,
    )


def _check_same_clips(samples: Sequence[SystemSample]) -> None:
    names = [sample.name for sample in samples]
    if len(set(names)) < len(names):
        raise ValueError(f"a system occurs twice: {', '.join(names)}")
    for sample in samples[1:]:
        first = samples[0]
        same = sample.clips == first.clips and list(map(str, sample.albums)) == list(map(str, first.albums))
        if not same or not _same_labels(sample.labels, first.labels):
            raise UserError(
                "were attacked on different clips, or their clips have other albums or ratings",
                where=f"{first.name} and {sample.name}",
                mend="Compare attack runs of one data set and split",
            )


def _same_labels(a: Floats, b: Floats) -> bool:
    return np.shape(a) == np.shape(b) and np.allclose(a, b, rtol=0, atol=1e-6)
