"""The study on synthetic data in slices: what is finished stays, what is stopped goes on, times add up."""

from __future__ import annotations

import pytest

from benchmarks.study import STUDY, Part, Report, study_plan, study_slice, synthetic_dataset
from rmer.stages.study.study import study_jobs
from rmer.tracking import Stage, Store, Tag


def test_the_whole_study_is_six_systems_ten_seeds_and_three_attacks() -> None:
    plan = study_plan("cpu")
    assert plan.attack_variants.keys() == {"published", "suite", "suite l2"}
    assert (len(plan.systems), len(plan.seeds)) == (6, 10)
    assert (plan.params.clips, plan.params.frames, plan.params.epochs) == (360, 313, 199)
    assert (plan.params.tier, plan.params.max_iters) == ("paper", 1000)
    assert plan.params.train_protocol == "corrected"
    assert len(study_jobs(plan, "data")) == 60 * (1 + 3)


def test_synthetic_clips_have_albums_and_labels_that_can_be_learnt() -> None:
    dataset = synthetic_dataset(90, 8)
    albums = {part: set(dataset.clips["album"].iloc[rows]) for part, rows in dataset.split("album").items()}
    assert not albums["train"] & (albums["validation"] | albums["test"])
    level = dataset.spectrograms.mean(axis=(1, 2))
    explained = dataset.clips[list(dataset.emotions)].corrwith(dataset.clips.assign(level=level)["level"])
    assert explained.abs().max() > 0.8


@pytest.mark.slow
def test_slices_go_on_and_add_up(store: Store) -> None:
    small = {"systems": "A2E", "attacks": "published", "frames": 8, "epochs": 1, "max_iters": 2}
    plan = study_plan("cpu", quick=True, **small)
    first = study_slice(store, plan, seconds=0.01)
    assert (first.done, first.jobs) == (0, 2)
    assert first.projected is None
    second = study_slice(store, plan, seconds=300)
    parts = [(part.name, part.done, part.jobs) for part in second.parts]
    assert parts == [("train A2E", 1, 1), ("attack published", 1, 1)]
    assert second.slices[0] == first.slices[0]
    assert len(second.slices) == 2
    assert second.projected == pytest.approx(second.seconds)
    assert study_slice(store, plan, seconds=300).as_dict() == second.as_dict(), "nothing is left to do"
    runs = store.search({Tag.STUDY: STUDY, Tag.STAGE: Stage.TRAIN})
    assert [run.status for run in runs] == ["FINISHED"]


def test_a_projection_counts_the_runs_to_do_and_what_runs_do_besides() -> None:
    parts = [Part("train A2E", 10, 2, 30.0, 12.0), Part("attack suite", 10, 1, 20.0, 20.0)]
    report = Report(parts, [60.0, 40.0])
    assert report.projected == pytest.approx((120 + 200) * 100 / 50)
    assert report.as_dict()["to_do"] == 17
    assert "5.3" not in str(Report([*parts, Part("attack published", 10, 0, 0.0, None)], [60.0]))
