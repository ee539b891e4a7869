"""Networks and catalogue: published parameter names, names of systems, folding, damaged checkpoints."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from rmer.errors import UserError
from rmer.systems.catalogue import CATALOGUE, System, known_system, resolve
from rmer.systems.frozen import FrozenNetwork
from rmer.systems.network import ARCHITECTURES, PlainNetwork, Prediction, build_network, load_checkpoint

CONVOLUTIONS = ("1", "2", "3", "4", "5", "6", "7", "7b", "11")


def published_keys(heads: tuple[str, ...]) -> set[str]:
    convolution = ("0.weight", "0.bias")
    norm = ("1.weight", "1.bias", "1.running_mean", "1.running_var", "1.num_batches_tracked")
    backbone = {f"preconcept_model.conv{n}.{key}" for n in CONVOLUTIONS for key in convolution + norm}
    return backbone | {f"{head}.{key}" for head in heads for key in ("weight", "bias")}


@pytest.mark.parametrize(("arch", "heads"), [("plain", ("fc",)), ("bottleneck", ("fc_ml", "fc_ml2emo"))])
def test_state_dict_has_the_published_keys(arch: str, heads: tuple[str, ...]) -> None:
    assert set(build_network(arch).state_dict()) == published_keys(heads)


def test_full_size_network_maps_excerpts_to_targets_and_concepts() -> None:
    prediction = build_network("bottleneck", targets=5, concepts=3).eval()(torch.zeros(2, 1, 313, 149))
    assert prediction["output"].shape == (2, 5)
    assert prediction["c_prob"].shape == (2, 3)
    assert build_network("plain", targets=1).eval()(torch.zeros(1, 1, 40, 149))["c_prob"] is None


def test_initialisation_is_kaiming_with_zero_linear_biases() -> None:
    torch.manual_seed(0)
    network = build_network("bottleneck")
    kernel = network.preconcept_model.conv7[0].weight
    assert kernel.std().item() == pytest.approx((2 / kernel[0].numel()) ** 0.5, rel=0.02)
    assert not network.fc_ml.bias.any()
    assert network.preconcept_model.conv1[0].bias.any()


A2E, A2M2E, PLACEBO = CATALOGUE["A2E"], CATALOGUE["A2M2E"], CATALOGUE["placebo"]


@pytest.mark.parametrize(
    ("system", "name"),
    [
        (A2M2E.varied(), "A2M2E"),
        (A2M2E.varied(arch="plain"), "A2E"),
        (A2E.varied(arch="bottleneck"), "A2M2E"),
        (A2M2E.varied(task_loss_weight=1.0), "A2B2E"),
        (A2M2E.varied(adversarial=True), "aA2M2E"),
        (A2M2E.varied(task_loss_weight=0.3), "A2M2E w.3"),
        (A2M2E.varied(task_loss_weight=0.0, adversarial=True), "aA2M2E w0"),
        (PLACEBO.varied(task_loss_weight=0.7), "placebo w.7"),
        (PLACEBO.varied(adversarial=True), "aplacebo"),
        (PLACEBO.varied(adversarial=True, task_loss_weight=0.3), "aplacebo w.3"),
    ],
)
def test_variations_are_named_by_what_is_varied(system: System, name: str) -> None:
    assert system.name == name
    assert known_system(name) == known_system(f"{name} (lr w.9)") == system
    assert system.parent == (name[1:] if system.adversarial else "")


def test_no_variation_has_the_name_of_another_system(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(ARCHITECTURES._loaded, "levels", PlainNetwork)
    assert A2E.varied(arch="levels").name == "A2E levels"
    assert A2E.varied(arch="levels", adversarial=True) == known_system("aA2E levels")
    assert System("atonal", "levels").varied(adversarial=True).name == "aatonal"


def test_what_is_known_of_a_system_is_not_read_out_of_its_name() -> None:
    interpretable = [name for name, system in CATALOGUE.items() if system.interpretable]
    black_boxes = [name for name, system in CATALOGUE.items() if system.black_box]
    assert interpretable == ["A2M2E", "aA2M2E", "sA2M2E", "iA2M2E", "ridge"]
    assert black_boxes == ["A2E", "A2B2E", "aA2E", "aA2B2E"]
    assert {name: system.parent for name, system in CATALOGUE.items() if system.adversarial} == {
        "aA2E": "A2E", "aA2B2E": "A2B2E", "aA2M2E": "A2M2E",
    }  # fmt: skip
    for name in ("aA2Mine", "aaA2E", "asA2M2E", "a", ""):
        assert known_system(name) is None
    for name in ("A2E w.3", "A2E w5", "A2E of theirs"):
        assert known_system(name) == A2E


def test_groups_resolve_to_the_published_scripts() -> None:
    names = [system.name for system in resolve("blackbox, interpretable,A2E")]
    assert names == ["A2E", "A2B2E", "A2M2E", "sA2M2E", "iA2M2E"]
    added = {"aA2M2E", "sA2M2E", "iA2M2E", "placebo", "ridge"}
    assert {system.name for system in resolve("published")} == set(CATALOGUE) - added
    assert {system.name for system in resolve("all")} == set(CATALOGUE) - {"ridge"}


@pytest.mark.parametrize(("arch", "weight"), [("bottleneck", 1.5), ("deep", 1.0)])
def test_bad_systems_are_user_errors(arch: str, weight: float) -> None:
    with pytest.raises(UserError):
        System("X", arch, weight)


@pytest.mark.parametrize("varied", [{"task_loss_weight": 0.5}, {"adversarial": True}])
def test_no_emotion_has_a_part_in_concepts_whose_last_layer_is_fitted_afterwards(
    varied: dict[str, Any],
) -> None:
    with pytest.raises(UserError, match="fitted after the concepts"):
        CATALOGUE["sA2M2E"].varied(**varied)


def test_folding_leaves_the_function_unchanged() -> None:
    torch.manual_seed(1)
    network = build_network("bottleneck").double()
    for module in network.modules():  # running statistics as after training, not the trivial (0, 1)
        if isinstance(module, torch.nn.BatchNorm2d):
            module.running_mean.uniform_(-0.5, 0.5)
            module.running_var.uniform_(0.5, 2.0)
    inputs = torch.randn(3, 1, 40, 149, dtype=torch.float64)
    folded, plain = FrozenNetwork(network), FrozenNetwork(network, fold=False)
    prediction, gradient = folded.gradient(inputs, lambda found: found["output"].square().sum(1))
    expected_prediction, expected = plain.gradient(inputs, lambda found: found["output"].square().sum(1))
    assert torch.allclose(prediction["output"], expected_prediction["output"], atol=1e-12)
    assert torch.allclose(gradient, expected, atol=1e-12 * float(expected.abs().max()) + 1e-15)
    assert folded.gradients == 3
    assert isinstance(network.preconcept_model.conv1[1], torch.nn.BatchNorm2d), "the original is untouched"


@pytest.mark.parametrize("fold", [True, False])
@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_a_copy_that_follows_a_training_is_a_new_copy_bit_for_bit(precision: Any, fold: bool) -> None:
    torch.manual_seed(2)
    network = build_network("bottleneck", width=0.125)
    copied = FrozenNetwork(network, fold=fold, precision=precision)
    before = copied.finer.predict(torch.ones(1, 1, 40, 149))["output"]
    optimiser = torch.optim.Adam(network.train().parameters(), lr=0.1)
    for _ in range(2):  # running statistics change, too
        network(torch.randn(4, 1, 40, 149))["output"].square().mean().backward()
        optimiser.step()

    copied.follow(network)

    anew, inputs = FrozenNetwork(network, fold=fold, precision=precision), torch.randn(3, 1, 40, 149)
    for mine, fresh in ((copied, anew), (copied.finer, anew.finer)):
        found, expected = (one.gradient(inputs, lambda said: said["output"].sum(1)) for one in (mine, fresh))
        assert torch.equal(found[0]["output"], expected[0]["output"])
        assert torch.equal(found[1], expected[1])
    assert not torch.equal(copied.predict(torch.ones(1, 1, 40, 149))["output"], before)
    assert network.training, "the training goes on"


def test_frozen_network_is_in_evaluation_mode_and_gives_weights_no_gradient() -> None:
    network = build_network("plain").train()
    frozen = FrozenNetwork(network)
    inputs = torch.randn(2, 1, 40, 149)
    assert torch.equal(frozen.predict(inputs)["output"], frozen.predict(inputs)["output"]), "dropout is off"
    assert not any(parameter.requires_grad for parameter in frozen.model.parameters())
    assert network.training, "the caller's network keeps its mode"


@pytest.mark.parametrize("suffix", [".safetensors", ".pt"])
@pytest.mark.parametrize("arch", ["plain", "bottleneck"])
@pytest.mark.parametrize("width", [1.0, 0.25, 0.1, 0.33])
def test_checkpoints_load_in_both_forms(tmp_path: Path, arch: str, width: float, suffix: str) -> None:
    network = build_network(arch, targets=3, width=width)
    path = tmp_path / f"model{suffix}"
    (save_file if suffix == ".safetensors" else torch.save)(network.state_dict(), path)
    loaded = load_checkpoint(path)
    assert not loaded.training
    assert all(torch.equal(value, loaded.state_dict()[key]) for key, value in network.state_dict().items())


def test_width_scales_channels_and_the_published_network_has_width_1() -> None:
    published, narrow = (
        [
            module.out_channels
            for module in build_network("plain", width=width).modules()
            if isinstance(module, nn.Conv2d)
        ]
        for width in (1.0, 0.125)
    )
    assert published == [64, 64, 128, 128, 256, 256, 384, 512, 256]
    assert narrow == [channels // 8 for channels in published]


@pytest.mark.parametrize(("dropout", "alike"), [(0.0, True), (0.3, False)])
def test_dropout_is_of_training_alone(dropout: float, alike: bool) -> None:
    network = build_network("bottleneck", width=0.125, dropout=dropout)
    inputs = torch.randn(2, 1, 32, 149, generator=torch.Generator().manual_seed(1))
    first, second = (network.train()(inputs)["output"] for _ in range(2))
    assert torch.equal(first, second) == alike
    assert torch.equal(*(network.eval()(inputs)["output"] for _ in range(2)))


def test_an_architecture_without_a_width_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(ARCHITECTURES._loaded, "levels", lambda targets, concepts: PlainNetwork(targets))  # type: ignore[misc]
    assert build_network("levels", 3)(torch.zeros(1, 1, 32, 149))["output"].shape == (1, 3)
    with pytest.raises(UserError, match="the levels architecture has no width"):
        build_network("levels", 3, width=0.5)
    with pytest.raises(UserError, match="the levels architecture has no dropout"):
        build_network("levels", 3, dropout=0.5)


def test_checkpoints_that_hold_code_are_refused(tmp_path: Path) -> None:
    class Payload:
        def __reduce__(self) -> tuple[object, ...]:
            return (Path(tmp_path / "executed").touch, ())

    torch.save({"fc.weight": Payload()}, tmp_path / "m.pt")
    with pytest.raises(UserError):
        load_checkpoint(tmp_path / "m.pt")
    assert not (tmp_path / "executed").exists()


def test_checkpoint_of_another_network_is_refused(tmp_path: Path) -> None:
    torch.save({"fc.weight": torch.zeros(8, 10)}, tmp_path / "m.pt")
    with pytest.raises(UserError, match="not a checkpoint of this network"):
        load_checkpoint(tmp_path / "m.pt")


def test_predictions_in_bf16_tell_iterates_apart_and_those_asked_for_are_exact() -> None:
    torch.manual_seed(4)
    network, inputs = build_network("bottleneck"), torch.randn(2, 1, 32, 149)
    frozen = FrozenNetwork(network, precision="bf16")
    exact = frozen.predict(inputs)["output"]
    assert torch.equal(exact, FrozenNetwork(network).predict(inputs)["output"])
    prediction, gradient = frozen.gradient(inputs, lambda found: found["output"].sum(1))
    estimate = frozen.estimate_in_batches(inputs)["output"]
    assert torch.equal(prediction["output"], estimate)
    assert not torch.equal(estimate, exact)
    assert torch.allclose(estimate, exact, atol=0.02 * float(exact.abs().max()))
    # What follows the convolutions is float32: sums in bfloat16 would be multiples of a large power of two.
    assert not torch.equal(estimate, estimate.to(torch.bfloat16).to(torch.float32))
    same, full = frozen.full.gradient(inputs, lambda found: found["output"].sum(1))
    assert torch.equal(full, FrozenNetwork(network).gradient(inputs, lambda found: found["output"].sum(1))[1])
    assert torch.allclose(same["output"], exact, atol=1e-6)
    assert not torch.equal(full, gradient)
    assert vars(frozen.spent) == {"gradients": 4, "forwards": 4, "reduced": 2, "finer": 0}


def test_gradients_with_only_later_convolutions_in_bf16_are_closer_to_those_in_float32() -> None:
    torch.manual_seed(4)
    network, inputs = build_network("bottleneck"), torch.randn(2, 1, 64, 149)
    frozen = FrozenNetwork(network, precision="bf16")
    coarse, finer, full = (
        one.gradient(inputs, lambda found: found["output"].sum(1))[1].flatten()
        for one in (frozen, frozen.finer, frozen.full)
    )
    angles = [1 - float(torch.cosine_similarity(one, full, dim=0)) for one in (coarse, finer)]
    assert 0 < angles[1] < angles[0] / 3
    assert vars(frozen.spent) == {"gradients": 6, "forwards": 0, "reduced": 2, "finer": 2}
    assert frozen.finer.finer is frozen.finer
    assert torch.equal(frozen.finer.predict(inputs)["output"], frozen.predict(inputs)["output"])
    exact = FrozenNetwork(network)
    assert exact.finer is exact


class Mixed(nn.Module):
    """A model that uses a weight outside of any layer, which takes no input in another arithmetic."""

    def __init__(self) -> None:
        super().__init__()
        self.convolution = nn.Conv2d(1, 4, 3)
        self.weight = nn.Parameter(torch.randn(3, 4))

    def forward(self, inputs: Tensor) -> Prediction:
        return {
            "output": nn.functional.linear(self.convolution(inputs).mean((2, 3)), self.weight),
            "c_prob": None,
        }


def test_a_model_that_mixes_arithmetics_by_itself_runs_in_bf16_throughout() -> None:
    network, inputs = Mixed(), torch.randn(2, 1, 8, 9)
    frozen = FrozenNetwork(network, precision="bf16")
    for _ in range(2):
        prediction, gradient = frozen.gradient(inputs, lambda found: found["output"].sum(1))
        assert torch.allclose(prediction["output"], network(inputs)["output"], atol=0.05)
        assert gradient.dtype == torch.float32
    assert frozen.spent.gradients == 4
    finer, full = (
        one.gradient(inputs, lambda found: found["output"].sum(1))[1] for one in (frozen.finer, frozen.full)
    )
    assert torch.equal(finer, full), "no part of it can be told apart"


def test_want_of_memory_is_no_reason_to_compute_everything_in_bf16() -> None:
    class Full(Mixed):
        def forward(self, inputs: Tensor) -> Prediction:
            raise torch.OutOfMemoryError

    frozen = FrozenNetwork(Full(), precision="bf16")
    with pytest.raises(torch.OutOfMemoryError):
        frozen.gradient(torch.randn(1, 1, 8, 9), lambda found: found["output"].sum(1))
    assert not frozen._reduced.whole  # type: ignore[union-attr]


def test_batches_are_as_even_as_can_be() -> None:
    frozen = FrozenNetwork(build_network("plain"), batch_size=8)
    sizes = [len(batch) for (batch,) in frozen.batches(torch.zeros(36, 1))]
    assert sizes == [8, 7, 7, 7, 7]
    assert [len(batch) for (batch,) in frozen.batches(torch.zeros(8, 1))] == [8]


def test_an_exported_program_is_attacked_in_bf16_and_left_as_it_was() -> None:
    torch.manual_seed(5)
    network, inputs = build_network("plain").eval(), torch.randn(2, 1, 32, 149)
    batch = {"spectrograms": {0: torch.export.Dim("batch")}}
    program = torch.export.export(network, (inputs,), dynamic_shapes=batch).module()
    frozen = FrozenNetwork(program, precision="bf16")
    gradient = frozen.gradient(inputs, lambda found: found["output"].sum(1))[1]
    exact = FrozenNetwork(network).gradient(inputs, lambda found: found["output"].sum(1))[1]
    assert float((gradient - exact).norm()) < 0.3 * float(exact.norm()), "untrained, it bears bf16 badly"
    assert not torch.equal(gradient, exact)
    assert next(program.parameters()).dtype == torch.float32
    assert torch.allclose(frozen.predict(inputs)["output"], network(inputs)["output"], atol=1e-6)
