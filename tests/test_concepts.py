"""Explanations by concepts: exact sums, known answers, interventions, what is logged and what is refused."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from noise_data import noise_dataset
from torch import Tensor, nn

from rmer.data.csv_tables import read_table
from rmer.data.dataset import CONCEPTS, EMOTIONS
from rmer.data.standardised import standardise
from rmer.errors import UserError
from rmer.evaluation.attacked import named_columns
from rmer.evaluation.concepts import (
    FLOAT32_TOLERANCE,
    AttackedConcepts,
    ConceptLayer,
    effects_table,
    identity_error,
    movement_table,
    shift_table,
)
from rmer.evaluation.interventions import repair_table, what_if_table
from rmer.evaluation.leakage import leakage_means
from rmer.report.concept_figures import (
    concept_effects,
    concept_movement,
    concept_repair,
    concept_shift,
    concept_weights,
)
from rmer.report.contents import Contents
from rmer.report.sections.concepts_section import concept_tables, concepts_section, reason_without
from rmer.stages.analysis.explanations import read_explanations
from rmer.stages.analysis.selection import Selected
from rmer.stages.attack.explanation import WEIGHTS_TABLE, concept_layer, log_explanation
from rmer.stages.attack.victims import Victim
from rmer.systems.catalogue import CATALOGUE
from rmer.systems.network import build_network
from rmer.systems.prediction import predict
from rmer.tracking import Artifact, Run, RunSpec, Stage, Store, Tag


@pytest.fixture
def tiny() -> AttackedConcepts:
    """Three clips, two concepts, two emotions; the attack moves a up by .1 and b by .2, .2 and -.1."""
    layer = ConceptLayer(
        ("tense", "calm"), ("a", "b"), np.array([[1.0, -0.5], [0.0, 2.0]]), np.array([0.1, -0.2])
    )
    clean = np.array([[0.2, 0.1], [0.4, 0.3], [0.6, 0.2]])
    rated = clean + np.array([0.1, 0.0])
    return AttackedConcepts(
        layer=layer,
        clips=("001", "002", "003"),
        labels=layer.predict(rated),
        rated=rated,
        clean=clean,
        adversarial=clean + np.array([[0.1, 0.2], [0.1, 0.2], [0.1, -0.1]]),
    )


def random_model(seed: int = 1, clips: int = 12) -> AttackedConcepts:
    rng = np.random.default_rng(seed)
    shape = (len(EMOTIONS), len(CONCEPTS))
    layer = ConceptLayer(EMOTIONS, CONCEPTS, rng.normal(0, 0.5, shape), rng.normal(0, 0.1, len(EMOTIONS)))
    rated = rng.uniform(0.1, 0.9, (clips, len(CONCEPTS)))
    clean = rated + rng.normal(0, 0.05, rated.shape)
    return AttackedConcepts(
        layer=layer,
        clips=tuple(f"{clip:03d}" for clip in range(clips)),
        labels=layer.predict(rated) + rng.normal(0, 0.05, (clips, len(EMOTIONS))),
        rated=rated,
        clean=clean,
        adversarial=clean + rng.normal(0.1, 0.2, rated.shape),
    )


def clip_table(model: AttackedConcepts) -> pd.DataFrame:
    """Return the per-clip table that an attack run would have."""
    layer = model.layer
    columns = {
        "label_": (layer.emotions, model.labels),
        "clean_": (layer.emotions, layer.predict(model.clean)),
        "adv_": (layer.emotions, layer.predict(model.adversarial)),
        "label_concept_": (layer.concepts, model.rated),
        "clean_concept_": (layer.concepts, model.clean),
        "adv_concept_": (layer.concepts, model.adversarial),
    }
    table = pd.DataFrame({"clip": model.clips})
    return table.assign(
        **{k: v for prefix, (names, x) in columns.items() for k, v in named_columns(prefix, names, x).items()}
    )


def test_bias_and_effects_add_up_to_the_prediction() -> None:
    model = random_model()
    for concepts in (model.clean, model.adversarial):
        predictions = model.layer.bias + concepts @ model.layer.weights.T
        effects = model.layer.effects(concepts)
        np.testing.assert_allclose(model.layer.bias + effects.sum(axis=-1), predictions, rtol=0, atol=1e-12)
        assert model.layer.error(concepts, predictions) < 1e-12
        centred = model.centred_effects(concepts).sum(axis=-1)
        mean = model.layer.predict(model.clean).mean(axis=0)
        np.testing.assert_allclose(mean + centred, predictions, rtol=0, atol=1e-12)


def test_in_a_float32_network_they_add_up_to_its_precision() -> None:
    torch.manual_seed(3)
    network = build_network("bottleneck").eval()
    outputs, units = predict(network, torch.randn(6, 1, 24, 149))
    weights, bias = (value.detach().double().numpy() for value in network.fc_ml2emo.parameters())
    layer = ConceptLayer(EMOTIONS, CONCEPTS, weights, bias)
    assert outputs.dtype == np.float32
    assert 0 < layer.error(units, outputs) < FLOAT32_TOLERANCE
    assert layer.error(units, outputs + 1e-4) > FLOAT32_TOLERANCE


def test_movements_add_up_to_the_change_of_each_emotion() -> None:
    model = random_model()
    change = model.layer.predict(model.adversarial) - model.layer.predict(model.clean)
    np.testing.assert_allclose(model.moved.sum(axis=-1), change, rtol=0, atol=1e-12)
    table = movement_table(model)
    moved = table.groupby("emotion", sort=False)["moved"].sum()
    np.testing.assert_allclose(moved, change.mean(axis=0), rtol=0, atol=1e-12)
    for share in ("share", "net_share"):
        np.testing.assert_allclose(table.groupby("emotion")[share].sum(), 1, rtol=0, atol=1e-12)
        assert shift_table(model)[share].sum() == pytest.approx(1, abs=1e-12)


def test_effects_by_hand(tiny: AttackedConcepts) -> None:
    rows = effects_table(tiny).set_index(["clip", "emotion", "concept"])
    assert len(rows) == 12
    row = rows.loc[("003", "calm", "b")]
    # weight 2, concept .2 before and .1 under the attack, mean of the clean predictions .2
    expected = [0.4, 0.2, 0.0, -0.2, -0.2]
    columns = ["clean_effect", "adv_effect", "clean_centred", "adv_centred", "moved"]
    np.testing.assert_allclose(row[columns].astype(float), expected, rtol=0, atol=1e-12)


def test_shift_by_hand(tiny: AttackedConcepts) -> None:
    table = shift_table(tiny).set_index("concept")
    assert table.loc["a", "spread"] == pytest.approx(np.sqrt(0.08 / 3))
    assert table.loc["b", ["shift", "shift_abs", "raised"]].tolist() == pytest.approx([0.1, 0.5 / 3, 2 / 3])
    assert table.loc["b", "shift_spreads"] == pytest.approx(0.1 / np.sqrt(0.02 / 3))
    assert table.loc["b", "shift_abs_spreads"] == pytest.approx(0.5 / 3 / np.sqrt(0.02 / 3))
    # tense moves by +.1 through a and by -.1, -.1, +.05 through b; calm by .4, .4, -.2 through b alone
    assert table["share"].tolist() == pytest.approx([0.3 / 1.55, 1.25 / 1.55])
    # tense: .1 and -.1 cancel twice, .15 is left of the third clip; calm: 1.0
    assert table["net_share"].tolist() == pytest.approx([0.1 / 1.15, 1.05 / 1.15])
    assert table["clean_mae"].tolist() == pytest.approx([0.1, 0.0])
    assert table["adv_mae"].tolist() == pytest.approx([0.0, 0.5 / 3])


def test_movement_by_hand(tiny: AttackedConcepts) -> None:
    table = movement_table(tiny).set_index(["emotion", "concept"])
    assert table.loc[("tense", "b"), ["weight", "moved", "moved_abs"]].tolist() == pytest.approx(
        [-0.5, -0.05, 0.25 / 3]
    )
    assert table.loc[("tense", "a"), "share"] == pytest.approx(0.3 / 0.55)
    assert table.loc[("calm", "b"), "share"] == 1
    assert table.loc[("calm", "a"), "share"] == 0


@pytest.mark.filterwarnings("error")
def test_what_does_not_vary_or_move_has_no_value(tiny: AttackedConcepts) -> None:
    still = dataclasses.replace(tiny, adversarial=tiny.clean, clean=tiny.clean)
    assert shift_table(still)["share"].isna().all()
    assert movement_table(still)["net_share"].isna().all()
    flat = dataclasses.replace(tiny, clean=np.full_like(tiny.clean, 0.5))
    assert shift_table(flat)[["shift_spreads", "shift_abs_spreads"]].isna().all(axis=None)
    assert np.isfinite(shift_table(flat)["share"]).all()


def test_what_if_changes_the_emotions_through_the_weights(tiny: AttackedConcepts) -> None:
    before = tiny.layer.predict(tiny.clean)
    after = tiny.layer.what_if(tiny.clean, {"b": tiny.clean[:, 1] + 0.1})
    np.testing.assert_allclose(after - before, [[-0.05, 0.2]] * 3, rtol=0, atol=1e-12)
    np.testing.assert_allclose(tiny.layer.what_if(tiny.clean, {"a": 0, "b": 0}), [tiny.layer.bias] * 3)
    np.testing.assert_array_equal(tiny.clean[:, 1], [0.1, 0.3, 0.2])
    with pytest.raises(UserError, match=r"no concept 'c'. The concepts are a, b"):
        tiny.layer.what_if(tiny.clean, {"c": 1})


def test_what_if_table(tiny: AttackedConcepts) -> None:
    table = what_if_table(tiny).set_index(["concept", "change"])
    deltas = ["delta_tense", "delta_calm"]
    assert table.loc[("b", "+.1"), deltas].tolist() == pytest.approx([-0.05, 0.2])
    assert table.loc[("b", "-1 spread"), deltas].tolist() == pytest.approx(
        [0.5 * np.sqrt(0.02 / 3), -2 * np.sqrt(0.02 / 3)]
    )
    # concept a is estimated .1 too low, which is all that is wrong with the emotions
    assert table.loc[("a", "rated"), "mae"] == pytest.approx(0, abs=1e-12)
    assert table.loc[("a", "+.1"), "mae"] == pytest.approx(0, abs=1e-12)
    assert table.loc[("b", "rated"), "mae"] == pytest.approx(0.05)


def curve(table: pd.DataFrame, kind: str, replaced_by: str) -> pd.DataFrame:
    return table[(table["input"] == kind) & (table["replaced_by"] == replaced_by)]


def test_repair_ends_where_it_must() -> None:
    model = random_model()
    table = repair_table(model)
    errors = {
        name: np.abs(model.layer.predict(concepts) - model.labels).mean()
        for name, concepts in (("clean", model.clean), ("adv", model.adversarial), ("rated", model.rated))
    }
    undone, rated, clean = (
        curve(table, kind, by)
        for kind, by in (("adversarial", "clean"), ("adversarial", "rated"), ("clean", "rated"))
    )
    assert [len(part) for part in (undone, rated, clean)] == [len(CONCEPTS) + 1] * 3
    assert undone["mae"].iloc[[0, -1]].tolist() == pytest.approx([errors["adv"], errors["clean"]], abs=1e-12)
    assert rated["mae"].iloc[[0, -1]].tolist() == pytest.approx([errors["adv"], errors["rated"]], abs=1e-12)
    assert clean["mae"].iloc[[0, -1]].tolist() == pytest.approx([errors["clean"], errors["rated"]], abs=1e-12)
    for part in (undone, rated, clean):
        assert sorted(part["concept"]) == sorted(["", *CONCEPTS])
        assert part["mae"].iloc[1] == pytest.approx(part["alone_mae"].iloc[1:].min(), abs=1e-12)


def test_repair_takes_the_most_useful_concept_at_each_step() -> None:
    model = random_model()
    steps = curve(repair_table(model), "adversarial", "rated")
    done: list[str] = []
    for concept in steps["concept"].iloc[1:]:
        left = [name for name in CONCEPTS if name not in done]
        maes = {}
        for name in left:
            values = {c: model.rated[:, CONCEPTS.index(c)] for c in [*done, name]}
            maes[name] = np.abs(model.layer.what_if(model.adversarial, values) - model.labels).mean()
        assert maes[concept] == min(maes.values())
        done.append(concept)
        assert steps["mae"].iloc[len(done)] == pytest.approx(maes[concept], abs=1e-12)


def test_an_attack_through_one_concept_is_undone_by_it() -> None:
    model = random_model()
    adversarial = model.clean.copy()
    adversarial[:, 3] += 0.7
    steps = curve(repair_table(dataclasses.replace(model, adversarial=adversarial)), "adversarial", "clean")
    assert steps["concept"].iloc[1] == CONCEPTS[3]
    np.testing.assert_allclose(steps["mae"].iloc[1:], steps["mae"].iloc[-1], rtol=0, atol=1e-12)
    assert shift_table(dataclasses.replace(model, adversarial=adversarial))[
        "share"
    ].tolist() == pytest.approx([0, 0, 0, 1, 0, 0, 0])


def test_clipping_and_correlation_are_of_the_emotions(tiny: AttackedConcepts) -> None:
    far = dataclasses.replace(tiny, adversarial=tiny.clean + 100.0)
    start = curve(repair_table(far), "adversarial", "rated").iloc[0]
    predictions = np.clip(far.layer.predict(far.adversarial), 0, 1)
    assert start["mae_clipped"] == pytest.approx(np.abs(predictions - far.labels).mean())
    assert start["mae"] > 50
    assert curve(repair_table(far), "clean", "rated")["corr"].iloc[-1] == pytest.approx(1)


def test_layer_and_model_come_back_from_their_files(tmp_path: Path) -> None:
    model = random_model()
    model.layer.table().to_csv(tmp_path / "weights.csv", index=False)
    clip_table(model).to_csv(tmp_path / "clips.csv", index=False)
    layer = ConceptLayer.from_table(read_table(tmp_path / "weights.csv", where="weights"))
    assert (layer.emotions, layer.concepts) == (EMOTIONS, CONCEPTS)
    np.testing.assert_array_equal(layer.weights, model.layer.weights)
    np.testing.assert_array_equal(layer.bias, model.layer.bias)
    again = AttackedConcepts.from_table(read_table(tmp_path / "clips.csv", where="clips"), layer)
    assert again.clips == model.clips
    for name in ("labels", "rated", "clean", "adversarial"):
        np.testing.assert_array_equal(getattr(again, name), getattr(model, name))


@pytest.mark.parametrize("column", ["clean_tension", "adv_fear", "clean_concept_mode", "adv_concept_melody"])
def test_a_table_that_does_not_add_up_is_refused(column: str) -> None:
    model = random_model()
    table = clip_table(model)
    table.loc[4, column] += 0.01
    with pytest.raises(ValueError, match="bias \\+ sum of effects misses the predictions by"):
        AttackedConcepts.from_table(table, model.layer)


def test_the_saved_adversary_counts_where_another_iterate_is_reported() -> None:
    model = random_model()
    table = clip_table(model)
    rescored = {f"rescored_{emotion}": table[f"adv_{emotion}"] for emotion in EMOTIONS}
    table = table.assign(**rescored, **{f"adv_{emotion}": 5.0 for emotion in EMOTIONS})
    assert identity_error(table, model.layer) < 1e-12


def test_a_layer_of_another_shape_is_refused() -> None:
    with pytest.raises(ValueError, match=r"weights \(2, 3\) and bias \(2,\), not \(2, 2\)"):
        ConceptLayer(("x", "y"), ("a", "b"), np.zeros((2, 3)), np.zeros(2))


class Foreign(nn.Module):
    """A user's bottleneck with what may follow its linear layer, and a decoy of the same shape after it."""

    def __init__(self, after: str = "", cells: int = 6) -> None:
        super().__init__()
        self.units = nn.Linear(cells, 7)
        self.top = nn.Linear(7, 8, bias=after != "no bias")
        self.unused = nn.Linear(7, 8)
        self.after = after

    def forward(self, inputs: Tensor) -> dict[str, Tensor | None]:
        units = self.units(inputs.flatten(1))
        output = self.top(units.square() if self.after == "square" else units)
        if self.after == "clamp":
            output = output.clamp(-3, 3)
        return {"output": output, "c_prob": units}


