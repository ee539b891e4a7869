"""The front end: madmom's pipeline as published, its torch twin, and the excerpts."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch
from servers import start_python
from threadpoolctl import threadpool_limits

from rmer.data.audio.decoders import SAMPLE_RATE, decode
from rmer.data.audio.filterbank import BANDS, HOP, filterbank
from rmer.data.audio.frontend import FRAMES, File2Spect, MadmomAudio2Spect, audio2spect
from rmer.data.audio.torch_frontend import Audio2Spect
from rmer.data.preparation.excerpts import excerpt, excerpt_starts
from rmer.errors import UserError

TOLERANCE = {torch.float32: 2e-6, torch.float64: 5e-7}


def signals() -> dict[str, np.ndarray]:
    """Return signals in [-1, 1] that each stress one thing, and what is like music."""
    rng = np.random.default_rng(3)
    time = np.arange(4 * SAMPLE_RATE) / SAMPLE_RATE
    sine = np.sin(2 * np.pi * 440 * time)
    noise = rng.normal(0, 0.1, len(time))
    melody = np.concatenate([np.sin(2 * np.pi * f * time[:9000]) for f in (262, 330, 392, 523)])
    return {
        "noise": noise,
        "melody": 0.4 * melody * np.tile(np.exp(-time[:9000]), 4) + 0.01 * rng.normal(size=36000),
        "full-scale sine": sine,
        "full-scale square": np.sign(sine + 1e-9),
        "quiet beside loud": np.r_[1e-3 * sine[:20000], 0.9 * sine[:20000], 1e-4 * noise[:20000]],
        "very quiet": 2e-4 * rng.normal(size=len(time)),
        "zeros at both ends": np.r_[np.zeros(1234), noise[:30000], np.zeros(4321)],
        "zeros inside": np.r_[noise[:9000], np.zeros(9000), noise[:9000]],
        "wraps at full scale": np.r_[0.7 * sine[:9000], -1.0, noise[:9000], -1.0, -1.0],
        "wraps far": np.tile([3 / 32768, -1.0, 0.1], 3000),
        "nothing but -1": np.full(5000, -1.0),
        "shorter than a frame": noise[:300],
        "one sample": np.array([0.25]),
        "one step": np.array([0, 0, 1, -1, 0]) / 32768,
    }


@pytest.fixture(scope="module")
def madmoms() -> MadmomAudio2Spect:
    return MadmomAudio2Spect()


@pytest.mark.parametrize("dtype", TOLERANCE)
@pytest.mark.parametrize("name", signals())
def test_twin_equals_madmom(name: str, dtype: torch.dtype, madmoms: MadmomAudio2Spect) -> None:
    audio = signals()[name]
    expected = madmoms(audio)
    found = Audio2Spect(dtype)(torch.as_tensor(audio)[None])
    assert found.dtype == dtype
    assert found.shape == (1, *expected.shape)
    assert np.abs(found[0].numpy() - expected).max() <= TOLERANCE[dtype]


def test_twin_equals_madmom_on_music(madmoms: MadmomAudio2Spect) -> None:
    folder = os.environ.get("RMER_MUSIC")
    if not folder:
        pytest.skip("set RMER_MUSIC to a folder of recordings")
    for path in sorted(Path(folder).iterdir())[:20]:
        audio = decode(path)
        expected = madmoms(audio)
        for dtype, tolerance in TOLERANCE.items():
            found = Audio2Spect(dtype)(torch.as_tensor(audio)[None])[0].numpy()
            assert np.abs(found - expected).max() <= tolerance, path


def test_published_processors_give_the_same_array(tmp_path: Path) -> None:
    """As the published code chains them, from a file that needs no decoding, on one BLAS thread.

    On more of them some processors' products are rounded otherwise.
    """
    from madmom.audio import FramedSignalProcessor, LogarithmicFilteredSpectrogramProcessor, SignalProcessor

    soundfile.write(tmp_path / "a.wav", signals()["melody"], SAMPLE_RATE)
    signal = np.trim_zeros(
        SignalProcessor(num_channels=1, sample_rate=22050, norm=True)(str(tmp_path / "a.wav"))
    )
    frames = FramedSignalProcessor(frame_size=2048, hop_size=704.0, fps=31.3, origin="future")(signal)
    with threadpool_limits(1, "blas"):
        published = LogarithmicFilteredSpectrogramProcessor(num_bands=24, fmin=20, fmax=16000)(frames)
    found = File2Spect("madmom", "madmom")(tmp_path / "a.wav")
    np.testing.assert_array_equal(found, published)
    assert found.dtype == np.float32
    assert found.shape == (np.ceil(36000 / HOP), BANDS)


def test_own_filterbank_equals_madmoms() -> None:
    from madmom.audio.filters import LogarithmicFilterbank
    from madmom.audio.stft import fft_frequencies

    madmoms = LogarithmicFilterbank(fft_frequencies(1024, SAMPLE_RATE), num_bands=24, fmin=20, fmax=16000)
    assert filterbank().shape == (1024, BANDS)
    np.testing.assert_allclose(filterbank(), madmoms, atol=2e-8)


def test_batch_gives_what_single_clips_give() -> None:
    audio = torch.zeros(3, 40000)
    audio[0, 100:] = torch.as_tensor(signals()["noise"][:39900])
    audio[1, 2000:12000] = torch.as_tensor(signals()["melody"][:10000])
    audio[2, :300] = 0.5
    twin = Audio2Spect()
    whole, excerpts = twin(audio), twin(audio, torch.tensor([10, 3, 0]), frames=31)
    for i, start in enumerate((10, 3, 0)):
        alone = twin(audio[i : i + 1])[0]
        torch.testing.assert_close(whole[i, : len(alone)], alone, atol=1e-6, rtol=0)
        assert not whole[i, len(alone) :].any()
        cut = torch.as_tensor(excerpt(alone.numpy(), start, 31))
        torch.testing.assert_close(excerpts[i], cut, atol=1e-6, rtol=0)


def test_gradient_passes_rounding_and_lowers_the_loudness_it_should() -> None:
    audio = torch.as_tensor(signals()["melody"][:20000])[None].requires_grad_()
    twin = Audio2Spect(torch.float64)
    before = twin(audio)
    before[0, :, 80:].sum().backward()
    assert audio.grad is not None
    assert torch.isfinite(audio.grad).all()
    with torch.no_grad():
        after = twin(audio - 0.005 * audio.grad.sign())
    assert after[0, :, 80:].sum() < before[0, :, 80:].sum() - 1


def test_gradient_is_the_slope_of_the_unquantised_front_end() -> None:
    """Large steps, so that rounding to 16 bit averages out of the finite difference."""
    audio = torch.as_tensor(signals()["noise"][:8000])[None].requires_grad_()
    twin = Audio2Spect(torch.float64)
    (gradient,) = torch.autograd.grad(twin(audio).sum(), audio)
    direction = torch.as_tensor(np.random.default_rng(1).normal(size=(1, 8000)))
    direction[0, audio.detach().abs().argmax()] = 0  # the peak scales everything
    with torch.no_grad():
        rise = (twin(audio + 0.002 * direction).sum() - twin(audio - 0.002 * direction).sum()) / 0.004
    assert float(rise) == pytest.approx(float((gradient * direction).sum()), rel=0.05)


@pytest.mark.parametrize("frontend", ["madmom", "torch"])
@pytest.mark.parametrize("audio", [np.zeros(9000), np.full(9000, 1e-6)], ids=["zeros", "below one step"])
def test_silence_is_an_error(audio: np.ndarray, frontend: str) -> None:
    with pytest.raises(UserError, match="silent"):
        audio2spect(frontend)(audio)


def test_unknown_front_end_lists_the_known() -> None:
    with pytest.raises(UserError, match="madmom, torch"):
        audio2spect("librosa")


def test_twin_works_and_madmom_is_asked_for_where_it_is_absent(tmp_path: Path) -> None:
    soundfile.write(tmp_path / "a.wav", signals()["melody"], SAMPLE_RATE)
    code = (
        "import sys; sys.modules['madmom'] = None\n"
        "from pathlib import Path\n"
        "from rmer.data.audio.frontend import File2Spect\n"
        f"file = Path({str(tmp_path)!r}, 'a.wav')\n"
        "print(File2Spect(frontend='torch')(file).shape)\n"
        "File2Spect()(file)"
    )
    output, errors = start_python(code).communicate()
    assert output == f"(52, {BANDS})\n"
    assert "pip install ./third_party/madmom" in errors


def test_published_excerpts_are_drawn_in_one_stream() -> None:
    lengths = [470, 400, 282, 313, 314, 470]
    torch.manual_seed(42)
    published = [torch.randint(0, max(n, FRAMES) - FRAMES + 1, (1,))[0].item() for n in lengths]
    assert excerpt_starts(lengths, FRAMES) == published == [42, 51, 0, 0, 0, 61]


def test_short_clip_is_repeated() -> None:
    clip = np.arange(5, dtype=np.float32)[:, None]
    np.testing.assert_array_equal(excerpt(clip, 0, 12)[:, 0], [0, 1, 2, 3, 4, 0, 1, 2, 3, 4, 0, 1])
    np.testing.assert_array_equal(excerpt(clip, 2, 3)[:, 0], [2, 3, 4])
