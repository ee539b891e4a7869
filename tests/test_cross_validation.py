"""Cross-validation: scores over folds, the corrected resampled t-test, and analyses that pool all folds."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator

import numpy as np
import pandas as pd
import pytest
from attack_runs import suite_run
from noise_data import log_dataset, noise_dataset
from scipy import stats

from rmer.data.dataset import Dataset
from rmer.errors import UserError
from rmer.evaluation.bootstrap import estimate
from rmer.evaluation.endpoints import Endpoint, mean_endpoint, over_folds
from rmer.evaluation.metrics import METRICS, correlations
from rmer.stages.analysis.analyze import Analysis, analyze
from rmer.stages.analysis.analyze_params import AnalyzeParams
from rmer.stages.attack.attack import attack
from rmer.stages.attack.attack_params import AttackParams
from rmer.stages.study.plan import StudyParams, make_plan
from rmer.stages.study.study import study_jobs
from rmer.stages.train import train
from rmer.stages.train_params import TrainParams
from rmer.tracking import Artifact, Run, RunSpec, Stage, Store, Tag

FOLDS = 3


def folds_of(values: np.ndarray) -> Endpoint:
    """Return the mean of values ``[folds, seeds, clips]``."""
    return over_folds([mean_endpoint(fold, [""] * fold.shape[1]) for fold in values])


@pytest.mark.parametrize("folds", [2, 5, 10])
def test_with_one_seed_the_test_is_that_of_nadeau_and_bengio(folds: int) -> None:
    """For J folds of n2 clips t = mean / sqrt((1 / J + n2 / n1) S^2), with J - 1 degrees of freedom."""
    a, b = np.random.default_rng(folds).normal(0.3, 0.1, (2, folds, 1, 6))
    found = estimate(folds_of(a), folds_of(b), draws=0)
    differences = (a - b).mean(axis=(1, 2))
    error = np.sqrt((1 / folds + 1 / (folds - 1)) * differences.var(ddof=1))
    assert found.value == pytest.approx(differences.mean(), rel=1e-9)
    assert (found.se, found.df) == (pytest.approx(error, rel=1e-9), pytest.approx(folds - 1, rel=1e-9))
    assert found.p == pytest.approx(2 * stats.t.sf(abs(differences.mean()) / error, folds - 1), rel=1e-9)


def test_seeds_and_folds_add_up_less_what_both_contain() -> None:
    values = np.random.default_rng(1).normal(0, 1, (5, 4, 6)) + np.arange(4)[:, None] * 3
    scores = values.mean(axis=2)  # [folds, seeds]
    of_seeds = scores.mean(axis=0).var(ddof=1) / 4
    of_folds = scores.mean(axis=1).var(ddof=1) * (1 / 5 + 1 / 4)
    both = (scores - scores.mean(axis=0)).var(axis=1, ddof=1).mean() / (4 * (5 - 1))
    variance = of_seeds + of_folds - both
    assert variance > max(of_seeds, of_folds), "else it is the larger of these"
    assert estimate(folds_of(values), draws=0).se == pytest.approx(np.sqrt(variance), rel=1e-9)


def like_learners(folds: int, albums: int, studies: int) -> Iterator[list[Endpoint]]:
    """Yield cross-validated errors of two least-squares models that each know half of what makes the ratings.

    Three clips share an album, and what features and ratings have in common with it; none straddles folds.
    """
    rng, member = np.random.default_rng(0), np.repeat(np.arange(albums), 3)
    fold, clips = np.repeat(np.arange(folds), albums // folds)[member], 3 * albums
    for _ in range(studies):
        features = rng.normal(size=(2, clips, 6)) + 0.7 * rng.normal(size=(2, albums, 6))[:, member]
        ratings = 0.3 * features.sum((0, 2)) + 0.5 * rng.normal(size=albums)[member] + rng.normal(size=clips)
        sides = []
        for known in features:
            known, errors = np.column_stack([known, np.ones(clips)]), np.zeros(clips)
            for place in range(folds):
                tested = fold == place
                weights = np.linalg.lstsq(known[~tested], ratings[~tested], rcond=None)[0]
                errors[tested] = np.abs(known[tested] @ weights - ratings[tested])
            sides.append(folds_of(errors.reshape(folds, 1, -1)))
        yield sides


def test_like_learners_are_rarely_told_apart() -> None:
    """Without the correction the test rejects more true null hypotheses than 5 %, with it fewer."""
    pairs = list(like_learners(5, 20, 500))
    without = [[dataclasses.replace(side, overlap=1e-12) for side in pair] for pair in pairs]
    corrected, uncorrected = (
        np.mean([estimate(a, b, draws=0).p < 0.05 for a, b in of]) for of in (pairs, without)
    )
    assert 0.005 <= corrected <= 0.045
    assert uncorrected > 0.055


def test_a_correlation_is_that_of_each_fold_averaged_by_clips() -> None:
    rng = np.random.default_rng(2)
    labels, predictions = rng.normal(size=(10, 2)), rng.normal(size=(3, 10, 2))
    folds = (1, 1, 1, 1, 2, 2, 2, 2, 2, 2)
    endpoint = METRICS["corr"].endpoint(labels, predictions, [""] * 10, folds)
    expected = [
        0.4 * correlations(labels[:4], seed[:4]).mean() + 0.6 * correlations(labels[4:], seed[4:]).mean()
        for seed in predictions
    ]
    assert endpoint.per_seed == pytest.approx(np.array(expected), rel=1e-12)
    predictions[0, :4] = 0.5  # in one fold one seed has no correlation
    endpoint = METRICS["corr"].endpoint(labels, predictions, [""] * 10, folds)
    assert np.isnan(endpoint.per_seed).tolist() == [True, False, False]
    assert endpoint.scores(np.array([[0.0, 2.0]]))[0, 0] == pytest.approx(
        correlations(labels[4:], predictions[0, 4:]).mean()
    )


def cross_validated(store: Store, study: str, seeds: int = 1) -> None:
    """Log a study of two systems in three folds."""
    for system, damage in (("A2E", 0.1), ("A2M2E", 0.3)):
        for seed in range(1, seeds + 1):
            for fold in range(1, FOLDS + 1):
                suite_run(
                    store, study, system, seed, damage=damage, fold=fold,
                    split_scheme=f"{FOLDS}-fold", cfg_fold=fold,
                )  # fmt: skip


@pytest.fixture(scope="module")
def analysis(lasting_store: Store) -> Analysis:
    cross_validated(lasting_store, "folds", seeds=2)
    return analyze(lasting_store, AnalyzeParams(study="folds"))


def test_the_folds_of_a_seed_are_one_model(analysis: Analysis, lasting_store: Store) -> None:
    systems, robustness = analysis.systems.set_index("system"), analysis.tables["robustness"]
    assert systems["seeds"].to_dict() == {"A2E": 2, "A2M2E": 2}
    runs = lasting_store.find("attack", {"rmer.system": "A2E"}, "folds")
    logged = pd.DataFrame([run.metrics for run in runs])
    assert len(logged) == 2 * FOLDS
    assert systems.loc["A2E", "clean_corr"] == pytest.approx(logged["clean/corr"].mean(), rel=1e-9)
    assert systems.loc["A2E", "adv_mae"] == pytest.approx(logged["adv/mae"].mean(), rel=1e-9)
    assert analysis.tables["attacks"].set_index("system").loc["A2E", "clips"] == 2 * FOLDS * 12
    of = robustness[(robustness["system"] == "A2E") & (robustness["metric"] == "corr")].iloc[0]
    assert of["auc"] == pytest.approx(logged["auc/corr"].mean(), rel=1e-9)


def test_the_comparison_is_over_folds(analysis: Analysis) -> None:
    row = analysis.tables["comparisons"].set_index("endpoint").loc["delta/mae_clipped"]
    assert (row["folds"], row["clips"], row["seeds_a"]) == (FOLDS, 12 * FOLDS, 2)
    assert row["p"] < 0.05
    assert "3-fold cross-validation" in analysis.report.title
    assert any("Cross-validation in 3 folds" in text for text in analysis.report.caveats)
    runs = analysis.tables["runs"]
    assert runs["fold"].tolist() == ["1", "2", "3"] * 4


def test_curves_are_of_all_clips(analysis: Analysis) -> None:
    curves = analysis.tables["curves"]
    at = curves[(curves["epsilon"] == 0.01) & (curves["metric"] == "corr")].set_index("system")["mean"]
    robustness = analysis.tables["robustness"]
    attacked = robustness[robustness["metric"] == "corr"].set_index("system")["adv"]
    assert at.to_dict() == pytest.approx(attacked.to_dict(), rel=1e-9)


def test_folds_that_lack_are_named(store: Store, study: str) -> None:
    suite_run(store, study, "A2E", 3, fold=2, split_scheme="3-fold", cfg_fold=2)
    with pytest.raises(UserError, match=r"A2E s3 \(linf\) lacks 1, 3 of 3"):
        analyze(store, AnalyzeParams(study=study))


def test_folds_are_not_mixed_with_another_split(store: Store, study: str) -> None:
    cross_validated(store, study)
    suite_run(store, study, "A2E", 3)
    with pytest.raises(UserError, match=r"not alike: split_scheme: 3-fold \(6 runs\), album \(1 runs\)"):
        analyze(store, AnalyzeParams(study=study))
    assert len(analyze(store, AnalyzeParams(study=study, split_scheme="3-fold")).systems) == 2


def test_a_study_trains_and_attacks_every_fold_and_transfers_within_it() -> None:
    plan = make_plan(
        StudyParams(systems="A2E,A2M2E", seeds="6", attacks="transfer", folds=2, domains="spectrogram")
    )
    jobs = study_jobs(plan, "data")
    assert [job.name for job in jobs[:4]] == ["A2E s6 f1", "A2M2E s6 f1", "A2E s6 f2", "A2M2E s6 f2"]
    trained = [job.params for job in jobs[:4]]
    assert [(params.fold, params.folds) for params in trained] == [(1, 2), (1, 2), (2, 2), (2, 2)]
    attacked = jobs[-1]
    assert (attacked.name, attacked.needs) == (
        "A2M2E s6 f2 | transfer", {"train_run_id": "A2M2E s6 f2", "source_run_id": "A2E s6 f2"},
    )  # fmt: skip


def test_runs_of_all_folds_attack_every_clip_once(lasting_store: Store) -> None:
    store, dataset = lasting_store, noise_dataset(["train"] * 10 + ["validation", "test"])

    def body(run: Run) -> None:
        log_dataset(run, dataset)

    store.perform(RunSpec(Stage.PREPROCESS, "noise", {}, {Tag.DATASET: dataset.digest}, "noise"), body)
    for fold in (1, 2):
        given = {"system": "A2E", "epochs": 1, "width": 1 / 32, "folds": 2, "fold": fold, "study": "noise"}
        trained = store.get(train(store, TrainParams(**given, device="cpu")).run_id)
        assert (trained.name, trained.tags[Tag.FOLD]) == (f"A2E s6 f{fold}", str(fold))
        assert trained.tags[Tag.SPLIT_SCHEME] == "2-fold"
    outcomes = attack(store, AttackParams(attack="pgd", steps=1, study="noise", device="cpu"))
    runs = [store.get(outcome.run_id) for outcome in outcomes]
    assert [run.name for run in runs] == ["A2E s6 f1 pgd .01", "A2E s6 f2 pgd .01"]
    clips = [store.read_table(run.run_id, "adversaries/clips.csv")["clip"].tolist() for run in runs]
    assert sorted(name for names in clips for name in names) == dataset.clips["clip"].tolist()
    _refuses_other_folds(store, dataset, outcomes[0].run_id)
    found = analyze(store, AnalyzeParams(study="noise"))
    sizes = [len(names) for names in clips]
    mean = np.average([run.metrics["adv/mae"] for run in runs], weights=sizes)
    assert found.systems["adv_mae"].tolist() == pytest.approx([mean], abs=1e-9)


def _refuses_other_folds(store: Store, dataset: Dataset, attacked: str) -> None:
    """The same data with a duplicate that was not known when the model was trained: its folds are others."""
    record = store.get(attacked)
    tested = store.read_table(attacked, "adversaries/clips.csv")["clip"].tolist()
    other = next(clip for clip in dataset.clips["clip"] if clip not in tested)

    def body(run: Run) -> None:
        log_dataset(run, dataset)
        run.table(pd.DataFrame({"first": [tested[0]], "second": [other]}), Artifact.DUPLICATES)

    again = RunSpec(Stage.PREPROCESS, "noise", {"more": 1}, {Tag.DATASET: dataset.digest}, "again")
    prepared = store.perform(again, body).run_id
    given = {"attack": "pgd", "steps": 2, "train_run_id": record.tags[Tag.TRAIN_RUN_ID], "device": "cpu"}
    own = record.tags[Tag.DATASET_RUN_ID]
    with pytest.raises(
        UserError, match=f"other folds than A2E s6 f1 was trained in.*Give dataset_run_id {own}"
    ):
        attack(store, AttackParams(**given, dataset_run_id=prepared))
    # Without a word, and by the digest of the data, the newest run of which is the other one.
    (outcome,) = attack(store, AttackParams(**given))
    assert store.read_table(outcome.run_id, "adversaries/clips.csv")["clip"].tolist() == tested
    with pytest.raises(UserError, match="other folds"):
        attack(store, AttackParams(**given, dataset_run_id=dataset.digest))
