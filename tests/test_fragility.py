"""The smallest budget that moves an emotion: against the closed form of a linear model, and on files."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch
from heard_models import song
from networks import Linear
from sounds import FRAMES, NORMALISATION, SmallListener

from rmer.attacks.attack_domains import SPECTROGRAM, WAVEFORM
from rmer.data.audio.decoders import SAMPLE_RATE
from rmer.data.audio.masking import noise_to_mask
from rmer.data.dataset import Normalisation
from rmer.data.preparation.songs import Song, read_song
from rmer.errors import UserError
from rmer.evaluation.fragility import MOST, fragility
from rmer.evaluation.song_emotions import Audio2Emotions, SeedModel

EMOTIONS = ("valence", "energy", "tension")


def test_of_a_linear_model_it_is_the_closed_form() -> None:
    # Output k moves by epsilon times the L1 norm of its weights: the least budget is that of the largest.
    generator = torch.Generator().manual_seed(0)
    cells = 40 * 149
    weights = torch.randn(3, cells, generator=generator) * torch.tensor([[1.0], [3.0], [2.0]]) * 1e-3
    models = [Linear(weights + sign * 1e-4, torch.zeros(3)) for sign in (1, -1)]
    hears = Audio2Emotions(
        tuple(SeedModel(f"s{place}", model) for place, model in enumerate(models)),
        EMOTIONS, (), Normalisation(0.0, 1.0), 40,
    )  # fmt: skip
    spectrogram = np.random.default_rng(0).uniform(1, 2, (40, 149)).astype(np.float32)
    spectrogram[0], spectrogram[1] = 0.5, 2.5  # no cell meets a border of the box
    one = Song("a", np.ones(9000, np.int16), spectrogram, "none")
    found = fragility(hears, one, hears(one), domain=SPECTROGRAM)
    least = 0.1 / weights[1].abs().sum().item()
    assert least < MOST[SPECTROGRAM]
    # An upper bound, and no wider than what seven bisections of 20 dB leave.
    assert least * (1 - 1e-4) <= found.budget <= least * 1.1
    assert found.emotion == "energy"
    assert abs(found.moved) == pytest.approx(0.1, rel=0.1)
    assert abs(found.moved) >= 0.1 - 1e-6


def test_a_model_that_does_not_give_way_is_said_to_take_all_that_was_tried() -> None:
    hears = Audio2Emotions(
        (SeedModel("s0", Linear(torch.full((3, 40 * 149), 1e-6), torch.zeros(3))),),
        EMOTIONS, (), Normalisation(0.0, 1.0), 40,
    )  # fmt: skip
    one = Song("a", np.ones(9000, np.int16), np.ones((40, 149), np.float32), "none")
    found = fragility(hears, one, hears(one), domain=SPECTROGRAM)
    assert not found.found
    assert np.isnan(found.budget)
    assert found.in_words == "over 0.1"
    with pytest.raises(UserError, match=r"no domain 'loud'. Use waveform or spectrogram"):
        fragility(hears, one, hears(one), domain="loud")


@pytest.mark.rounding
def test_on_the_waveform_the_file_moves_as_told_within_the_budget(tmp_path: Path) -> None:
    soundfile.write(tmp_path / "a.wav", song(3.0), SAMPLE_RATE)
    one = read_song(tmp_path / "a.wav", frames=FRAMES)
    model = SmallListener()
    with torch.no_grad():
        model.head.weight *= 8
    hears = Audio2Emotions((SeedModel("s0", model),), EMOTIONS, (), NORMALISATION, FRAMES)
    heard = hears(one)
    found = fragility(hears, one, heard, domain=WAVEFORM, move=0.05)
    assert found.found
    assert found.budget < 0
    at = EMOTIONS.index(found.emotion)
    assert found.moved == pytest.approx(found.after[at] - found.before[at])
    assert abs(found.moved) >= 0.05 - 1e-5
    # What is before is what the song's own window was given.
    np.testing.assert_allclose(found.before, heard.predicted[0, heard.typical], atol=1e-5)
    assert found.clean is not None
    assert found.adversary is not None
    clean, adversary = (
        torch.from_numpy(values.astype(np.float64))[None] for values in (found.clean, found.adversary)
    )
    assert float(noise_to_mask(clean, adversary - clean).max()) <= found.budget + 3.0  # bins add up in bands
    assert (found.clean != found.adversary).any()
