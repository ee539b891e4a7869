"""The page to listen to adversaries: its sounds are the files', its figures those measured, and it plays."""

from __future__ import annotations

import base64
import io
import re
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import soundfile
from browsers import chromium
from playwright.sync_api import Browser, Page
from servers import MlflowServer, copy_fresh_sqlite
from synthetic_sounds import disturbed, masked_noise, music

from rmer.data.audio.decoders import FULL_SCALE, SAMPLE_RATE
from rmer.data.audio.masking import band_frequencies
from rmer.errors import UserError
from rmer.evaluation.hearing.audibility import audibility
from rmer.evaluation.hearing.perceived_quality import PerceivedQuality
from rmer.report.listening.listening_figures import levels_by_frequency, spectrograms
from rmer.report.listening.listening_page import ListenedClip, listening_page
from rmer.report.listening.sound_files import raised_difference, write_sounds
from rmer.tracking import RunSpec, Stage, connect

TARGETS = ("valence", "<energy>")
ADVERSARY = disturbed(music(), masked_noise(music(), -6.0))


def clip(name: str = "007", **changes: object) -> ListenedClip:
    values = {
        "rated": np.array([0.5, 0.25]), "before": np.array([0.45, 0.3]), "after": np.array([0.7, -0.1]),
        "quality": PerceivedQuality(4.6789, 0.99), **changes,
    }  # fmt: skip
    return ListenedClip(name, music(), ADVERSARY, **values)  # type: ignore[arg-type]


@pytest.fixture(scope="module")
def html() -> str:
    clips = [clip(), clip("<8>", quality=None)]
    return listening_page(clips, TARGETS, "A2M2E & seed 6", "masking at -6 dB", ["From the test split."])


def test_the_difference_is_raised_to_its_level_and_says_by_how_much() -> None:
    clean, adversary = np.zeros(1000, np.int16), np.zeros(1000, np.int16)
    adversary[500], adversary[600] = -16, 8
    difference, gain = raised_difference(clean, adversary)
    assert difference.min() == round(-(10 ** (-3 / 20)) * FULL_SCALE)
    assert difference[600] == pytest.approx(-difference[500] / 2, abs=1)
    assert gain == pytest.approx(20 * np.log10(-difference[500] / 16), abs=1e-3)
    nothing, gain = raised_difference(clean, clean)
    assert not nothing.any()
    assert gain == 0


def test_extreme_samples_do_not_wrap() -> None:
    clean, adversary = np.array([32767, -32768], np.int16), np.array([-32768, 32767], np.int16)
    assert np.sign(raised_difference(clean, adversary)[0]).tolist() == [-1, 1]


def test_sounds_are_written_as_they_are(tmp_path: Path) -> None:
    paths = write_sounds(tmp_path / "007", music(), ADVERSARY)
    assert {path.name for path in paths.values()} == {"clean.wav", "adversary.wav", "difference.wav"}
    for name, expected in (("clean", music()), ("adversary", ADVERSARY)):
        samples, rate = soundfile.read(paths[name], dtype="int16")
        assert rate == SAMPLE_RATE
        np.testing.assert_array_equal(samples, expected)


def test_the_page_holds_the_very_samples_and_loads_nothing(html: str) -> None:
    sounds = [
        soundfile.read(io.BytesIO(base64.b64decode(found)), dtype="int16")[0]
        for found in re.findall(r'src="data:audio/flac;base64,([^"]+)"', html)
    ]
    assert len(sounds) == 6
    np.testing.assert_array_equal(sounds[0], music())
    np.testing.assert_array_equal(sounds[1], ADVERSARY)
    np.testing.assert_array_equal(sounds[2], raised_difference(music(), ADVERSARY)[0])
    sources = re.findall(r'\b(?:src|href)="([^"]{0,20})', html)
    assert sources
    assert all(source.startswith("data:") for source in sources)
    assert not re.findall(r"https?:", re.sub(r'"data:[^"]+"', "", html))


