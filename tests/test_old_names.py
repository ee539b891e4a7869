"""Names of before: options and files that use them, runs that have them, digests that were made of them."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest
import torch
from click.testing import CliRunner

from entrypoints.cli import main
from rmer.old_names import as_digested
from rmer.stages.analysis.analyze_params import AnalyzeParams
from rmer.stages.analysis.selection import select_attack_runs
from rmer.stages.attack.attack import spec_of
from rmer.stages.attack.attack_params import AttackParams
from rmer.stages.attack.attack_setup import AttackSetup
from rmer.stages.attack.victims import Victim
from rmer.tracking import RunSpec, Stage, Store, Tag

VICTIM = cast(
    Victim,
    SimpleNamespace(
        run=None, digest="w", dataset=SimpleNamespace(digest="d", name=""), dataset_run_id="x",
        scheme="album", fit_on="train", system="A2E", seed="6", train_protocol="corrected", training={},
        fold=0, own=None, in_words="A2E s6",
    ),
)  # fmt: skip
OTHER = cast(Victim, SimpleNamespace(system="A2M2E", digest="v"))


@pytest.mark.parametrize(
    ("given", "digest"),
    [
        ({"attack": "published"}, "8a2b023e4f625af3"),
        ({"attack": "bridge"}, "dab290d86a7a3ebc"),
        ({"attack": "suite"}, "b564ab011c4a8fc8"),
        ({"attack": "apgd"}, "1def63bfe8f360c6"),
        ({"attack": "pgd"}, "ff30fb13d9064d88"),
        ({"attack": "fgsm"}, "764cff1c36c88aab"),
        ({"attack": "square"}, "7e408adfd382fd29"),
        ({"attack": "transfer"}, "a133d3ef32dd4bf4"),
        ({"attack": "minimum_norm"}, "04a809ba4b7488f0"),
        ({"attack": "noise"}, "effb23b291e9b618"),
        (
            {"attack": "apgd", "warm_start": True, "epsilons": ".01,.02", "loss": "l1,outputs", "norm": "l2"},
            "c8deb3b7f14c60f7",
        ),
        (
            {"attack": "suite", "tier": "paper_fixed", "epsilon": 0.05, "warm_start": True},
            "5662c8f15da4c71a",
        ),
    ],
)
def test_an_attack_is_digested_as_it_always_was(given: dict[str, Any], digest: str) -> None:
    params = AttackParams(**given, model_uri="m")
    surrogate = OTHER if params.method.takes_surrogate else None
    setup = AttackSetup(VICTIM, params, surrogate, torch.device("cpu"), {}, ())
    assert spec_of(setup).digest == digest


def test_the_adaptive_tier_is_another_one_than_the_fixed_one_that_had_its_name() -> None:
    assert as_digested({"tier": "paper"}) != as_digested({"tier": "paper_fixed"}) == {"tier": "paper"}


@pytest.mark.parametrize("by", ["options", "file"])
def test_old_names_are_taken_and_told(by: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("attack.yaml").write_text("{attack: minimal, warm: true}")
    given = ["--attack", "minimal", "--warm=true"] if by == "options" else ["--config", "attack.yaml"]
    result = CliRunner().invoke(main, ["attack", *given])
    told, refused = sorted(result.stderr.splitlines()[:2]), result.stderr.splitlines()[2]
    assert told == ["rmer: minimal is called minimum_norm now", "rmer: warm is called warm_start now"]
    assert refused.startswith("rmer: parameter warm_start: the minimum_norm attack does not use it.")


def test_runs_are_narrowed_by_a_setting_under_its_old_name() -> None:
    params = AnalyzeParams.from_mapping({"where": "warm=true,loss=l1,mse"})
    assert params.settings() == {"warm_start": "true", "loss": "l1,mse"}


def test_runs_of_before_are_found_and_read_under_the_names_of_now(store: Store) -> None:
    config = {"warm": True, "epsilon": 0.1, "epsilon_report": 0.1}
    for attack in ("minimal", "pgd"):
        spec = RunSpec(Stage.ATTACK, attack, {"attack": attack, **config}, {Tag.ATTACK: attack})
        store.perform(spec, lambda run: run.metrics({"minimal/found": 0.5}))
    (found,) = select_attack_runs(
        store, {Tag.ATTACK: "minimum_norm"}, study="", systems=(), where={}, allow_mixed=False
    )
    assert found.record.tags[Tag.ATTACK] == found.record.params["cfg.attack"] == "minimum_norm"
    assert (found.record.params["cfg.warm_start"], found.record.params["cfg.epsilon"]) == ("true", "0.1")
    assert "cfg.epsilon_report" not in found.record.params
    assert found.record.metrics["minimum_norm/found"] == 0.5