def attacked_table(model: nn.Module, inputs: Tensor, scale: float) -> pd.DataFrame:
    """Return the columns that the search for the layer needs; the attack scales the inputs."""
    columns = {}
    for kind, shown in (("clean", inputs), ("adv", scale * inputs)):
        outputs, units = predict(model, shown)
        columns |= named_columns(f"{kind}_", EMOTIONS, outputs)
        columns |= named_columns(f"{kind}_concept_", CONCEPTS, units)
    return pd.DataFrame(columns)


@pytest.mark.parametrize("after", ["", "no bias"])
@pytest.mark.parametrize("exported", [False, True])
def test_the_layer_of_a_users_model_is_found(after: str, exported: bool) -> None:
    torch.manual_seed(1)
    model, inputs = Foreign(after).eval(), torch.randn(5, 1, 2, 3)
    weights = model.top.weight.detach().double().numpy()
    table = attacked_table(model, inputs, 40.0)
    shown = torch.export.export(model, (inputs,)).module() if exported else model
    layer = concept_layer(shown, table, EMOTIONS, CONCEPTS)
    assert layer is not None
    np.testing.assert_array_equal(layer.weights, weights)


@pytest.mark.parametrize("after", ["square", "clamp"])
def test_no_layer_is_claimed_that_does_not_explain_every_prediction(after: str) -> None:
    torch.manual_seed(1)
    model, inputs = Foreign(after).eval(), torch.randn(5, 1, 2, 3)
    # Clamping shows on attacked clips alone.
    assert concept_layer(model, attacked_table(model, inputs, 40.0), EMOTIONS, CONCEPTS) is None
    if after == "clamp":
        assert concept_layer(model, attacked_table(model, inputs, 1.1), EMOTIONS, CONCEPTS) is not None


