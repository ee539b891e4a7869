"""Transformations of clips: aligned, of the same level, and scored as they come back."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import pytest
from synthetic_sounds import Samples, music

from rmer.data.audio.decoders import FULL_SCALE, SAMPLE_RATE
from rmer.data.audio.filterbank import HOP
from rmer.data.audio.frontend import audio2spect
from rmer.errors import UserError
from rmer.evaluation.hearing.codecs import TRANSFORMATIONS, amplified, cut, mp3, robustness_table, vorbis

IN_PLACE = {name: transform for name, transform in TRANSFORMATIONS.items() if transform is not cut}
GAINS = {"+3 dB": 3.0, "-3 dB": -3.0}


def low_music(number: int = 0) -> Samples:
    """The synthetic music without what lies above 5 kHz, of which codecs leave little."""
    spectrum = np.fft.rfft(music(number).astype(np.float64))
    spectrum[np.fft.rfftfreq(len(music(number)), 1 / SAMPLE_RATE) > 5000] = 0
    return np.rint(np.fft.irfft(spectrum, len(music(number)))).astype(np.int16)


def lag_and_gain(made: Samples, original: Samples) -> tuple[int, float]:
    """Return by how many samples ``made`` comes late, and its level in dB over the original's."""
    late, early = made.astype(np.float64), original.astype(np.float64)
    size = len(late) + len(early)
    product = np.fft.irfft(np.fft.rfft(late, size) * np.fft.rfft(early, size).conj(), size)
    lag = (int(product.argmax()) + size // 2) % size - size // 2
    return lag, 10 * float(np.log10(np.square(late).sum() / np.square(early).sum()))


@pytest.mark.parametrize("name", IN_PLACE)
@pytest.mark.parametrize("number", [0, 3])
def test_a_clip_comes_back_in_its_place_and_at_its_level(name: str, number: int) -> None:
    original = np.pad(low_music(number), (2999, 1234))  # of a length that is no multiple of anything
    made = TRANSFORMATIONS[name](original)
    assert made.dtype == np.int16
    assert made.shape == original.shape
    lag, gain = lag_and_gain(made, original)
    assert lag == 0
    assert gain == pytest.approx(GAINS.get(name, 0.0), abs=0.1)
    rest = made * 10 ** (-gain / 20) - original.astype(np.float64)
    assert np.square(rest).sum() < 0.05 * np.square(original.astype(np.float64)).sum()  # 13 dB below


def test_fewer_bits_leave_less() -> None:
    def noise(made: Samples) -> float:
        return float(np.square(made - music().astype(np.float64)).sum())

    assert 0 < noise(mp3(music(), 128)) < noise(mp3(music(), 64)) < noise(mp3(music(), 24))
    assert 0 < noise(vorbis(music(), 0.9)) < noise(vorbis(music(), 0.1))


def test_resampling_keeps_what_both_rates_can_hold() -> None:
    original = low_music().astype(np.float64)
    made = TRANSFORMATIONS["44.1 kHz and back"](low_music()).astype(np.float64)
    spectra = [np.fft.rfft(samples[1000:-1000]) for samples in (made, original)]
    hertz = np.fft.rfftfreq(len(original) - 2000, 1 / SAMPLE_RATE)
    kept = hertz < 9500
    rest = np.square(np.abs(spectra[0] - spectra[1])[kept]).sum() / np.square(np.abs(spectra[1])[kept]).sum()
    assert rest < 1e-5


def test_gain_is_exact_and_stops_at_full_scale() -> None:
    samples = np.array([0, 100, -1000, 20000, 32767, -32768], np.int16)
    twice = amplified(samples, 20 * np.log10(2))
    assert twice.tolist() == [0, 200, -2000, 32767, 32767, -32768]


def test_a_cut_moves_the_spectrogram_by_one_frame() -> None:
    before, after = (audio2spect("torch")(samples / FULL_SCALE) for samples in (music(), cut(music())))
    # Frames begin at whole samples, which a shift by one frame moves by one at most.
    shifted = before[1 : 1 + len(after)]
    assert np.abs(shifted - after[: len(shifted)])[:-3].mean() < 0.1 * np.abs(before[2:] - before[:-2]).mean()
    assert len(cut(music())) == len(music())
    assert (cut(music())[-int(HOP) :] == 0).all()


def loudness(clips: Sequence[Samples]) -> npt.NDArray[np.float64]:
    """A model of two targets: how loud a clip is, and the opposite."""
    level = np.array([np.abs(clip).mean() for clip in clips]) / 10000
    return np.stack([level, 1 - level], axis=1)


def test_the_table_scores_originals_and_adversaries_after_each_transformation() -> None:
    clean = [music(0), music(1), music(2)]
    adversaries = [amplified(clip, -6.0) for clip in clean]
    labels = loudness(clean)
    table = robustness_table(clean, adversaries, labels, ["loud", "soft"], loudness)
    assert table["transformation"].tolist() == ["none", *TRANSFORMATIONS]
    rows = table.set_index("transformation")
    level = labels[:, 0].mean()
    half = 10 ** (-6 / 20)
    assert rows.loc["none", "clean/mae"] == 0
    assert rows.loc["none", "delta/mae"] == pytest.approx((1 - half) * level, rel=1e-3)
    quieter = 10 ** (-3 / 20)
    assert rows.loc["-3 dB", "clean/mae"] == pytest.approx((1 - quieter) * level, rel=1e-3)
    assert rows.loc["-3 dB", "adv/mae"] == pytest.approx((1 - quieter * half) * level, rel=1e-3)
    assert rows.loc["-3 dB", "clean/corr"] == pytest.approx(1, abs=1e-6)
    assert (rows["adv/mae"] - rows["clean/mae"]).to_numpy() == pytest.approx(rows["delta/mae"].to_numpy())
    assert {"clean/mae_clipped", "adv/corr", "delta/corr"} <= set(table.columns)


def test_an_adversary_of_another_length_is_an_error() -> None:
    clip = np.ones(100, np.int16)
    with pytest.raises(UserError, match=r"clip 1.*99 samples, its original 100"):
        robustness_table([clip, clip], [clip, clip[1:]], np.zeros((2, 1)), ["x"], loudness)