def test_the_page_says_what_was_predicted_and_measured(html: str) -> None:
    text = re.sub(r"\s+", " ", re.sub(r"<[^>]+>", " ", re.sub(r'"data:[^"]+"', "", html)))
    assert "A2M2E &amp; seed 6" in text
    assert "&lt;energy&gt;" in text
    assert "Clip &lt;8&gt;" in text
    assert "predicted, adversary 0.70 −0.10" in text  # noqa: RUF001
    assert "change +0.25 −0.40" in text  # noqa: RUF001
    assert "error (MAE) 0.050 → 0.275" in text
    measured = audibility(music(), ADVERSARY)
    assert f"signal to difference {measured.snr:.1f} dB" in text
    assert f"largest noise-to-mask ratio {measured.largest_nmr:.1f} dB" in text
    assert text.count("ViSQOL 4.68 of 4.73") == 1
    assert "From the test split." in text
    assert "nobody was asked" in text


def test_visqol_is_mentioned_where_it_was_asked_only() -> None:
    assert "ViSQOL" not in listening_page([clip(quality=None)], TARGETS, "x", "y")


def test_an_unchanged_clip_has_a_page(html: str) -> None:
    same = ListenedClip("1", music(), music(), np.zeros(1), np.zeros(1), np.zeros(1))
    text = listening_page([same], ["valence"], "x", "y")
    assert "no difference" in text
    assert "nan" not in re.sub(r'"data:[^"]+"', "", text)


@pytest.mark.parametrize(
    ("clips", "message"),
    [
        ([], "no clip to listen to"),
        ([clip(after=np.zeros(3))], "clip 007: 3 predictions for 2 targets"),
        ([ListenedClip("1", music(), music()[1:], *[np.zeros(2)] * 3)], "cannot be compared"),
    ],
)
def test_what_cannot_be_shown_is_an_error(clips: list[ListenedClip], message: str) -> None:
    with pytest.raises(UserError, match=message):
        listening_page(clips, TARGETS, "x", "y")


def test_spectrograms_have_hertz_seconds_and_decibels() -> None:
    tone = np.rint(FULL_SCALE / 10 * np.sin(2 * np.pi * 200 / 2048 * np.arange(SAMPLE_RATE))).astype(np.int16)
    figure = spectrograms(tone, tone)
    image = figure.axes[0].images[0]
    levels = np.asarray(image.get_array())
    assert image.get_extent() == [0, 1, 0, SAMPLE_RATE / 2000]
    row, _ = np.unravel_index(levels.argmax(), levels.shape)
    assert row == 200  # of 1025 up to 11.025 kHz: 2.15 kHz
    assert levels.max() == pytest.approx(96 - 20, abs=0.01)
    assert [axes.get_xlabel() for axes in figure.axes[:3]] == ["time (s)"] * 3
    assert figure.axes[0].get_ylabel() == "frequency (kHz)"
    assert figure.axes[3].get_ylabel() == "level (dB SPL)"


def test_levels_are_drawn_by_frequency_against_the_threshold() -> None:
    figure = levels_by_frequency(music(), ADVERSARY)
    means, ratios = figure.axes
    assert means.get_xscale() == "log"
    lines = {line.get_label(): np.asarray(line.get_ydata()) for line in means.lines}
    assert (lines["difference"] < lines["threshold of what it masks"]).mean() > 0.9
    np.testing.assert_array_equal(np.asarray(means.lines[0].get_xdata()), band_frequencies().numpy())
    worst = np.asarray(ratios.lines[1].get_ydata())
    assert np.nanmax(worst) == pytest.approx(audibility(music(), ADVERSARY).largest_nmr)


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with chromium("--autoplay-policy=no-user-gesture-required") as browser:
        yield browser


@pytest.fixture(scope="module")
def page(browser: Browser, html: str, tmp_path_factory: pytest.TempPathFactory) -> Page:
    path = tmp_path_factory.mktemp("listening") / "listen.html"
    path.write_text(html, encoding="utf-8")
    page = browser.new_page()
    page.goto(path.as_uri())
    page.wait_for_function("[...document.querySelectorAll('.player audio')].every(a => a.readyState >= 3)")
    return page


def state(page: Page) -> list[tuple[bool, float]]:
    """Whether each sound plays, and where it is in seconds."""
    found = page.evaluate(
        "[...document.querySelectorAll('.player audio')].map(a => [!a.paused, a.currentTime])"
    )
    return [(bool(plays), float(place)) for plays, place in found]


