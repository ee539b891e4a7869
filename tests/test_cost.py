"""What a study will cost, before it is run."""

from __future__ import annotations

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from rmer.data.audio.filterbank import BANDS
from rmer.data.dataset import EMOTIONS
from rmer.stages.study.cost import Estimate, estimate
from rmer.stages.study.plan import StudyParams, make_plan
from rmer.systems.network import build_network

FRAMES = 40


def cost_of(**given: object) -> Estimate:
    fixed = {"systems": "A2E", "seeds": "6", "attacks": "pgd", "domains": "spectrogram", "frames": FRAMES}
    return estimate(make_plan(StudyParams(**{**fixed, **given})), 40, tuple(EMOTIONS))  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("less", "more", "passes"),
    [({"epochs": 2}, {"epochs": 5}, 3), ({"steps": 5}, {"steps": 20}, 2)],
    ids=["training", "attack"],
)
def test_a_clip_of_training_costs_three_passes_and_a_gradient_of_an_attack_two(
    less: dict[str, int], more: dict[str, int], passes: int
) -> None:
    small, large = cost_of(**less), cost_of(**more)
    clips = large.training_gradients + large.attack_gradients
    clips -= small.training_gradients + small.attack_gradients
    with FlopCounterMode(display=False) as counter:
        build_network("bottleneck", width=0.125).eval()(torch.zeros(1, 1, FRAMES, BANDS))
    assert clips > 0
    assert large.flops - small.flops == passes * clips * counter.get_total_flops()
