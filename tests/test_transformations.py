"""Transformations of rows against what files of the transformed sound give, and attacks that survive them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch
from scipy.signal import resample_poly
from sounds import FRAMES, NORMALISATION, SmallListener, clips, subject, threat
from sounds import sound_files as files_of
from torch import Tensor

from rmer.attacks.apgd import APGD
from rmer.attacks.objectives import ErrorObjective
from rmer.data.audio.decoders import SAMPLE_RATE
from rmer.data.audio.filterbank import HOP
from rmer.data.audio.frontend import File2Spect
from rmer.data.audio.recordings import HEADER, Header, Samples
from rmer.data.audio.transformations import (
    TRANSFORMATIONS,
    louder,
    lowpass_taps,
    resampling_taps,
    shifted,
    variants,
)
from rmer.data.preparation.excerpts import excerpt
from rmer.errors import UserError
from rmer.evaluation.hearing.codecs import amplified, cut
from rmer.stages.attack.attack_params import AttackParams
from rmer.systems.frozen import FrozenNetwork
from rmer.systems.listening_network import ListeningNetwork

NAMES = ("from its start", "ordinary")


def heard(rows: Tensor) -> Tensor:
    """Return what the model gets of rows, [clips, frames, bands]."""
    return ListeningNetwork(SmallListener(), NORMALISATION, FRAMES).ear(rows)[:, 0]


def heard_from_file(samples: Samples, start: int, folder: Path) -> np.ndarray:
    soundfile.write(folder / "t.wav", samples, SAMPLE_RATE, subtype="PCM_16")
    found = excerpt(File2Spect()(folder / "t.wav"), start, FRAMES)
    return np.asarray(NORMALISATION.standardise(found))


@pytest.mark.parametrize("samples", [int(HOP), int(HOP / 2)])
def test_a_shift_is_heard_as_a_file_whose_beginning_is_cut_off(samples: int, tmp_path: Path) -> None:
    """All frames but the last, of which the row holds no more."""
    recording = clips()["from its start"]
    row = torch.from_numpy(recording.row(FRAMES))[None, None]
    found = heard(shifted(row, samples))[0]
    expected = heard_from_file(recording.samples[samples:], recording.start, tmp_path)
    np.testing.assert_allclose(found[:-1], expected[:-1], atol=1e-5)
    assert (heard(row)[0] - found)[:-1].abs().max() > 0.1
    if samples == int(HOP):
        whole = heard_from_file(cut(recording.samples), recording.start, tmp_path)
        np.testing.assert_allclose(found[:-1], whole[:-1], atol=1e-5)


def test_gain_is_heard_as_a_louder_file_that_clips(tmp_path: Path) -> None:
    recording = clips()["from its start"]
    row = torch.from_numpy(recording.row(FRAMES))[None, None]
    for gain in (3.0, 9.0):
        found = heard(louder(row, gain))[0]
        expected = heard_from_file(amplified(recording.samples, gain), recording.start, tmp_path)
        np.testing.assert_allclose(found, expected, atol=5e-5)  # a step here and there
    assert (heard(row)[0] - found).abs().max() > 0.1, "9 dB more are clipped"


def test_resampling_is_twice_the_rate_and_back() -> None:
    noise = np.random.default_rng(0).normal(size=2000)
    expected = resample_poly(resample_poly(noise, 2, 1), 1, 2)
    inside = slice(20, -20)
    found = np.convolve(noise, resampling_taps(), "same")
    np.testing.assert_allclose(found[inside], expected[inside], atol=1e-4)


def test_the_low_pass_leaves_low_tones_and_stops_high_ones() -> None:
    response = torch.fft.rfft(lowpass_taps(), 2205).abs()  # 10 Hz a bin
    assert (response[:700] - 1).abs().max() < 0.03
    assert response[920:].max() < 0.01
    assert response[800] == pytest.approx(0.5, abs=0.01)


def test_gradients_pass_each_transformation() -> None:
    """To the samples that it hears, by finite differences of its linear part."""
    row = torch.from_numpy(clips()["from its start"].row(FRAMES))[None, None].double()
    change = torch.zeros_like(row)
    change[..., HEADER + 3000 : HEADER + 3100] = 1.0
    for one in variants(tuple(TRANSFORMATIONS)):
        leaf = row.clone().requires_grad_(True)
        weights = torch.randn(row.shape, generator=torch.Generator().manual_seed(0)).double()
        weights[..., :HEADER] = 0
        (gradient,) = torch.autograd.grad((one(leaf) * weights).sum(), leaf)
        moved = ((one(row + change) - one(row)) * weights).sum()
        assert float((gradient * change).sum()) == pytest.approx(float(moved), rel=1e-6)


def test_predictions_are_the_mean_over_the_clip_and_its_variants() -> None:
    rows, model = files_of(NAMES).rows(), SmallListener()
    plain = ListeningNetwork(model, NORMALISATION, FRAMES)
    changes = variants(("shift", "gain"))
    with torch.no_grad():
        each = [plain(rows)["output"], *(plain(change(rows))["output"] for change in changes)]
        found = ListeningNetwork(model, NORMALISATION, FRAMES, changes)(rows)["output"]
    assert len(each) == 4
    torch.testing.assert_close(found, torch.stack(each).mean(0))


@pytest.mark.rounding
def test_an_attack_over_shifts_survives_a_cut_better() -> None:
    """A network of strided steps: judged on rows that are cut by a whole frame and a third of one."""
    files = files_of(NAMES)
    model, rows = subject(files), files.rows()
    within = threat("snr", 30.0, rows)
    judge = FrozenNetwork(ListeningNetwork(SmallListener(), NORMALISATION, FRAMES))
    labels = judge.predict(rows)["output"] - 1e-4
    errors = {}
    for names in ((), ("shift",)):
        network = FrozenNetwork(ListeningNetwork(SmallListener(), NORMALISATION, FRAMES, variants(names)))
        found = APGD(12, (ErrorObjective("l1"),), 1)(network, rows, labels, within, seed=1).adversaries
        errors[names] = [
            (judge.predict(shifted(found, cut))["output"] - judge.predict(shifted(rows, cut))["output"])
            .abs()
            .mean()
            for cut in (0, int(HOP / 3), int(HOP))
        ]
    assert errors["shift",][1] + errors["shift",][2] > 1.1 * (errors[()][1] + errors[()][2]), errors
    assert model.labels.shape == labels.shape


@pytest.mark.parametrize(
    ("given", "told"),
    [
        ({"transformations": "speed"}, "no transformation is called speed"),
        ({"transformations": "shift", "attack": "suite"}, "checks of a suite"),
        ({"transformations": "shift", "domain": "spectrogram"}, "does not use it"),
    ],
)
def test_transformations_that_are_refused(given: dict[str, str], told: str) -> None:
    with pytest.raises(UserError, match=told):
        AttackParams(**{"attack": "apgd", "domain": "waveform", **given})  # type: ignore[arg-type]


def test_their_order_does_not_matter_and_none_is_no_setting() -> None:
    one, other, none = (
        AttackParams(attack="apgd", domain="waveform", transformations=names)
        for names in ("gain,shift", "shift, gain", "")
    )
    assert one.settings == other.settings
    assert one.settings["transformations"] == "shift,gain"
    assert "transformations" not in none.settings


def test_headers_say_where_samples_may_change_after_a_cut() -> None:
    row = torch.from_numpy(clips()["ordinary"].row(FRAMES))[None, None]
    after = shifted(row, 100)
    assert after[..., Header.HIGH] == row[..., Header.HIGH] - 100
    assert torch.equal(after[..., HEADER : HEADER + 50], row[..., HEADER + 100 : HEADER + 150])