@pytest.mark.slow
def test_the_page_plays_in_mlflows_viewer_of_artifacts(
    html: str, browser: Browser, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RMER_HOME", str(tmp_path / "home"))
    copy_fresh_sqlite(tmp_path / "mlflow.db")
    server = MlflowServer(tmp_path)
    server.start()
    try:
        store = connect(server.uri)
        spec = RunSpec(Stage.ATTACK, "listened", {"clips": 2})
        run_id = store.perform(spec, lambda run: run.text(html, "listening/listen.html")).run_id
        viewer = browser.new_page()
        viewer.goto(
            f"{server.uri}/#/experiments/{store.experiment_id}/runs/{run_id}/artifacts/listening/listen.html"
        )
        frame = viewer.frame_locator("iframe")
        adversary = frame.locator("section").nth(0).locator("[data-sound=adversary] button")
        adversary.click()
        audio = frame.locator(".player audio").nth(1)
        assert audio.evaluate(
            "a => new Promise(done => a.addEventListener('timeupdate', () => done(!a.paused)))"
        )
        assert audio.evaluate("a => a.duration") == pytest.approx(len(music()) / SAMPLE_RATE, abs=1e-3)
    finally:
        server.stop()


def test_every_sound_loads_with_its_length(page: Page) -> None:
    durations = page.evaluate("[...document.querySelectorAll('.player audio')].map(a => a.duration)")
    assert durations == pytest.approx([len(music()) / SAMPLE_RATE] * 6, abs=1e-3)


def test_a_switch_goes_on_from_the_same_place(page: Page) -> None:
    section = page.locator("section").nth(0)
    section.locator("[data-sound=clean] button").click()
    page.wait_for_function("document.querySelectorAll('.player audio')[0].currentTime > 0.2")
    page.evaluate("document.querySelectorAll('.player audio')[0].currentTime = 2.5")
    section.locator("[data-sound=adversary] button").click()
    page.wait_for_function("document.querySelectorAll('.player audio')[1].currentTime > 2.5")
    sounds = state(page)
    assert [plays for plays, _ in sounds] == [False, True, False, False, False, False]
    assert 2.5 <= sounds[1][1] < 3.9
    place = page.evaluate("(a => (a.pause(), a.currentTime))(document.querySelectorAll('.player audio')[1])")
    page.keyboard.press("3")
    page.keyboard.press("3")
    page.wait_for_function(f"document.querySelectorAll('.player audio')[2].currentTime >= {place}")
    assert [plays for plays, _ in state(page)] == [False, False, True, False, False, False]


def test_another_clip_begins_anew_and_stops_the_first(page: Page) -> None:
    section = page.locator("section").nth(1)
    section.locator("[data-sound=difference] button").click()
    page.wait_for_function("!document.querySelectorAll('.player audio')[5].paused")
    sounds = state(page)
    assert [plays for plays, _ in sounds] == [False] * 5 + [True]
    assert sounds[5][1] < 2
    page.wait_for_function("document.querySelectorAll('.playing').length == 1")
    assert section.locator(".playing").get_attribute("data-sound") == "difference"


def test_a_blind_test_hides_what_plays_and_counts(page: Page) -> None:
    section = page.locator("section").nth(0)
    heard = []
    for trial in range(1, 9):
        section.get_by_role("button", name="play X").click()
        page.wait_for_function("!document.querySelector('.blind audio').paused")
        assert section.locator(".playing").count() == 0
        assert not any(plays for plays, _ in state(page))
        source = section.locator(".blind audio").get_attribute("src")
        names = ("clean", "adversary")
        (truth,) = [
            n for n in names if section.locator(f"[data-sound={n}] audio").get_attribute("src") == source
        ]
        heard.append(truth)
        guess = truth if trial != 3 else names[truth == "clean"]  # the third is wrong
        section.locator(f"[data-guess={guess}]").click()
        assert f"It was the {truth} sound" in section.locator("output").inner_text()
    assert "7 of 8 right" in section.locator("output").inner_text()
    assert "in 3.5 % of such series" in section.locator("output").inner_text()  # 9 of 256
