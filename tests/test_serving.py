"""Trained models served by MLflow: audio or spectrograms in, a table out, problems as HTTP 400."""

from __future__ import annotations

import ast
import base64
import io
import json
import os
import shutil
import subprocess
import sys
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import mlflow
import numpy as np
import pandas as pd
import pytest
import requests
import soundfile
import yaml
from conftest import ROOT
from heard_models import FRAMES, song
from servers import free_port, wait_for

from rmer.data.audio.decoders import SAMPLE_RATE
from rmer.data.preparation.songs import read_song
from rmer.errors import UserError
from rmer.evaluation.served_model import MOST_MINUTES, MOST_ROWS, ServedModel
from rmer.systems.network import build_network
from rmer.tracking.models.export import load_network, save_network
from rmer.tracking.models.serving_flavour import requirements

DESCRIBED = {
    "targets": ["valence", "energy"],
    "concepts": ["melody"],
    "normalisation": {"mean": 0.4, "std": 0.4},
    "frontend": {"frames": FRAMES},
    "rating_scale": [0.0, 10.0],
}
COLUMNS = ["valence", "energy", "concept_melody"]


@dataclass(frozen=True)
class Logged:
    """A model folder, and a song beside it."""

    folder: Path
    song: Path

    @property
    def audio(self) -> str:
        return base64.b64encode(self.song.read_bytes()).decode()


@pytest.fixture(scope="module")
def logged(tmp_path_factory: pytest.TempPathFactory) -> Logged:
    folder = tmp_path_factory.mktemp("served")
    network = build_network("bottleneck", targets=2, concepts=1).eval()
    example = np.random.default_rng(0).normal(size=(2, 1, FRAMES, 149)).astype(np.float32)
    outputs = {"output": np.zeros((2, 2), np.float32), "c_prob": np.zeros((2, 1), np.float32)}
    save_network(folder / "model", network, example, outputs, metadata=DESCRIBED)
    soundfile.write(folder / "a.wav", song(3.0), SAMPLE_RATE)
    return Logged(folder / "model", folder / "a.wav")


def expected(logged: Logged) -> dict[str, float]:
    model = ServedModel(load_network(logged.folder), DESCRIBED)
    raw = read_song(logged.song, frames=FRAMES).spectrogram
    return dict(model.predict(pd.DataFrame({"spectrogram": [raw.tolist()]})).iloc[0])


def test_the_flavour_says_what_goes_in_and_out_and_what_it_needs(logged: Logged) -> None:
    model = mlflow.models.Model.load(str(logged.folder))
    assert model.signature is not None
    assert model.signature.inputs.input_names() == ["audio", "path", "spectrogram"]
    assert model.signature.outputs.input_names() == COLUMNS
    needed = (logged.folder / "requirements.txt").read_text().split()
    assert needed == requirements()
    assert not [file for file in logged.folder.rglob("*") if file.suffix in (".pkl", ".pth", ".pickle")]
    served = mlflow.pyfunc.load_model(str(logged.folder))
    assert list(served.predict(served.input_example)) == COLUMNS