def test_a_network_of_the_study_that_does_not_add_up_is_a_bug() -> None:
    torch.manual_seed(2)
    network = build_network("bottleneck").eval()
    table = attacked_table(network, torch.randn(3, 1, 24, 149), 2.0)
    assert concept_layer(network, table, EMOTIONS, CONCEPTS) is not None
    wrong = table.assign(adv_fear=table["adv_fear"] + 0.01)
    with pytest.raises(ValueError, match="misses the predictions of the network"):
        concept_layer(network, wrong, EMOTIONS, CONCEPTS)
    assert concept_layer(network, table.assign(adv_fear=np.nan), EMOTIONS, CONCEPTS) is None


@pytest.fixture(scope="module")
def store(lasting_store: Store) -> Store:
    return lasting_store


def attacked(store: Store, system: str, model: nn.Module, clips: int = 3) -> Selected:
    """Log the explanation of one attack run, as the attack stage does, and select it."""
    data = noise_dataset(["train"] * 8 + ["validation"] + ["test"] * clips)
    named = system not in CATALOGUE or CATALOGUE[system].interpretable
    victim = Victim(
        model=model, digest="", run=None, dataset_run_id="", dataset=data, seed="1", system=system,
        data=standardise(data, "published", "all"), scheme="published", fit_on="all",
        train_protocol="published", concepts=CONCEPTS if named else (),
    )  # fmt: skip
    part = victim.data.test
    assert part.concepts is not None
    table = data.clips.iloc[part.rows][["clip"]].assign(
        **named_columns("label_", EMOTIONS, part.labels.numpy()),
        **named_columns("label_concept_", CONCEPTS, part.concepts.numpy()),
    )
    predicted = attacked_table(model, part.inputs, 1.5)
    table = pd.concat([table.reset_index(drop=True), predicted], axis=1)

    def body(run: Run) -> None:
        run.table(table, Artifact.ADVERSARY_CLIPS)
        log_explanation(run, victim, table)

    spec = RunSpec(Stage.ATTACK, system, {"system": system}, {Tag.SYSTEM: system, Tag.SEED: "1"})
    outcome = store.perform(spec, body)
    return Selected(store.get(outcome.run_id), system)


