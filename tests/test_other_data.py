"""Models that are attacked on other data than their own: standardised as their own, told apart, not mixed."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
from noise_data import log_dataset, noise_dataset, published_parts

from rmer.data.dataset import Dataset
from rmer.data.other_data import UnlikeDataError, as_targets_of, learnt_clips, on_other_data
from rmer.data.standardised import standardise
from rmer.errors import UserError
from rmer.stages.analysis.analyze import analyze
from rmer.stages.analysis.analyze_params import AnalyzeParams
from rmer.stages.attack.attack import attack
from rmer.stages.attack.attack_params import AttackParams
from rmer.stages.attack.victims import victim_of_run
from rmer.stages.train import train
from rmer.stages.train_params import TrainParams
from rmer.systems.prediction import predict
from rmer.tracking import Run, RunRecord, RunSpec, Stage, Store, Tag

OWN = dataclasses.replace(noise_dataset(published_parts(12)), name="own", emotions=("tension", "tender"))


def other_data() -> Dataset:
    """Another data set, twice as loud, with the same targets in another order and one more."""
    found = noise_dataset(["train"] * 4 + ["test"] * 3)
    clips = found.clips.assign(spec_mean=0.8, spec_mean_square=1.2)
    return dataclasses.replace(
        found, name="other", clips=clips, spectrograms=2 * found.spectrograms,
        emotions=("valence", "tender", "tension"), concepts=(),
    )  # fmt: skip


def test_names_of_targets_decide_and_the_digest_stays() -> None:
    other = other_data()
    seen = as_targets_of(other, OWN, where="x")
    assert (seen.emotions, seen.concepts, seen.digest) == (("tension", "tender"), (), other.digest)
    assert seen.emotion_labels()[:, 0] == pytest.approx(other.clips["tension"].to_numpy(), abs=1e-7)


def test_inputs_are_standardised_as_those_that_the_model_knows() -> None:
    own = standardise(OWN, "published", "train")
    seen = on_other_data(own, other_data())
    raw = other_data().spectrograms
    assert len(seen.test) == 7, "all clips"
    assert seen.test.inputs[:, 0].numpy() == pytest.approx(
        (raw - own.normalisation.mean) / own.normalisation.std, abs=1e-5
    )
    assert (seen.normalisation, seen.train, seen.ceiling is own.ceiling) == (
        own.normalisation, own.train, True,
    )  # fmt: skip


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"emotions": ("valence", "tender")}, "x: lacks tension, which the model predicts"),
        ({"labels": "tags"}, "its targets are tags, those of the model's own data ratings"),
        ({"frontend": {"bands": 80}}, "its spectrograms have another bands"),
    ],
)  # fmt: skip
def test_data_that_are_not_alike_are_refused(changes: dict[str, object], said: str) -> None:
    with pytest.raises(UnlikeDataError, match=said):
        as_targets_of(dataclasses.replace(other_data(), **changes), OWN, where="x")


def test_clips_that_a_model_learnt_from_are_found_whatever_their_targets_and_excerpts() -> None:
    stated = OWN.clips.assign(spec_mean=np.linspace(0.3, 0.5, 12), spec_mean_square=np.linspace(0.5, 0.4, 12))
    own = dataclasses.replace(OWN, clips=stated)
    clips = other_data().clips.copy()
    columns = ["spec_mean", "spec_mean_square", "spec_frames"]
    clips.loc[[2, 5], columns] = stated.loc[[0, 7], columns].to_numpy()
    other = dataclasses.replace(other_data(), clips=clips)
    assert learnt_clips(own, np.arange(12), other) == [clips["clip"][2], clips["clip"][5]]
    assert learnt_clips(own, np.arange(6), other) == [clips["clip"][2]]
    assert learnt_clips(OWN, np.arange(12), OWN) == [], "what all clips share tells none"


def test_data_with_such_clips_are_refused(lasting_store: Store) -> None:
    stated = OWN.clips.assign(spec_mean=np.linspace(0.3, 0.5, 12))
    own = dataclasses.replace(OWN, name="mine", clips=stated)
    renamed = dataclasses.replace(own, name="more", emotions=("tension", "tender", "valence"))
    runs = [logged(lasting_store, dataset) for dataset in (own, renamed)]
    given = TrainParams(system="A2E", epochs=1, width=1 / 32, dataset_run_id=runs[0], device="cpu")
    model = train(lasting_store, given).run_id
    with pytest.raises(UserError, match=r"11 clips of it .* the model was trained on or stopped by"):
        attack(lasting_store, AttackParams(attack="pgd", train_run_id=model, dataset_run_id=runs[1]))


def logged(store: Store, dataset: Dataset) -> str:
    tags = {Tag.DATASET: dataset.digest, Tag.DATASET_NAME: dataset.name}
    spec = RunSpec(Stage.PREPROCESS, dataset.name, {"digest": dataset.digest}, tags)

    def body(run: Run) -> None:
        log_dataset(run, dataset)

    return store.perform(spec, body).run_id


@pytest.fixture(scope="module")
def runs(lasting_store: Store) -> tuple[Store, str, dict[str, RunRecord]]:
    """A store with a model, the run of the other data, and attacks on the model with each of the two."""
    store, other = lasting_store, logged(lasting_store, other_data())
    own = logged(store, OWN)
    model = train(
        store, TrainParams(system="A2M2E", epochs=1, width=1 / 32, dataset_run_id=own, device="cpu")
    )
    found = {"model": store.get(model.run_id)}
    for name, given in (("in", {}), ("across", {"trained_on": own, "dataset_run_id": other})):
        (outcome,) = attack(store, AttackParams(attack="pgd", steps=2, device="cpu", **given))
        found[name] = store.get(outcome.run_id)
    return store, other, found


def test_the_run_says_what_the_model_was_trained_and_tested_on(
    runs: tuple[Store, str, dict[str, RunRecord]],
) -> None:
    store, other, found = runs
    tags = found["across"].tags
    assert found["across"].name == "A2M2E s6 on oth… pgd .01"
    assert (tags[Tag.TRAINED_ON], tags[Tag.TRAINED_ON_NAME]) == (OWN.digest, "own")
    assert (tags[Tag.DATASET], tags[Tag.DATASET_NAME]) == (other_data().digest, "other")
    assert (tags[Tag.SPLIT], tags[Tag.DATASET_RUN_ID]) == ("all", other)
    assert Tag.TRAINED_ON not in found["in"].tags
    table = store.read_table(found["across"].run_id, "adversaries/clips.csv")
    assert len(table) == 7
    victim = victim_of_run(store, found["model"], "")
    inputs = victim.data.normalisation.standardise(other_data().spectrograms)[:, np.newaxis]
    predictions = predict(victim.model, on_other_data(victim.data, other_data()).test.inputs)[0]
    assert inputs.shape[0] == len(predictions)
    assert table[["clean_tension", "clean_tender"]].to_numpy() == pytest.approx(predictions, abs=1e-5)
    assert table["label_tension"].to_numpy() == pytest.approx(other_data().clips["tension"], abs=1e-6)


def test_another_part_than_all_is_refused(runs: tuple[Store, str, dict[str, RunRecord]]) -> None:
    store, other, found = runs
    params = AttackParams(
        attack="pgd", split="validation", train_run_id=found["model"].run_id, dataset_run_id=other
    )
    with pytest.raises(UserError, match="all clips of a data set that the model was not trained on"):
        attack(store, params)


def test_analysis_never_mixes_data_and_compares_across_them(
    runs: tuple[Store, str, dict[str, RunRecord]],
) -> None:
    store, _, found = runs
    with pytest.raises(UserError, match=f"trained_on: {OWN.digest}|dataset: "):
        analyze(store, AnalyzeParams())
    across = analyze(store, AnalyzeParams(dataset=other_data().digest))
    assert across.tables["runs"]["run_id"].tolist() == [found["across"].run_id]
    assert "trained on own, tested on all clips of other" in across.report.title
    with pytest.raises(UserError, match=r"dataset: .*split: all"):
        analyze(store, AnalyzeParams(trained_on=OWN.digest))
    within = analyze(store, AnalyzeParams(trained_on=OWN.digest, dataset=OWN.digest))
    assert within.tables["runs"]["run_id"].tolist() == [found["in"].run_id]
    mixed = analyze(store, AnalyzeParams(allow_mixed=True))
    assert len(mixed.systems) == 2, "side by side"