def test_audio_path_and_spectrogram_of_one_song_agree(
    logged: Logged, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RMER_AUDIO_FOLDER", str(logged.song.parent))
    served = mlflow.pyfunc.load_model(str(logged.folder))
    known = expected(logged)
    for column, value in (("audio", logged.audio), ("path", "a.wav")):
        found = served.predict(pd.DataFrame({column: [value, value]}))
        assert len(found) == 2
        # The spectrogram is madmom's, the front end of what is served torch's: they agree to 2e-6.
        np.testing.assert_allclose(found.iloc[1], [known[name] for name in COLUMNS], atol=2e-3)


def test_a_clean_environment_needs_nothing_of_rmer_but_what_the_model_brings(
    logged: Logged, tmp_path: Path
) -> None:
    # In a folder without rmer, with no package but those required, what they need, and Python's own.
    code = f"""
import importlib.machinery, importlib.metadata, json, re, sys
allowed = set()
def add(name):
    name = re.sub(r"[-_.]+", "-", name).lower()
    if name in allowed:
        return
    allowed.add(name)
    try:
        needed = importlib.metadata.requires(name) or []
    except importlib.metadata.PackageNotFoundError:
        return
    for line in needed:
        if "extra ==" not in line:
            add(re.match(r"[A-Za-z0-9._-]+", line)[0])
for line in open({str(logged.folder / "requirements.txt")!r}):
    add(line.split("==")[0])
owners = importlib.metadata.packages_distributions()
paths = importlib.machinery.PathFinder
class Only:
    def find_spec(self, name, path=None, target=None):
        top = name.partition(".")[0]
        if top == "rmer":
            path = path or [place for place in sys.path if place.endswith("rmer_source.zip")]
            return paths.find_spec(name, path) if path else None
        owned = [re.sub(r"[-_.]+", "-", owner).lower() for owner in owners.get(top, [])]
        return paths.find_spec(name, path, target) if not owned or allowed & set(owned) else None
    find_distributions = staticmethod(paths.find_distributions)
sys.meta_path[:] = [importlib.machinery.BuiltinImporter, importlib.machinery.FrozenImporter] + [Only()]
sys.path_importer_cache.clear()
import mlflow, pandas
served = mlflow.pyfunc.load_model({str(logged.folder)!r})
found = served.predict(pandas.DataFrame({{"audio": [sys.stdin.read()]}}))
import rmer
print(json.dumps([rmer.__file__, found.iloc[0].tolist()]))
"""
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    done = subprocess.run(
        [sys.executable, "-c", code], input=logged.audio, text=True, capture_output=True, cwd=tmp_path,
        env=environment, timeout=300, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-2000:]
    place, found = json.loads(done.stdout.splitlines()[-1])
    assert place == str(logged.folder / "rmer_source.zip" / "rmer" / "__init__.py")
    known = expected(logged)
    np.testing.assert_allclose(found, [known[name] for name in COLUMNS], atol=2e-3)


def test_the_code_that_it_brings_is_rmers_own(logged: Logged) -> None:
    with zipfile.ZipFile(logged.folder / "rmer_source.zip") as archive:
        for name in archive.namelist():
            assert archive.read(name) == (ROOT / name).read_bytes()
    loader = (logged.folder / "code" / "rmer_serving_loader.py").read_bytes()
    assert loader == (ROOT / "rmer" / "tracking" / "models" / "serving_loader.py").read_bytes()


def silence(seconds: float) -> str:
    buffer = io.BytesIO()
    soundfile.write(buffer, np.zeros(int(8000 * seconds), np.int16), 8000, format="FLAC")
    return base64.b64encode(buffer.getvalue()).decode()


NO_AUDIO = base64.b64encode(b"no audio").decode()
GIVE = "Give lists [frames, 149] of numbers from 0, log10(1 + x) as preprocess makes them"
BAD: dict[str, tuple[dict[str, list[Any]], str]] = {
    "another column": ({"song": ["a"]}, "input: has the columns 'song'. Give audio, path, spectrogram"),
    "nothing": ({"audio": [None]}, "row 0: holds nothing. Give one of audio, path, spectrogram"),
    "two things": (
        {"audio": [NO_AUDIO], "path": ["a.wav"]},
        "row 0: holds audio and path. Give one of audio, path, spectrogram",
    ),
    "no base64": (
        {"audio": ["%%%"]},
        "row 0: audio is no base64. Give the bytes of a WAV, FLAC, Ogg or MP3 file in base64",
    ),
    "no audio": (
        {"audio": [NO_AUDIO]},
        "row 0: holds no audio that can be decoded. Give a WAV, FLAC, Ogg or MP3 file",
    ),
    "hours of silence in a small file": (
        {"audio": [silence(60 * MOST_MINUTES + 60)]},
        "row 0: lasts 31 minutes. Give at most 30",
    ),
    "silence": (
        {"audio": [silence(2)]},
        "row 0: is silent throughout. Replace the file or remove its rating",
    ),
    "a path": (
        {"path": ["/etc/passwd"]},
        "row 0: no file may be read here. Send audio, or set RMER_AUDIO_FOLDER to the folder whose files may "
        "be read",
    ),
    "too many rows": ({"audio": ["" for _ in range(MOST_ROWS + 1)]}, "input: has 65 rows. Give 1 to 64"),
    "bands": (
        {"spectrogram": [np.zeros((50, 7)).tolist()]},
        f"row 0: spectrogram has the form [50, 7]. {GIVE}",
    ),
    "no numbers": ({"spectrogram": [[["a"] * 149]]}, f"row 0: spectrogram is no table of numbers. {GIVE}"),
    "standardised": (
        {"spectrogram": [np.full((50, 149), -1.0).tolist()]},
        f"row 0: spectrogram holds numbers below 0, or none. {GIVE}",
    ),
}


@pytest.mark.parametrize("name", BAD)
def test_a_bad_request_is_refused(name: str, logged: Logged) -> None:
    columns, message = BAD[name]
    model = ServedModel(load_network(logged.folder), DESCRIBED)
    with pytest.raises(UserError) as refused:
        model.predict(pd.DataFrame(columns))
    assert str(refused.value) == message


@pytest.mark.parametrize("path", ["../model/MLmodel", "/etc/passwd", "gone.wav", "", "."])
def test_no_file_outside_the_folder_is_read(path: str, logged: Logged, tmp_path: Path) -> None:
    model = ServedModel(load_network(logged.folder), DESCRIBED, tmp_path)
    with pytest.raises(UserError, match=r"there is no file .* in RMER_AUDIO_FOLDER"):
        model.predict(pd.DataFrame({"path": [path]}))


@contextmanager
def serving(model: Path, manager: str, place: Path, environment: dict[str, str]) -> Iterator[str]:
    """Run ``mlflow models serve`` in the folder ``place``; yield its address on this machine."""
    port = free_port()
    command = ["models", "serve", "-m", str(model), "-p", str(port), "--env-manager", manager]
    with (place / "serve.log").open("w") as log:
        process = subprocess.Popen(
            [sys.executable, "-m", "mlflow", *command],
            stdout=log,
            stderr=log,
            cwd=place,
            env=environment,
            start_new_session=True,
        )
    address = f"http://127.0.0.1:{port}"

    def answers() -> bool:
        assert process.poll() is None, (place / "serve.log").read_text()[-3000:]
        try:
            return requests.get(f"{address}/ping", timeout=2).ok
        except requests.RequestException:
            return False

    try:
        wait_for(answers, f"the model is not served: see {place / 'serve.log'}", 400)
        yield address
    finally:
        with suppress(ProcessLookupError):  # it ended by itself
            os.killpg(process.pid, 15)
        process.wait(30)


def check_answers(server: str, logged: Logged) -> None:
    """Assert that a server answers with emotions, and refuses with status 400."""
    good, bad = (
        requests.post(f"{server}/invocations", json={"dataframe_records": [{"audio": audio}]}, timeout=120)
        for audio in (logged.audio, NO_AUDIO)
    )
    assert good.status_code == 200, good.text
    assert good.json()["predictions"][0] == pytest.approx(expected(logged), abs=2e-3)
    assert bad.status_code == 400
    assert "row 0: holds no audio that can be decoded. Give a WAV" in bad.json()["message"]


def check_predicts(python: Path, logged: Logged, place: Path, environment: dict[str, str]) -> None:
    """Assert that ``mlflow models predict`` with the packages of ``python`` reads a file of requests."""
    request, answer = place / "request.json", place / "answer.json"
    request.write_text(json.dumps({"dataframe_split": {"columns": ["path"], "data": [["a.wav"]]}}))
    command = ["models", "predict", "-m", str(logged.folder), "-i", str(request), "-o", str(answer)]
    subprocess.run(
        [python, "-m", "mlflow", *command, "--env-manager", "local"], cwd=place,
        env={**environment, "RMER_AUDIO_FOLDER": str(logged.song.parent)}, check=True, timeout=300,
    )  # fmt: skip
    assert json.loads(answer.read_text())["predictions"][0] == pytest.approx(expected(logged), abs=2e-3)


BIN = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
HERE = {**os.environ, "PYTHONPATH": str(ROOT), "PATH": BIN}


def test_a_server_answers_with_emotions_and_refuses_with_400(logged: Logged, tmp_path: Path) -> None:
    with serving(logged.folder, "local", tmp_path, HERE) as server:
        check_answers(server, logged)


def test_mlflow_predicts_from_a_file(logged: Logged, tmp_path: Path) -> None:
    check_predicts(Path(sys.executable), logged, tmp_path, HERE)


def packages_as_pip_finds_them() -> dict[str, str]:
    """Return variables that tell uv where pip looks for packages, or else to take torch for CPUs."""
    listed = subprocess.run(
        [sys.executable, "-m", "pip", "config", "list"], text=True, capture_output=True, check=True
    ).stdout.splitlines()
    names = {"find-links": "UV_FIND_LINKS", "index-url": "UV_DEFAULT_INDEX"}
    found: dict[str, str] = {}
    for line in listed:  # such as global.find-links='/wheels /more'
        key, value = line.split("=", 1)
        if name := names.get(key.partition(".")[2]):
            found[name] = ",".join(ast.literal_eval(value).split())
    return found or {"UV_TORCH_BACKEND": "cpu"}


@pytest.fixture
def nothing(logged: Logged, tmp_path: Path) -> Iterator[dict[str, str]]:
    """Variables of a machine without rmer, where MLflow has built no environment yet (in ``envs``)."""
    if shutil.which("uv", path=BIN) is None:
        pytest.skip("uv is not installed")
    kept = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    environment = {**kept, **packages_as_pip_finds_them(), "PATH": BIN, "MLFLOW_ENV_ROOT": f"{tmp_path}/envs"}
    needed = subprocess.run(
        ["uv", "pip", "compile", "-q", str(logged.folder / "requirements.txt")],
        env=environment, text=True, capture_output=True, check=False,
    )  # fmt: skip
    if "error sending request" in needed.stderr:
        pytest.skip("the index of packages cannot be reached")
    yield environment
    shutil.rmtree(tmp_path / "envs", ignore_errors=True)


@pytest.mark.slow
def test_a_model_is_served_from_nothing_but_its_folder(
    nothing: dict[str, str], logged: Logged, tmp_path: Path
) -> None:
    with serving(logged.folder, "uv", tmp_path, nothing) as server:
        check_answers(server, logged)
    (python,) = (tmp_path / "envs").glob("*/bin/python")
    lacking = subprocess.run(
        [python, "-c", "import rmer"], cwd=tmp_path, env=nothing, text=True, capture_output=True, check=False
    )
    assert "No module named 'rmer'" in lacking.stderr
    check_predicts(python, logged, tmp_path, nothing)


def test_the_model_is_described_in_its_folder(logged: Logged) -> None:
    described = yaml.safe_load((logged.folder / "MLmodel").read_text())
    assert described["metadata"] == DESCRIBED
    assert described["flavors"]["python_function"]["loader_module"] == "rmer_serving_loader"