def bottleneck(seed: int) -> nn.Module:
    torch.manual_seed(seed)
    return build_network("bottleneck").eval()


def test_a_run_logs_its_explanation_and_analysis_reads_it(store: Store) -> None:
    run = attacked(store, "A2M2E", bottleneck(1))
    (model,) = read_explanations(store, [run], ["A2M2E"])[0]["A2M2E"]
    run_id, metrics = run.record.run_id, run.record.metrics
    expected = shift_table(model).set_index("concept")
    logged = store.read_table(run_id, "tables/concept_shift.csv").set_index("concept")
    np.testing.assert_allclose(logged, expected, rtol=1e-5)  # the per-clip table is float32
    assert 0 < metrics["concept/identity_error"] < FLOAT32_TOLERANCE
    assert metrics["adv/concept/mae"] == pytest.approx(logged["adv_mae"].mean())
    repair = store.read_table(run_id, "tables/concept_repair.csv")
    rated = curve(repair, "adversarial", "rated")["mae"]
    assert metrics["concept/repair/mae"] == rated.iloc[-1]
    assert metrics["concept/repair/mae_best"] == rated.min()
    assert metrics["concept/undo/mae_first"] == curve(repair, "adversarial", "clean")["mae"].iloc[1]
    for name, rows in (("effects", 3 * 8 * 7), ("movement", 8 * 7), ("what_if", 7 * 5), ("weights", 8)):
        assert len(store.read_table(run_id, f"tables/concept_{name}.csv")) == rows
    for name in ("weights", "shift", "movement", "repair", "effects"):
        assert store.download(run_id, f"figures/concept_{name}.png").stat().st_size > 5000


