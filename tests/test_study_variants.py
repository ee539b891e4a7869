"""What a study does to every model, on spectrograms and on the sound, and what it refuses."""

from __future__ import annotations

from typing import Any

import pytest

from rmer.errors import UserError
from rmer.evaluation.checks.measurements import AttackedScores, Measurements, noise_metrics
from rmer.stages.study.plan import StudyParams, make_plan
from rmer.stages.study.variants import attack_variants, domains_of


@pytest.mark.parametrize(
    ("given", "variants"),
    [
        ({}, ["suite", "suite masking"]),
        ({"size": "full", "tier": "quick"}, ["published", "bridge", "suite", "suite masking", "suite snr"]),
        ({"domains": "spectrogram"}, ["suite"]),
        ({"domains": "waveform", "attacks": "suite"}, ["suite masking"]),
        ({"attacks": "suite", "sound_norms": "snr,linf"}, ["suite", "suite snr", "suite dBFS"]),
        ({"attacks": "suite", "tier": "paper"}, ["suite", "suite l2", "suite masking"]),
        ({"attacks": "pgd,suite", "domains": "spectrogram,waveform"},
         ["pgd", "pgd masking", "suite", "suite masking"]),
        ({"attacks": "published,square", "domains": "waveform,spectrogram"},
         ["published", "square", "square masking"]),
        ({"attacks": "pgd"}, ["pgd"]),
    ],
)  # fmt: skip
def test_variants(given: dict[str, Any], variants: list[str]) -> None:
    plan = make_plan(StudyParams(**given))
    assert list(plan.attack_variants) == variants
    for name in variants:
        params = plan.attack_params(name, "run", "music")
        assert params.on_sound == (name.split()[-1] in ("masking", "snr", "dBFS"))
        assert params.soundtracks_dir == ("music" if params.on_sound else "")


def test_budgets_and_sizes_of_the_sound_are_handed_on() -> None:
    plan = make_plan(
        StudyParams(budget=-10.0, budgets="-30,-10", listen=2, epsilon=0.02, tier="quick", sound_tier="quick")
    )
    heard, seen = (plan.attack_params(name, "") for name in ("suite masking", "suite"))
    assert (heard.budget, heard.budgets, heard.listen) == (-10.0, "-30,-10", 2)
    assert (heard.settings["tier"], seen.settings["tier"], seen.epsilon) == ("quick", "quick", 0.02)
    assert plan.sound == {"suite masking": "quick -30 dB over masked; -10 dB over masked, reported -10 dB"}


def test_a_full_study_has_two_norms_of_sound_in_the_tier_of_a_paper() -> None:
    plan = make_plan(StudyParams(size="full", attacks="suite"))
    assert list(plan.attack_variants) == ["suite", "suite l2", "suite masking", "suite snr"]
    assert plan.attack_params("suite snr", "").settings["tier"] == "paper"
    assert plan.attack_params("suite snr", "").settings["budget"] == 40.0


def test_the_domains_of_an_attack() -> None:
    assert domains_of("suite", []) == ["spectrogram", "waveform"]
    assert domains_of("apgd", []) == ["spectrogram"]
    assert domains_of("apgd", ["waveform"]) == ["waveform"]
    assert domains_of("published", ["waveform"]) == []
    assert attack_variants(["published"], ["waveform"], ["masking"], {"norm": "", "tier": "quick"}) == {}


@pytest.mark.parametrize(
    ("given", "told"),
    [
        ({"domains": "sound"}, "sound is nothing that is attacked"),
        ({"domains": "waveform", "attacks": "published"}, "no attack of the study can be made on waveform"),
        ({"sound_norms": "loudness"}, "loudness is no norm of sounds"),
        ({"sound_norms": "masking,snr", "budget": -6.0}, "is in the dB of one norm"),
        ({"domains": "spectrogram", "budgets": "-6"}, "no attack of the study uses it"),
        ({"domains": "waveform", "attacks": "suite", "epsilon": 0.02}, "no attack of the study uses it"),
        ({"norm": "snr"}, "snr is no norm of spectrograms"),
        ({"budgets": "-20,-10"}, "does not hold the reported budget -6 dB"),
    ],
)
def test_refusals(given: dict[str, Any], told: str) -> None:
    with pytest.raises(UserError, match=told):
        make_plan(StudyParams(**given))


def test_noise_is_the_worst_of_its_kinds_for_each_error() -> None:
    scores = {
        "uniform": AttackedScores(0.12, 0.11), "sign": AttackedScores(0.11, 0.13), "pgd": AttackedScores(1, 1)
    }  # fmt: skip
    found = noise_metrics(
        Measurements(norm="masking", epsilon=0.5, compared_clean=AttackedScores(0.1, 0.09), attacked=scores)
    )
    assert found == pytest.approx(
        {
            "noise/mae": 0.12,
            "noise/delta_mae": 0.02,
            "noise/mae_clipped": 0.13,
            "noise/delta_mae_clipped": 0.04,
        }
    )
    assert noise_metrics(Measurements(norm="masking", epsilon=0.5)) == {}
