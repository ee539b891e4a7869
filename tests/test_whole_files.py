"""Files appear whole or not at all, and a killed writer leaves nothing that stays."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch

from rmer.data.dataset import EMOTIONS, Dataset
from rmer.files import whole
from rmer.training.checkpoint import TrainingState
from rmer.training.stopping import EarlyStopping


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_a_failure_leaves_what_was_there(tmp_path: Path) -> None:
    file = tmp_path / "a.txt"
    file.write_text("old")

    def write_half() -> None:
        with whole(file) as part:
            part.write_text("half")
            raise OSError("full")

    with pytest.raises(OSError, match="full"):
        write_half()
    assert (names(tmp_path), file.read_text()) == (["a.txt"], "old")


def test_what_a_killed_writer_left_is_overwritten(tmp_path: Path) -> None:
    (tmp_path / "a.txt.part").write_text("half of something long")
    with whole(tmp_path / "a.txt") as part:
        part.write_text("new")
    assert (names(tmp_path), (tmp_path / "a.txt").read_text()) == (["a.txt"], "new")


def test_checkpoints_of_killed_trainings_do_not_pile_up(tmp_path: Path) -> None:
    (tmp_path / "training.pt.part").write_bytes(b"half")
    TrainingState(1, {}, {}, EarlyStopping(3), None, torch.get_rng_state()).save(tmp_path / "training.pt")
    assert names(tmp_path) == ["training.pt"]


def test_a_data_set_holds_no_half_files_of_a_killed_process(tmp_path: Path) -> None:
    for name in ("spectrograms.npy.part", "clips.csv.part", "dataset.json.part"):
        (tmp_path / name).write_bytes(b"half")
    table = pd.DataFrame({"clip": ["001"], "file": "", "album": "", "track": ""})
    table = table.assign(**dict.fromkeys(EMOTIONS, 0.5))
    table = table.assign(spec_mean=0.4, spec_mean_square=0.3, spec_frames=8, excerpt_start=0)
    table["split_published"] = "train"
    Dataset(np.zeros((1, 8, 149), np.float32), table, EMOTIONS, (), {"fps": 31.3}).save(tmp_path)
    assert names(tmp_path) == ["clips.csv", "dataset.json", "spectrograms.npy"]