def test_analysis_takes_leakage_from_the_run_that_measured_it(store: Store) -> None:
    run = attacked(store, "aA2M2E", bottleneck(2), clips=9)
    (model,) = read_explanations(store, [run], ["aA2M2E"])[0]["aA2M2E"]
    assert model.leakage is not None
    means = {f"concept/{name}": value for name, value in leakage_means(model.leakage).items()}
    assert {name: run.record.metrics[name] for name in means} == pytest.approx(means)
    marked = dataclasses.replace(model, leakage=model.leakage.assign(task_leakage=0.123))
    section = concepts_section(Contents(explained={"aA2M2E": [marked]}, emotions=list(EMOTIONS)))
    assert (section.data["concept_leakage"]["task_leakage"] == 0.123).all()
    few = attacked(store, "A2M2E", bottleneck(5))
    assert "concept/task_leakage" not in few.record.metrics
    (model,) = read_explanations(store, [few], ["A2M2E"])[0]["A2M2E"]
    assert model.leakage is None


def test_a_run_without_an_explanation_says_why(store: Store) -> None:
    unnamed = attacked(store, "A2B2E", bottleneck(3))
    foreign = attacked(store, "mynet", Foreign("square", 24 * 149).eval())
    reasons = [
        store.download(item.record.run_id, "tables/concepts.txt").read_text() for item in (unnamed, foreign)
    ]
    assert "trained through the emotions alone" in reasons[0]
    assert "no linear layer of the model" in reasons[1]
    assert not [name for name in (*unnamed.record.metrics, *foreign.record.metrics) if "concept" in name]
    systems, without = read_explanations(store, [unnamed, foreign], ["mynet", "A2B2E"])
    assert not systems
    assert without == {name: reason_without(name) for name in ("mynet", "A2B2E")}


