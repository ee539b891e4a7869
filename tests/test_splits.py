"""Splits: the published one clip for clip, and one in which no album lies in two parts."""

from __future__ import annotations

import csv
import re
from pathlib import Path

import numpy as np
import pytest
import torch

from rmer.data.dataset import EMOTIONS
from rmer.data.splits import PARTS, album_split, grouped, largest_difference, part_column, published_split
from rmer.data.tables.ratings import inspect_ratings
from rmer.data.tables.tracklist import inspect_tracklist
from rmer.errors import UserError


def test_the_published_split_has_the_clips_of_the_published_logs(shared: Path) -> None:
    test = [f"{row + 1:03d}" for row in published_split(360)["test"]]
    logs = sorted((shared / "published-runs" / "runs" / "adversaries").glob("*/log.csv"))
    assert len(logs) == 50
    for log in logs:
        with log.open(newline="") as stream:
            logged = [re.findall(r"(\d{3})\.mp3", row["file"])[0] for row in csv.DictReader(stream)]
        assert logged == test, log.parent.name


@pytest.mark.parametrize("clips", [*range(6, 60), 359, 360, 361, 1000])
def test_the_published_split_is_random_split(clips: int) -> None:
    train = int(clips * 0.8)
    test = int((clips - train) * 0.5)
    drawn = torch.utils.data.random_split(
        range(clips), [train, clips - train - test, test], generator=torch.Generator().manual_seed(42)
    )
    parts = published_split(clips)
    assert [rows.tolist() for rows in parts.values()] == [list(part.indices) for part in drawn]
    assert tuple(parts) == PARTS


def test_drawing_the_published_split_leaves_the_global_generator_alone() -> None:
    torch.manual_seed(1)
    expected = torch.rand(1).item()
    torch.manual_seed(1)
    published_split(360)
    assert torch.rand(1).item() == expected


@pytest.mark.parametrize("clips", [0, 1, 5])
def test_too_few_clips_are_refused(clips: int) -> None:
    with pytest.raises(UserError, match="cannot be divided"):
        published_split(clips)


def check_partition(parts: dict[str, np.ndarray], albums: list[str]) -> None:
    assert tuple(parts) == PARTS
    assert sorted(np.concatenate(list(parts.values())).tolist()) == list(range(len(albums)))
    seen = [{albums[row] for row in rows} for rows in parts.values()]
    assert all(seen)
    assert sum(map(len, seen)) == len(set(albums)), "an album lies in two parts"


def test_the_real_albums_split_evenly(shared: Path) -> None:
    ratings = inspect_ratings(shared / "soundtracks" / "mean_ratings_set1.csv").checked()
    tracks = inspect_tracklist(shared / "soundtracks" / "set1_tracklist.csv").checked()
    albums = tracks["album"].tolist()
    labels = ratings[list(EMOTIONS)].to_numpy()
    parts = album_split(albums, labels)

    check_partition(parts, albums)
    assert {part: len(rows) for part, rows in parts.items()} == {"train": 287, "validation": 36, "test": 37}
    assert len({albums[row] for row in parts["test"]}) >= 6
    assert len({albums[row] for row in parts["validation"]}) >= 6
    differences = largest_difference(parts, labels)
    assert max(differences.values()) < 0.15
    assert max(differences.values()) < max(largest_difference(published_split(360), labels).values())


def test_album_parts_follow_names_and_not_the_order_of_clips() -> None:
    rng = np.random.default_rng(5)
    albums = [f"album {number}" for number in rng.integers(0, 12, 80)]
    labels = rng.uniform(0, 1, (80, 3))
    order = rng.permutation(80)
    parts = album_split(albums, labels)
    shuffled = album_split([albums[row] for row in order], labels[order])
    for part in PARTS:
        assert sorted(order[shuffled[part]].tolist()) == parts[part].tolist()
    again = album_split(albums, labels)
    assert all(np.array_equal(parts[part], again[part]) for part in PARTS)


@pytest.mark.parametrize(
    "sizes", [[1, 1, 1], [30, 2, 2], [1, 50, 1, 50], [4] * 10, [1] * 20, list(range(1, 15))]
)
@pytest.mark.parametrize("constant", [False, True])
def test_any_albums_split(sizes: list[int], constant: bool) -> None:
    albums = [f"album {number}" for number, size in enumerate(sizes) for _ in range(size)]
    labels = np.full((len(albums), 2), 0.5) if constant else np.random.default_rng(0).random((len(albums), 2))
    parts = album_split(albums, labels)
    check_partition(parts, albums)
    assert np.isfinite(list(largest_difference(parts, labels).values())).all()


def test_duplicates_join_albums_to_one_group() -> None:
    albums = ["c", "b", "a", "c", "d", "e"]
    assert grouped(albums, []) == albums
    assert grouped(albums, [(0, 1)]) == ["b", "b", "a", "b", "d", "e"]
    assert grouped(albums, [(0, 1), (4, 1), (2, 5)]) == ["b", "b", "a", "b", "b", "a"]


def test_duplicates_lie_in_one_part() -> None:
    rng = np.random.default_rng(0)
    albums = [f"album {number}" for number in range(30)]
    pairs = [(0, 29), (3, 17), (17, 22)]
    parts = part_column(album_split(grouped(albums, pairs), rng.random((30, 2))), 30)
    assert all(parts[first] == parts[second] for first, second in pairs)
    apart = part_column(album_split(albums, rng.random((30, 2))), 30)
    assert any(apart[first] != apart[second] for first, second in pairs)


def test_equal_albums_give_the_shares_exactly() -> None:
    albums = [f"album {row // 4}" for row in range(40)]
    labels = np.random.default_rng(0).random((40, 8))
    sizes = [len(rows) for rows in album_split(albums, labels).values()]
    assert sizes == [32, 4, 4]


@pytest.mark.parametrize(
    ("albums", "message"), [(["a", "b"] * 9, "2 albums cannot"), (["a", "b", "c", ""], "have no album")]
)
def test_albums_that_cannot_be_split_are_refused(albums: list[str], message: str) -> None:
    with pytest.raises(UserError, match=message):
        album_split(albums, np.zeros((len(albums), 1)))
