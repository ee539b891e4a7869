"""``rmer predict``: songs of any format to emotions, by all seeds of a system; as files, page and run."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from browsers import chromium
from click.testing import CliRunner
from heard_models import FRAMES, SEEDS, train_two_seeds, write_songs

from entrypoints.cli import main
from rmer import File2Emotions
from rmer.data.dataset import Normalisation
from rmer.data.preparation.songs import read_song
from rmer.errors import UserError
from rmer.systems.network import load_checkpoint
from rmer.tracking import Artifact, Store, Tag


@dataclass(frozen=True)
class Done:
    """The command, done once on all songs and a file that is none."""

    store: Store
    runs: list[str]
    files: dict[str, Path]
    out: Path
    exit_code: int
    said: str
    complained: str


@pytest.fixture(scope="module")
def done(lasting_store: Store, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Done]:
    folder = tmp_path_factory.mktemp("songs")
    runs = train_two_seeds(lasting_store, folder)
    files = write_songs(folder / "songs")
    (folder / "songs" / "broken.mp3").write_text("no audio")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MLFLOW_TRACKING_URI", lasting_store.uri)
        patch.setenv("RMER_HOME", str(folder / "home"))
        result = CliRunner().invoke(main, arguments(folder))
        yield Done(lasting_store, runs, files, folder / "out", result.exit_code, result.stdout, result.stderr)


def arguments(folder: Path, *more: str) -> list[str]:
    return ["predict", str(folder / "songs"), "--out_dir", str(folder / "out"), "--hop", "0.8", *more]


def song_row(done: Done, form: str) -> pd.Series:
    table = pd.read_csv(done.out / "predictions.csv").set_index("song")
    return table.loc[str(done.files[form])]


def test_a_bad_file_stops_nothing_and_is_named_at_the_end(done: Done) -> None:
    assert done.exit_code == 3
    assert len(pd.read_csv(done.out / "predictions.csv")) == len(done.files)
    last = done.complained.strip().splitlines()[-1]
    assert last.startswith("not used: ")
    assert "broken.mp3: is no audio that can be decoded" in last
    assert f"page: {done.out / 'predictions.html'}" in done.said


def test_numbers_are_those_of_every_seed_on_every_window(done: Done) -> None:
    song = read_song(done.files["wav"])
    starts = song.starts(FRAMES, 0.8)
    by_seed = []
    for run in done.runs:
        description = json.loads(done.store.download(run, "checkpoints/config.json").read_text())
        network = load_checkpoint(done.store.download(run, "checkpoints/best.safetensors"))
        inputs = Normalisation(**description["normalisation"]).standardise(song.windows(starts, FRAMES))
        with torch.no_grad():
            by_seed.append(network(torch.from_numpy(inputs)[:, None])["output"].numpy())
    names = description["targets"]
    row = song_row(done, "wav")
    predicted = 10 * np.array(by_seed, np.float64)  # [seeds, windows, emotions], ratings go up to 10
    np.testing.assert_allclose(row[names].astype(float), predicted.mean((0, 1)), atol=1e-4)
    spread = predicted.mean(1).std(0, ddof=1)
    np.testing.assert_allclose(row[[f"{name}_spread" for name in names]].astype(float), spread, atol=1e-4)
    windows = pd.read_csv(done.out / "windows.csv")
    windows = windows[windows["song"] == str(done.files["wav"])]
    np.testing.assert_allclose(windows[names], predicted.mean(0), atol=1e-4)


def test_effects_add_up_to_the_prediction_from_the_usual_concepts(done: Done) -> None:
    effects = pd.read_csv(done.out / "effects.csv")
    effects = effects[effects["song"] == str(done.files["flac"])]
    row = song_row(done, "flac")
    for emotion, part in effects.groupby("emotion"):
        assert (part["baseline"] == part["baseline"].iloc[0]).all()
        assert part["baseline"].iloc[0] + part["effect"].sum() == pytest.approx(row[emotion], abs=1e-4)
    # The baseline is what the models say of their average training clip.
    tables = [done.store.read_table(run, Artifact.PREDICTIONS) for run in done.runs]
    of_training = np.mean([table.loc[table["split"] == "train", "pred_sad"].mean() for table in tables])
    assert effects.loc[effects["emotion"] == "sad", "baseline"].iloc[0] == pytest.approx(
        10 * of_training, abs=1e-3
    )


def test_formats_of_one_sound_agree(done: Done, tmp_path: Path) -> None:
    if "m4a" not in done.files:
        pytest.skip("needs ffmpeg to make an M4A")
    names = json.loads((done.out / "predictions.json").read_text())["songs"][0]["emotions"]
    wav, m4a = (song_row(done, form)[list(names)].astype(float) for form in ("wav", "m4a"))
    assert np.abs(wav - m4a).max() < 1.0  # of 10 points: a codec and an encoder's delay lie between


def test_it_is_a_run_found_by_tags_and_not_done_again(done: Done) -> None:
    (record,) = done.store.find("predict", {Tag.SYSTEM: "A2M2E"})
    assert record.name == f"A2M2E hears {len(done.files)} songs"
    assert record.metrics["predict/problems"] == 1
    assert record.params["cfg.seeds"] == str(len(SEEDS))
    page = done.store.download(record.run_id, Artifact.SONGS)
    assert page.read_text() == (done.out / "predictions.html").read_text()
    again = CliRunner().invoke(main, arguments(done.out.parent), env={"MLFLOW_TRACKING_URI": done.store.uri})
    assert f"run {record.run_id} (was logged before)" in again.stdout


def test_one_python_call_gives_the_same(done: Done) -> None:
    predict = File2Emotions("A2M2E", store=done.store.uri)
    assert predict.models == ("A2M2E s1", "A2M2E s2")
    found = predict(done.files["ogg"], hop=0.8)
    assert found.table()["tender"].item() == pytest.approx(song_row(done, "ogg")["tender"], abs=1e-5)
    one = File2Emotions("A2M2E", seed="2", store=done.store.uri)(done.files["ogg"], hop=0.8)
    np.testing.assert_allclose(one.predicted[0], found.predicted[1], atol=1e-6)
    assert np.isnan(one.spread).all()
    with pytest.raises(UserError, match=r"no finished training of system A2E.*name another \(A2M2E\)"):
        File2Emotions("A2E", store=done.store.uri)


def test_a_model_is_named_by_address_or_by_its_checkpoint(done: Done, tmp_path: Path) -> None:
    of_seed = File2Emotions(seed="1", store=done.store.uri)(done.files["wav"])
    checkpoint = done.store.download(done.runs[0], "checkpoints/best.safetensors")
    for uri in (f"runs:/{done.runs[0]}/A2M2E s1", f"runs:/{done.runs[0]}/model", str(checkpoint)):
        found = File2Emotions(model_uri=uri, store=done.store.uri)(done.files["wav"])
        np.testing.assert_allclose(found.predicted, of_seed.predicted, atol=1e-5)
        np.testing.assert_allclose(found.conceived, of_seed.conceived, atol=1e-5)


def test_a_checkpoint_with_its_description_needs_no_store(
    done: Done, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("best.safetensors", "config.json"):
        shutil.copy(done.store.download(done.runs[0], f"checkpoints/{name}"), tmp_path / name)
    monkeypatch.chdir(tmp_path)
    given = ["predict", str(done.files["wav"]), "--model", "best.safetensors"]
    result = CliRunner().invoke(main, given)
    assert result.exit_code == 0, result.output
    assert not (tmp_path / "mlflow.db").exists()
    assert pd.read_csv(tmp_path / "predictions" / "predictions.csv")["seeds"].item() == 1
    (tmp_path / "config.json").unlink()
    result = CliRunner().invoke(main, given)
    assert "does not say how songs are standardised for it" in result.stderr
    assert result.exit_code == 2


def test_fragility_is_told_in_tables_and_on_the_page(done: Done, tmp_path: Path) -> None:
    given = [
        "predict",
        str(done.files["wav"]),
        "--seed",
        "1",
        "--fragility",
        "--fragility_domain",
        "spectrogram",
    ]
    given += ["--fragility_move", ".01", "--out_dir", str(tmp_path)]
    result = CliRunner().invoke(main, given, env={"MLFLOW_TRACKING_URI": done.store.uri})
    assert result.exit_code == 0, result.output
    row = pd.read_csv(tmp_path / "predictions.csv").iloc[0]
    assert row["fragility_domain"] == "spectrogram"
    assert abs(row["fragility_moved"]) >= 0.01 - 1e-6
    assert 0 < row["fragility_budget"] <= 0.1
    page = (tmp_path / "predictions.html").read_text()
    assert f"A change of {row['fragility_budget']:.4f} standardised units a cell" in page


def test_the_page_plays_and_follows(done: Done) -> None:
    html = (done.out / "predictions.html").read_text()
    assert 'src="http' not in html
    with chromium() as browser:
        page = browser.new_page()
        errors: list[str] = []
        page.on("pageerror", lambda error: errors.append(str(error)))
        page.goto((done.out / "predictions.html").as_uri())
        first = page.locator("section").first
        page.wait_for_function("document.querySelector('audio.song').readyState >= 1")
        assert first.locator("audio.song").evaluate("a => a.duration") == pytest.approx(4.0, abs=0.1)
        first.locator("svg").first.click()  # in its middle
        page.wait_for_function("document.querySelector('.now').textContent !== ''")
        assert first.locator("audio.song").evaluate("a => a.currentTime") == pytest.approx(2.0, abs=0.7)
        assert len(page.locator("section").all()) == len(done.files)
    assert not errors