def test_an_altered_table_of_concepts_is_refused_by_name(store: Store) -> None:
    run = attacked(store, "altered", bottleneck(4))
    file = store.download(run.record.run_id, WEIGHTS_TABLE)
    table = pd.read_csv(file)
    table.assign(bias=table["bias"] + 0.01).to_csv(file, index=False)
    what = f"{WEIGHTS_TABLE} is not the file that the run logged"
    with pytest.raises(UserError, match=rf"^run {run.record.run_id} \(altered\): {what}"):
        read_explanations(store, [run], ["altered"])


@pytest.fixture
def systems() -> dict[str, list[AttackedConcepts]]:
    return {"A2M2E": [random_model(seed) for seed in (1, 2, 3)], "aA2M2E": [random_model(4), random_model(5)]}


def test_tables_hold_means_over_seeds(systems: dict[str, list[AttackedConcepts]]) -> None:
    tables = concept_tables(systems)
    shares = [shift_table(model)["share"] for model in systems["A2M2E"]]
    rows = tables["concept_shift"].query("system == 'A2M2E'")
    assert rows["concept"].tolist() == list(CONCEPTS)
    assert set(rows["seeds"]) == {3}
    np.testing.assert_allclose(rows["share"], np.mean(shares, axis=0))
    np.testing.assert_allclose(rows["share_std"], np.std(shares, axis=0))
    steps = tables["concept_repair"].query("system == 'aA2M2E' and input == 'clean'")
    maes = [curve(repair_table(model), "clean", "rated")["mae"] for model in systems["aA2M2E"]]
    np.testing.assert_allclose(steps["mae"], np.mean(maes, axis=0))


def test_the_section_says_what_moves_and_what_is_not_explained(tiny: AttackedConcepts) -> None:
    without = {name: reason_without(name) for name in ("A2E", "aA2E", "A2B2E", "placebo")}
    section = concepts_section(Contents(explained={"A2M2E": [tiny]}, unexplained=without, emotions=["calm"]))
    text = "\n".join(section.paragraphs)
    # mean absolute shift of b: .167, over a spread of .0816
    assert "moves b furthest, by .167 on average, 2.0 times its spread" in text
    assert "goes through b 81 %, a 19 %" in text
    assert "With every concept set to its rating the MAE is .000" in text
    assert "ratings do not repair" not in text
    assert "Not explained: A2E, aA2E (no bottleneck" in text
    assert "Not explained: placebo (units trained on the ratings of other clips" in text
    shifts, repairs = (part.frame for part in section.tables)
    assert shifts["Share (%)"].tolist() == ["19", "81"]
    assert repairs.iloc[1].tolist()[:5] == ["A2M2E", "attacked concepts → ratings", *repairs.iloc[1, 2:5]]
    assert repairs.loc[1, "2"] == ".000"
    assert set(section.figures) == {
        f"concept_{n}" for n in ("shift", "movement", "repair", "effects", "weights")
    }


