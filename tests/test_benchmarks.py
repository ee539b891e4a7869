"""Benchmarks: what ratios, limits and targets mean, the page they end up on, and one real run."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch
from click.testing import CliRunner
from torch.utils.flop_counter import FlopCounterMode

from benchmarks import real_music
from benchmarks.gradients import products
from benchmarks.growth import fill
from benchmarks.measuring import Result, Row, Target, compare, interleave
from benchmarks.processes import in_new_process
from benchmarks.table import BEGIN, END, as_json, as_markdown, markers, write_page
from benchmarks.tiers import Units, lost
from rmer.data.audio.decoders import SAMPLE_RATE
from rmer.data.dataset import CONCEPTS, EMOTIONS
from rmer.data.readers.soundtracks import Soundtracks
from rmer.systems.frozen import FrozenNetwork, Spent
from rmer.systems.network import build_network
from rmer.tracking import RunSpec, Stage, Store, Tag, connect

ROOT = Path(__file__).resolve().parent.parent
PAGE = ROOT / "docs" / "benchmarks.md"


def test_ratios_are_medians_of_the_ratios_of_rounds() -> None:
    times = {"published": [4.0, 8.0, 6.0], "ours": [1.0, 1.0, 2.0], "products": [0.5, 1.0, 1.0]}
    rows = {
        row.way: row for row in compare("x", times, amounts=2.0, unit="clips/s", limits={"ours": "products"})
    }
    assert rows["ours"].published == 4.0  # of 4, 8, 3; the ratio of the medians would be 6
    assert rows["ours"].limit == 0.5
    assert rows["ours"].value == 2.0, "two clips in a median of one second"
    assert rows["published"].published is None
    assert rows["published"].spread == pytest.approx(1 / 6), "half of 5 to 7, of 6"


def test_every_way_is_called_once_a_round_and_the_first_round_is_not_counted() -> None:
    calls: list[str] = []

    def way(name: str) -> float:
        calls.append(name)
        return float(len(calls))

    times = interleave({"a": lambda: way("a"), "b": lambda: way("b")}, repeats=2, seconds=60)
    assert calls == ["a", "b"] * 3
    assert times == {"a": [3.0, 5.0], "b": [4.0, 6.0]}
    once = interleave({"a": lambda: way("a")}, repeats=9, seconds=0, warm_up=False)
    assert len(once["a"]) == 1


@pytest.mark.parametrize(
    ("target", "met"),
    [
        (Target("published", 3.0), True),
        (Target("published", 3.1), False),
        (Target("limit", 0.8), None),
        (Target("value", 10.0), True),
        (Target("value", 9.9), False),
    ],
)
def test_targets(target: Target, met: bool | None) -> None:
    assert target.met(Row("x", "y", 10.0, "s", published=3.0)) is met


def test_products_have_the_operations_of_the_convolutions() -> None:
    network = FrozenNetwork(build_network("bottleneck")).model
    inputs = torch.zeros(2, 1, 32, 149)
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        network(inputs)
    counted = [n for kind, n in counter.get_flop_counts()["Global"].items() if "convolution" in str(kind)]
    shapes = products(network, inputs)
    forward, backward = (sum(2 * int(np.prod(shape)) for shape in way) for way in shapes)
    assert forward == sum(counted)
    assert backward == forward, "the way back to the inputs multiplies as often as the way there"
    places = 2 * 16 * 75  # after the first convolution, which has a stride: each scatters into its 25 taps
    assert shapes[0][:2] == [(places, 25, 64), (places, 9 * 64, 64)]
    assert shapes[1][:2] == [(places, 64, 25), (places, 9 * 64, 64)]


def test_a_page_keeps_its_text_and_gets_the_results_anew(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text(f"before\n\n{BEGIN}\n\nold\n\n{END}\n\nafter\n")
    for _ in range(2):
        write_page(page, "| new |\n")
    assert page.read_text() == f"before\n\n{BEGIN}\n\n| new |\n\n{END}\n\nafter\n"
    page.write_text("no place for results")
    with pytest.raises(ValueError, match="needs one"):
        write_page(page, "new")


def test_results_of_older_instructions_have_a_place_of_their_own(tmp_path: Path) -> None:
    page, (begin, end) = tmp_path / "page.md", markers("AVX2")
    page.write_text(f"{begin}\n{end}\n{BEGIN}\nold\n{END}\n")
    write_page(page, "| small |\n", "AVX2")
    assert page.read_text() == f"{begin}\n\n| small |\n\n{end}\n{BEGIN}\nold\n{END}\n"
    assert PAGE.read_text().count(begin) == PAGE.read_text().count(end) == 1


def test_passes_count_by_their_time_over_that_of_a_float32_gradient() -> None:
    units = Units(gradient=0.4, reduced=0.1, finer=0.2, forward=0.2)
    # 3 gradients in float32, 8 in bfloat16 worth a quarter each, 4 predictions worth a half each
    assert units.equivalents(Spent(gradients=13, forwards=4, reduced=8, finer=2)) == pytest.approx(
        3 + 2 + 1 + 2
    )


@pytest.mark.parametrize(
    ("adaptive", "fixed", "loss"), [(0.99, 1.0, 1.0), (1.1, 1.0, -10.0), (0.0, 0.0, 0.0)]
)
def test_a_loss_is_a_share_of_the_fixed_damage(adaptive: float, fixed: float, loss: float) -> None:
    assert lost(adaptive, fixed) == pytest.approx(loss)


def test_table_and_json_say_the_same() -> None:
    row = Row("speed", "ours", 20.0, "clips/s", 5, 0.01, published=3.0, targets=(Target("published", 4.0),))
    results = {"speed": Result([row], notes=["A note."])}
    assert as_json(results, {"cores": "2"}, {})["rows"][0]["targets"] == {"≥ 4 x published": False}
    text = as_markdown(results, {"cores": "2"})
    assert "| 20 clips/s | ± 1% of 5 | 3 " in " ".join(text.split())
    assert "**no**" in text
    assert "- A note." in text


def test_the_page_holds_the_last_recorded_results() -> None:
    recorded = json.loads((PAGE.parent / "benchmarks.json").read_text())
    results = PAGE.read_text().split(BEGIN)[1].split(END)[0]
    assert f"date: {recorded['facts']['date']}" in results
    met = [value for row in recorded["rows"] for value in row["targets"].values()]
    assert results.count("**no**") == met.count(False)
    assert met.count(True) > 0


def test_a_process_is_measured_by_itself() -> None:
    assert np.ones(2**25).sum() == 2**25  # 256 MB here, which the other process never sees
    small, large = (in_new_process(_allocate, megabytes) for megabytes in (1, 300))
    assert 290 < large.megabytes - small.megabytes < 400
    assert large.seconds >= 0.01


def test_copies_fill_a_store_and_are_not_found_by_the_study(store: Store) -> None:
    spec = RunSpec(Stage.ATTACK, "one", {"number": 1}, study="real")
    outcome = store.perform(spec, lambda run: run.metrics({"adv/mae": 0.5}))
    fill(store, outcome.run_id, 25)
    assert [record.run_id for record in store.find(Stage.ATTACK, study="real")] == [outcome.run_id]
    copies = store.search({Tag.STUDY: "filler"})
    assert len(copies) == 25
    assert all(record.metrics == {"adv/mae": 0.5} for record in copies)
    assert len({record.tags[Tag.CONFIG] for record in copies}) == 25


def test_the_command_writes_page_and_json_and_logs_a_run(tmp_path: Path) -> None:
    (tmp_path / "benchmarks.md").write_text(f"{BEGIN}\n{END}\n")
    uri = f"sqlite:///{tmp_path}/mlflow.db"
    environment = os.environ | {"MLFLOW_TRACKING_URI": uri, "RMER_HOME": str(tmp_path / "home")}
    done = _benchmarks("--only", "logging", "--output", str(tmp_path), environment=environment)
    assert done.returncode == 0, done.stderr
    rows = json.loads((tmp_path / "benchmarks.json").read_text())["rows"]
    assert {row["way"] for row in rows} == {"in the computation", "until in the store"}
    assert "until in the store" in done.stdout
    assert "until in the store" in (tmp_path / "benchmarks.md").read_text()
    (run,) = connect(uri).search({Tag.STAGE: "benchmark"})
    logged = run.metrics["logging_10_metrics_of_an_epoch/until_in_the_store/value"]
    assert logged == next(row["value"] for row in rows if row["way"] == "until in the store")


def test_a_folder_without_the_page_is_refused_before_anything_is_measured(tmp_path: Path) -> None:
    done = _benchmarks("--only", "logging", "--output", str(tmp_path))
    assert done.returncode == 2
    assert f"output {tmp_path}: no page for the results" in done.stderr
    assert "logging" not in done.stderr
    assert not list(tmp_path.glob("*.json"))


def test_a_folder_that_is_no_clone_is_refused_in_one_line(tmp_path: Path) -> None:
    done = _benchmarks("--only", "training", "--reference", str(tmp_path))
    assert done.returncode == 2
    assert f"{tmp_path}: no clone of the published repository" in done.stderr
    assert "Traceback" not in done.stderr


def _benchmarks(
    *arguments: str, environment: dict[str, str] | None = None
) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "benchmarks", "--quick", *arguments]
    return subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)


def _allocate(megabytes: int) -> None:
    assert len(np.ones(megabytes * 2**17)) > 0
    time.sleep(0.01)


def test_recordings_are_cut_into_a_data_set_that_can_be_read(tmp_path: Path) -> None:
    music, seconds = tmp_path / "music" / "deeper", 2.0
    music.mkdir(parents=True)
    place = np.arange(round(7 * SAMPLE_RATE)) / SAMPLE_RATE
    for name, hertz in (("low", 220.0), ("high", 1760.0)):
        tone = np.sin(2 * np.pi * hertz * place) * (1 + np.sin(place)) / 4
        soundfile.write(music / f"{name}.ogg", tone, SAMPLE_RATE)
    late = np.where(place < 4, 0.0, np.sin(2 * np.pi * 440 * place) / 4)
    soundfile.write(music / "late.wav", late, SAMPLE_RATE)
    given = [str(music.parent), str(tmp_path / "data"), "--seconds", str(seconds), "--each", "3"]
    done = CliRunner().invoke(real_music.main, given, catch_exceptions=False)
    assert "7 clips of 3 recordings" in done.output
    found = Soundtracks()(tmp_path / "data")
    assert found.problems == ()
    assert found.clips.groupby("album")["clip"].count().to_dict() == {"high": 3, "late": 1, "low": 3}
    assert found.concepts == CONCEPTS
    brightness = found.clips.groupby("album")["mode"].mean()  # made of what is not bright
    assert brightness["low"] > brightness["high"]
    assert found.clips[list(EMOTIONS)].to_numpy().std(0).min() > 0
