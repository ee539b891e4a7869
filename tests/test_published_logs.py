"""The published logs: what is read from them, and how malformed ones are reported."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from published_clone import CLIPS, write_clone

from rmer.data.dataset import EMOTIONS
from rmer.data.published_logs import labels_digest, parse_array, published_systems, read_published_logs
from rmer.errors import DataErrors

A2E_6 = "6_7470d_2024-03-21_18-18-51_0.001_corr_0.002_test"


@pytest.fixture
def clone(tmp_path: Path) -> Path:
    return write_clone(tmp_path / "clone")


def adversaries(clone: Path) -> Path:
    return clone / "runs" / "adversaries"


def edit(path: Path, old: str, new: str) -> None:
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new, 1))


def test_mapping_has_ten_seeds_of_five_systems() -> None:
    systems = published_systems()
    assert Counter(system for system, _ in systems.values()) == dict.fromkeys(
        ("A2E", "A2B2E", "A2M2E", "aA2E", "aA2B2E"), 10
    )
    assert len(set(systems.values())) == 50
    assert {seed for _, seed in systems.values()} == {6, 21, 42, 796, 950, 2025, 2324, 2451, 3100, 7192}


@pytest.mark.parametrize("below", [".", "runs", "runs/adversaries"])
def test_reads_a_clone_its_runs_or_its_adversaries(clone: Path, below: str) -> None:
    logs = read_published_logs(clone / below)
    assert len(logs) == 50
    assert [len(log.clips) for log in logs] == [len(CLIPS)] * 50


def test_values_of_a_published_log(shared: Path) -> None:
    log = next(
        log
        for log in read_published_logs(shared / "published-runs")
        if (log.system, log.seed) == ("A2B2E", 2025)
    )
    clip = log.clips.iloc[0]
    assert (clip["clip"], clip["iterations"], clip["converged"]) == ("146", 1000, False)
    assert (clip["db"], clip["l2"], clip["threshold"]) == (45.08792, 3.8861193656921387, 0.8)
    assert [clip[f"label_{emotion}"] for emotion in EMOTIONS] == [
        0.26667, 0.48333, 0.53333, 0.3, 0.58333, 0.1, 0.13333, 0.1,
    ]  # fmt: skip
    assert (clip["clean_valence"], clip["adv_tender"]) == (0.270391, -0.37967756)
    assert (log.hparams["max_iters"], log.hparams["lr"], log.hparams["sign"]) == (1000, 0.002, True)


def test_no_published_perturbation_holds_its_budget_or_converged(shared: Path) -> None:
    logs = read_published_logs(shared / "published-runs")
    norms = np.concatenate([log.clips["l2"] for log in logs])
    assert len(norms) == 1800
    assert np.mean(norms > 0.001 * np.sqrt(46637)) == pytest.approx(0.994, abs=5e-4)
    assert not any(log.clips["converged"].any() for log in logs)


def test_labels_digest_ignores_order_and_the_fourth_decimal(clone: Path) -> None:
    clips = read_published_logs(clone)[0].clips
    rounded = clips.round({f"label_{emotion}": 3 for emotion in EMOTIONS}).iloc[::-1]
    assert labels_digest(rounded) == labels_digest(clips)
    assert labels_digest(clips.assign(label_sad=clips["label_sad"] + 0.001)) != labels_digest(clips)


@pytest.mark.parametrize(
    "text", ["[[1 2 3 4 5 6 7 8.]]", "[[ 1.  2.\n  3e0 4 5 6\n  7   8]]", " [[1 2 3 4 5 6 7 8]] "]
)
def test_array_text(text: str) -> None:
    assert parse_array(text) == [1, 2, 3, 4, 5, 6, 7, 8]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[[1 2 3]]", "3 numbers, not 8"),
        ("[1 2 3 4 5 6 7 8]", "not an array"),
        ("[[1 2 ... 4 5 6 7 8]]", "'...' is not a number"),
        ("[[1 2 nan 4 5 6 7 8]]", "'nan' is not finite"),
        ("[[1_0 2 3 4 5 6 7 8]]", "'1_0' is not a number"),
        ("__import__('os').getcwd()", "not an array"),
    ],
)
def test_malformed_array_text(text: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        parse_array(text)


def test_a_log_that_is_no_csv_is_named(clone: Path) -> None:
    edit(adversaries(clone) / A2E_6 / "log.csv", ']]",-0.8', ']]"x,-0.8')
    with pytest.raises(DataErrors, match=f"{A2E_6}/log.csv.*not CSV"):
        read_published_logs(clone)


def test_line_of_a_cell_after_arrays_of_several_lines(clone: Path) -> None:
    path = adversaries(clone) / A2E_6 / "log.csv"
    lines = path.read_text().splitlines()
    last = max(number for number, line in enumerate(lines, 1) if line.endswith(",-0.8"))
    path.write_text("\n".join(lines)[: -len("-0.8")] + "none\n")
    with pytest.raises(DataErrors, match=f"log.csv:{last}: column adv-target: 'none' is not a number"):
        read_published_logs(clone)


def test_all_problems_of_all_logs_at_once(clone: Path) -> None:
    folders = sorted(path for path in adversaries(clone).iterdir())
    edit(folders[0] / "log.csv", ",1000,", ",x,")
    edit(folders[1] / "hparams.yaml", "max_iters: 1000", "max_iters: 1.5")
    (folders[2] / "log.csv").unlink()
    (folders[3] / "log.csv").write_bytes(b"\xff\xfe")
    folders[4].rename(folders[4].with_name("else"))
    with pytest.raises(DataErrors) as caught:
        read_published_logs(clone)
    assert len(caught.value.problems) == 5
    for folder in folders[:4]:
        assert folder.name in str(caught.value)
    assert "missing" in str(caught.value)