def test_ratings_that_do_not_repair_are_called_so(tiny: AttackedConcepts) -> None:
    calm = dataclasses.replace(tiny, adversarial=tiny.clean + 1e-6, rated=tiny.rated + 0.5)
    section = concepts_section(Contents(explained={"A2M2E": [calm]}, emotions=["calm"]))
    assert "ratings do not repair this system" in section.paragraphs[0]


def test_a_section_of_reasons_alone_has_no_figures() -> None:
    section = concepts_section(Contents(unexplained={"A2E": reason_without("A2E")}))
    assert len(section.paragraphs) == 1
    assert not section.tables
    assert not section.figures


@pytest.mark.parametrize(
    ("system", "reason"),
    [
        ("A2E", "no bottleneck"),
        ("aA2E", "no bottleneck"),
        ("A2B2E", "through the emotions alone"),
        ("aA2B2E", "through the emotions alone"),
        ("placebo", "ratings of other clips"),
        ("A2M2E w.3", "only the suite"),
        ("aA2M2E", "only the suite"),
        ("mynet", "no units that are known"),
    ],
)
def test_reasons(system: str, reason: str) -> None:
    assert reason in reason_without(system)


def test_heat_maps_show_mean_weights_and_doubtful_signs(tiny: AttackedConcepts) -> None:
    other = dataclasses.replace(tiny.layer, weights=np.array([[0.6, 0.1], [0.0, 2.0]]))
    figure = concept_weights({"A2M2E": [tiny, dataclasses.replace(tiny, layer=other)]})
    left, right = figure.axes
    assert [text.get_text() for text in left.texts] == [".80", "±.20", ".00", "2.00"]
    assert right.texts[3].get_text() == ".163"  # 2 times the spread, .0816
    assert [label.get_text() for label in left.get_yticklabels()] == ["tense", "calm"]


def test_the_heat_map_of_movements_shows_sizes(tiny: AttackedConcepts) -> None:
    (axes,) = concept_movement({"A2M2E": [tiny]}).axes
    assert [text.get_text() for text in axes.texts] == [".10", ".08", ".00", ".33"]


def test_boxes_of_effects_lie_where_the_effects_are(tiny: AttackedConcepts) -> None:
    (axes,) = concept_effects({"A2M2E": [tiny]}, ["calm"]).axes
    medians = sorted(line.get_xdata()[0] for line in axes.lines if line.get_linewidth() == 1.2)
    # a has no weight; b: 2 * (.1, .3, .2 - mean .2), then 2 * (.3, .5, .1 - .2)
    assert medians == pytest.approx([0, 0, 0, 0.2], abs=1e-12)


def test_bars_of_the_shift_figure_are_the_shares(systems: dict[str, list[AttackedConcepts]]) -> None:
    right = concept_shift(systems).axes[1]
    widths = [bar.get_width() for bar in right.patches]
    expected = [
        100 * np.mean([shift_table(m)["share"] for m in models], axis=0) for models in systems.values()
    ]
    np.testing.assert_allclose(widths, np.concatenate(expected))


def test_steps_are_named_for_one_model_and_counted_for_several(
    tiny: AttackedConcepts, systems: dict[str, list[AttackedConcepts]]
) -> None:
    single = concept_repair({"A2M2E": [tiny]}).axes[0]
    assert [label.get_text() for label in single.get_xticklabels()] == ["none", "+ b", "+ a"]
    several = concept_repair(systems).axes
    assert {axes.get_xlabel() for axes in several} == {"concepts replaced"}
    drawn = several[1].lines[3].get_ydata()  # after the three seeds of A2M2E their mean
    maes = [curve(repair_table(model), "adversarial", "rated")["mae"] for model in systems["A2M2E"]]
    np.testing.assert_allclose(drawn, np.mean(maes, axis=0))
