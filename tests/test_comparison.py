"""Comparisons of systems as one family: endpoints, published logs, equivalence, and what is not compared."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pytest

from rmer.data.dataset import EMOTIONS
from rmer.data.published_logs import read_published_logs
from rmer.data.tables.tracklist import inspect_tracklist
from rmer.errors import UserError
from rmer.evaluation.bootstrap import estimate
from rmer.evaluation.comparison import Comparison, SystemSample, compare_systems, endpoint_of, usual_endpoints
from rmer.evaluation.metrics import METRICS, aims, error_metric, regression_scores
from rmer.evaluation.statistics import holm


@pytest.fixture(scope="module")
def published_samples(shared: Path) -> list[SystemSample]:
    tracks = inspect_tracklist(shared / "soundtracks" / "set1_tracklist.csv").table
    albums = dict(zip(tracks["clip"], tracks["album"], strict=True))
    logs: dict[str, list[dict[str, np.ndarray]]] = {}
    for log in read_published_logs(shared / "published-runs"):
        clips = log.clips.sort_values("clip")
        columns = {
            kind: clips[[f"{kind}_{name}" for name in EMOTIONS]].to_numpy()
            for kind in ("label", "clean", "adv")
        }
        logs.setdefault(log.system, []).append(columns)
    names = tuple(clips["clip"])
    return [
        SystemSample(
            name=system,
            clips=names,
            albums=tuple(albums[clip] for clip in names),
            labels=of_seeds[0]["label"],
            clean=np.array([columns["clean"] for columns in of_seeds]),
            adversarial=dict.fromkeys(aims(), np.array([columns["adv"] for columns in of_seeds])),
        )
        for system, of_seeds in logs.items()
    ]


@pytest.fixture(scope="module")
def published_rows(published_samples: list[SystemSample]) -> dict[tuple[str, str], Comparison]:
    rows = compare_systems(published_samples, "A2M2E")
    assert len(rows) == 8
    return {(row.endpoint, row.a): row for row in rows}


def test_the_published_logs_as_one_family(published_rows: dict[tuple[str, str], Comparison]) -> None:
    """Over seeds alone the correlations differ; over albums, too, and corrected, nothing does."""
    row = published_rows["delta/corr", "A2E"]
    assert (row.b, row.seeds_a, row.seeds_b, row.clips, row.albums) == ("A2M2E", 10, 10, 36, 26)
    # from the published means: (-.3203 - .7324) - (-.4938 - .6805)
    assert row.difference == pytest.approx(0.1216, abs=2e-4)
    assert row.p_welch == pytest.approx(0.006, abs=5e-4)
    assert row.p > row.p_welch
    assert min(each.p_holm for each in published_rows.values()) > 0.05
    clipped = published_rows["delta/mae_clipped", "A2E"]
    assert clipped.difference == pytest.approx(0.0057, abs=1e-4)
    assert not clipped.equivalent, "no difference was shown, but neither was equivalence"


def test_rows_agree_with_themselves(published_rows: dict[tuple[str, str], Comparison]) -> None:
    rows = list(published_rows.values())
    assert holm([row.p for row in rows]) == pytest.approx([row.p_holm for row in rows])
    assert holm([row.tost_p for row in rows]) == pytest.approx([row.tost_p_holm for row in rows])
    for row in rows:
        assert row.low < row.difference < row.high
        assert row.percentile_low < row.difference < row.percentile_high
        assert (row.low > 0 or row.high < 0) == (row.p < 0.05)
        assert row.hedges_g * row.difference > 0


def make_sample(name: str, shift: float = 0.0, seeds: int = 3) -> SystemSample:
    """Return a system whose attack adds about .2 + ``shift`` to every error."""
    rng = np.random.default_rng(sum(map(ord, name)))
    labels = np.random.default_rng(0).uniform(0.1, 0.4, (8, 2))
    clean = labels + 0.02 * rng.normal(size=(seeds, 8, 2))
    worst = labels + 0.2 + shift + 0.005 * rng.normal(size=(seeds, 8, 2))
    return SystemSample(
        name=name,
        clips=tuple(f"{index:03}" for index in range(8)),
        albums=("a", "a", "b", "b", "c", "d", "", float("nan")),
        labels=labels,
        clean=clean,
        adversarial={"mae_clipped": worst, "mae": worst, "corr": 1 - worst},
    )


def test_like_systems_are_equivalent_and_a_weaker_one_differs() -> None:
    rows = compare_systems(
        [make_sample("A2E"), make_sample("A2M2E"), make_sample("weak", 0.3)],
        "A2M2E",
        endpoints=["delta/mae_clipped"],
        draws=200,
    )
    like, weak = rows
    assert (like.a, weak.a, like.albums) == ("A2E", "weak", 6)
    assert like.equivalent
    assert like.p_holm > 0.05
    assert not weak.equivalent
    assert weak.p_holm < 0.001
    assert weak.difference == pytest.approx(0.3, abs=0.01)
    assert weak.cliffs_delta == 1


def test_endpoints_are_the_scores_of_the_metrics() -> None:
    sample = make_sample("A2E")
    scores = [
        [regression_scores(sample.labels, predictions, ["p", "q"]).mean for predictions in kind]
        for kind in (sample.clean, sample.adversarial["mae_clipped"], sample.adversarial["corr"])
    ]
    clean, worst_mae, worst_corr = scores
    expected = {
        "delta/mae_clipped": [
            after["mae_clipped"] - before["mae_clipped"]
            for before, after in zip(clean, worst_mae, strict=True)
        ],
        "delta/corr": [
            after["corr"] - before["corr"] for before, after in zip(clean, worst_corr, strict=True)
        ],
        "adv/corr": [after["corr"] for after in worst_corr],
    }
    assert {name for name in expected if name.startswith("delta/")} == set(usual_endpoints())
    for name, values in expected.items():
        endpoint = endpoint_of(sample, name)
        np.testing.assert_allclose(endpoint.per_seed, values, rtol=1e-9)
        assert estimate(endpoint, draws=0).value == pytest.approx(np.mean(values))


def test_an_error_metric_over_albums_is_its_score_of_the_clips_that_are_drawn() -> None:
    sample, drawn = make_sample("A2E"), [0, 1, 0, 1, 4]  # album a twice, c once
    for metric in (METRICS["rmse"], error_metric("far", "Far", "far", lambda error: np.abs(error) > 0.02)):
        endpoint = metric.endpoint(sample.labels, sample.clean, sample.albums)
        expected = [
            metric.values(sample.labels[drawn], predictions[drawn]).mean() for predictions in sample.clean
        ]
        np.testing.assert_allclose(endpoint.scores(np.array([[2, 0, 1, 0, 0, 0]]))[0], expected, rtol=1e-12)


def test_without_the_reference_every_pair_is_compared() -> None:
    rows = compare_systems([make_sample(name) for name in "XYZ"], "A2M2E", endpoints=["adv/corr"], draws=20)
    assert [(row.a, row.b) for row in rows] == [("X", "Y"), ("X", "Z"), ("Y", "Z")]
    assert compare_systems([make_sample("X")], "A2M2E") == []


def test_a_system_of_one_seed_has_a_difference_but_no_p() -> None:
    (row,) = compare_systems(
        [make_sample("A2E", seeds=1), make_sample("A2M2E")], "A2M2E", endpoints=["adv/corr"], draws=20
    )
    assert np.isfinite([row.difference, row.percentile_low, row.cliffs_delta]).all()
    assert np.isnan([row.p, row.p_holm, row.p_welch, row.hedges_g, row.low, row.tost_p]).all()
    assert not row.equivalent


@pytest.mark.parametrize(
    "change",
    [
        {"clips": tuple("abcdefgh")},
        {"albums": ("a", "a", "b", "b", "d", "c", "", "")},
        {"labels": np.full((8, 2), 0.3)},
    ],
)
def test_systems_attacked_on_different_clips_are_not_compared(change: dict[str, object]) -> None:
    other = dataclasses.replace(make_sample("A2E"), **change)
    with pytest.raises(UserError, match="A2M2E and A2E: were attacked on different clips"):
        compare_systems([make_sample("A2M2E"), other], "A2M2E")


def test_a_sample_must_fit_together() -> None:
    with pytest.raises(ValueError, match="do not match"):
        dataclasses.replace(make_sample("A2E"), adversarial={"corr": np.zeros((2, 8, 2))})
    with pytest.raises(ValueError, match="twice"):
        compare_systems([make_sample("A2E"), make_sample("A2E")], "A2E")
