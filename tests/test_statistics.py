"""Tests between systems: the published p values, what becomes of them over seeds, and undefined cases."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from scipy import stats

from rmer.data.dataset import EMOTIONS
from rmer.data.published_logs import read_published_logs
from rmer.evaluation.metrics import clip_errors
from rmer.evaluation.statistics import comparisons, paired_t, welch_seeds

ErrorsOfSystems = dict[str, np.ndarray]


@pytest.fixture(scope="module")
def published(shared: Path) -> tuple[ErrorsOfSystems, ErrorsOfSystems]:
    """Adversarial errors [seeds, clips] of each system, raw and clipped, seeds ascending."""
    raw: dict[str, list[np.ndarray]] = {}
    clipped: dict[str, list[np.ndarray]] = {}
    for log in sorted(read_published_logs(shared / "published-runs"), key=lambda log: log.seed):
        labels, predictions = (
            log.clips[[f"{kind}_{emotion}" for emotion in EMOTIONS]].to_numpy() for kind in ("label", "adv")
        )
        raw.setdefault(log.system, []).append(clip_errors(labels, predictions))
        clipped.setdefault(log.system, []).append(clip_errors(labels, predictions, clipped=True))
    return (
        {system: np.array(errors) for system, errors in raw.items()},
        {system: np.array(errors) for system, errors in clipped.items()},
    )


@pytest.mark.parametrize(("a", "t", "p"), [("A2E", 13.0352, 4.567e-32), ("A2B2E", 12.0990, 1.695e-28)])
def test_published_paired_t_test(
    published: tuple[ErrorsOfSystems, ErrorsOfSystems], a: str, t: float, p: float
) -> None:
    n, statistic, value = paired_t(published[0][a], published[0]["A2M2E"])
    assert n == 360
    assert statistic == pytest.approx(t, abs=5e-5)
    assert value == pytest.approx(p, rel=2e-4)


@pytest.mark.parametrize(("a", "paired", "welch"), [("A2E", 0.00256, 0.000161), ("A2B2E", 0.0239, 0.0213)])
def test_over_seeds_the_published_p_is_far_larger(
    published: tuple[ErrorsOfSystems, ErrorsOfSystems], a: str, paired: float, welch: float
) -> None:
    seeds = published[0][a].mean(axis=1), published[0]["A2M2E"].mean(axis=1)
    assert paired_t(*seeds) == (10, pytest.approx(abs(paired_t(*seeds)[1])), pytest.approx(paired, rel=5e-3))
    assert welch_seeds(*seeds) == (
        20,
        pytest.approx(abs(welch_seeds(*seeds)[1])),
        pytest.approx(welch, rel=5e-3),
    )


def test_clipped_to_the_scale_the_published_difference_is_gone(
    published: tuple[ErrorsOfSystems, ErrorsOfSystems],
) -> None:
    _, _, p = welch_seeds(published[1]["A2E"].mean(axis=1), published[1]["A2M2E"].mean(axis=1))
    assert p == pytest.approx(0.54, abs=5e-3)


def test_paired_t_by_hand() -> None:
    # differences 1, 2, 3, 2: mean 2, standard error sqrt(2/3) / 2
    n, statistic, p = paired_t([[2, 4], [6, 6]], [[1, 2], [3, 4]])
    assert (n, statistic) == (4, pytest.approx(2 / (np.sqrt(2 / 3) / 2), abs=1e-12))
    assert p == pytest.approx(2 * stats.t.sf(statistic, 3), rel=1e-9)


def test_welch_by_hand() -> None:
    # variances 1 and 4 over 3 values each: standard error sqrt(1/3 + 4/3)
    n, statistic, p = welch_seeds([1, 2, 3], [2, 4, 6])
    assert (n, statistic) == (6, pytest.approx(-2 / np.sqrt(5 / 3), abs=1e-12))
    freedom = (5 / 3) ** 2 / ((1 / 3) ** 2 / 2 + (4 / 3) ** 2 / 2)
    assert p == pytest.approx(2 * stats.t.sf(-statistic, freedom), rel=1e-9)


def test_welch_with_one_constant_side() -> None:
    _, statistic, p = welch_seeds([1, 1, 1], [2, 4, 6])
    assert np.isfinite([statistic, p]).all()


@pytest.mark.parametrize(
    ("a", "b"),
    [([1.0], [2.0, 3.0]), ([], []), ([1.0, np.nan], [2.0, 3.0]), ([1.0, 1.0], [2.0, 2.0])],
)
def test_welch_without_a_value(a: list[float], b: list[float]) -> None:
    n, statistic, p = welch_seeds(a, b)
    assert n == len(a) + len(b)
    assert np.isnan([statistic, p]).all()


@pytest.mark.parametrize(
    ("a", "b"), [([[1.0]], [[2.0]]), ([[1.0, np.inf]], [[0.0, 1.0]]), ([[1.0, 2.0]], [[0.0, 1.0]])]
)
def test_paired_t_without_a_value(a: list[list[float]], b: list[list[float]]) -> None:
    assert np.isnan(paired_t(a, b)[1:]).all()


def test_pairs_need_equal_shapes() -> None:
    with pytest.raises(ValueError, match="equal shapes"):
        paired_t(np.zeros((2, 3)), np.zeros((3, 2)))


def test_comparisons_are_with_the_reference_or_among_all() -> None:
    assert comparisons(["A2E", "A2B2E", "A2M2E"], "A2M2E") == [("A2E", "A2M2E"), ("A2B2E", "A2M2E")]
    assert comparisons(["A2E", "A2B2E", "aA2E"], "A2M2E") == [
        ("A2E", "A2B2E"),
        ("A2E", "aA2E"),
        ("A2B2E", "aA2E"),
    ]
    assert comparisons(["A2M2E"], "A2M2E") == []
