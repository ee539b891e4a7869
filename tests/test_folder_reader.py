"""Reader ``folder``: any sounds with a table; options name the columns, and whatever is unclear is said."""

from __future__ import annotations

import unicodedata
from pathlib import Path

import pytest
from public_layouts import write_lines

from rmer.data.readers.collection import Collected
from rmer.data.readers.folder import Folder
from rmer.errors import UserError


def touch(folder: Path, *names: str) -> Path:
    for name in names:
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"sound")
    return folder


def read(folder: Path, **options: object) -> Collected:
    return Folder.from_mapping(options)(folder)


@pytest.fixture
def songs(tmp_path: Path) -> Path:
    """Six songs in folders, named by file, without ending, and by number; ratings from -1 to 1."""
    names = ("pop/a.mp3", "pop/b song.ogg", "rock/007.flac", "rock/d.wav", "e.mp3", "deep/er/f.opus")
    rows = [
        "song,Mood (v),arousal,artist,note",
        "a.mp3,-1,0.5,X,loud",
        "b song,1,0,X,",
        "7,0,-0.5,Y,x",
        "rock/d.wav,.5,1,Y,x",
        "e,-.5,-1,Z,x",
        "er/f,.25,.25,Z,x",
    ]
    write_lines(tmp_path / "ratings.csv", rows)
    return touch(tmp_path, *names)


def test_sounds_are_found_below_the_folder_whatever_the_table_calls_them(songs: Path) -> None:
    collected = read(songs, scale_min=-1, scale_max=1, group_column="artist").checked()
    files = collected.clips["file"].tolist()
    assert files == ["pop/a.mp3", "pop/b song.ogg", "rock/007.flac", "rock/d.wav", "e.mp3", "deep/er/f.opus"]
    assert collected.clips["clip"].tolist() == ["a.mp3", "b song", "007", "rock_d.wav", "e", "er_f"]
    assert collected.emotions == ("Mood_v", "arousal"), "every other column of numbers, by the rule of names"
    assert collected.titles == {"Mood_v": "Mood (v)"}
    assert collected.clips["Mood_v"].tolist() == [0, 1, 0.5, 0.75, 0.25, 0.625]
    assert collected.clips["album"].tolist() == ["X", "X", "Y", "Y", "Z", "Z"]


def test_targets_are_renamed_and_chosen(songs: Path) -> None:
    collected = read(songs, targets="valence=Mood (v)", scale_min=-1, scale_max=1).checked()
    assert collected.emotions == ("valence",)
    assert collected.clips.columns.tolist() == ["clip", "file", "album", "track", "valence"]


@pytest.mark.parametrize("separator", [",", "\t", ";", "|"])
def test_any_separator_and_encoding_reads_alike(songs: Path, separator: str) -> None:
    expected = read(songs, scale_min=-1, scale_max=1).clips
    text = (songs / "ratings.csv").read_text().replace(",", separator)
    (songs / "ratings.csv").unlink()
    (songs / "ratings.tsv").write_bytes(text.encode("utf-16"))
    assert read(songs, scale_min=-1, scale_max=1).clips.equals(expected)


def test_composed_and_decomposed_characters_are_the_same(tmp_path: Path) -> None:
    names = ["Älä nuku", "ナミダ", "señor #1?", "a+b=c", "é", "ok"]
    composed, decomposed = ([unicodedata.normalize(form, name) for name in names] for form in ("NFC", "NFD"))
    touch(tmp_path, *(f"{name}.mp3" for name in decomposed))
    write_lines(tmp_path / "t.csv", ["clip,ärger!", *(f"{name},{k}" for k, name in enumerate(composed))])
    collected = read(tmp_path).checked()
    assert collected.clips["clip"].tolist() == ["Älä nuku", "ナミダ", "señor _1_", "a_b_c", "é", "ok"]
    assert len(collected.audio) == 6
    assert collected.emotions == ("ärger",)


def test_names_that_become_alike_stay_apart(tmp_path: Path) -> None:
    names = ["x?", "x!", "a", "b", "c", "d"]
    touch(tmp_path, *(f"{name}.mp3" for name in names))
    write_lines(tmp_path / "t.csv", ["clip,v", *(f"{name},{k}" for k, name in enumerate(names))])
    clips = read(tmp_path).checked().clips["clip"].tolist()
    assert len(set(clips)) == 6
    assert clips[0].startswith("x__")


def test_two_files_of_one_stem_are_both_named(songs: Path) -> None:
    touch(songs, "other/e.flac", "pop/a.ogg")
    assert read(songs, scale_min=-1, scale_max=1).problems == (
        "clip e could be any of e.mp3, other/e.flac: name the file with its folder and ending",
    )


def test_a_missing_sound_is_named_with_the_one_that_was_likely_meant(songs: Path) -> None:
    (songs / "pop" / "b song.ogg").rename(songs / "pop" / "b_song.ogg")
    assert read(songs, scale_min=-1, scale_max=1).problems == (
        "no audio file of clip b song (is it b_song.ogg?)",
    )


def test_classes_become_one_target_each(songs: Path) -> None:
    write_lines(songs / "ratings.csv", ["file,4Q", "a,1", "b song,2", "7,1", "d,3", "e,2", "f,3"])
    collected = read(songs, class_column="4Q").checked()
    assert (collected.labels, collected.emotions) == (
        "classes",
        ("target_4Q 1", "target_4Q 2", "target_4Q 3"),
    )
    assert collected.clips[list(collected.emotions)].to_numpy().tolist()[:2] == [[1, 0, 0], [0, 1, 0]]


def test_numbers_of_classes_that_are_read_as_a_scale_are_warned_of(songs: Path) -> None:
    write_lines(
        songs / "ratings.csv", ["file,x,4Q", "a,1,1", "b song,2,2", "7,1,3", "d,3,4", "e,2.5,1", "f,3,2"]
    )
    collected = read(songs, scale_max=4).checked()
    assert collected.warnings == (
        "4Q holds only 1, 2, 3, 4 and is read as a scale: if these are classes, give class_column",
    )


def test_tags_become_one_target_each(songs: Path) -> None:
    rows = ["file,tags", "a,sad; slow", "b song,sad", "7,", "d,slow|happy", "e,happy", "f,sad"]
    write_lines(songs / "ratings.csv", rows)
    collected = read(songs, tag_column="tags").checked()
    assert (collected.labels, collected.emotions) == ("tags", ("happy", "sad", "slow"))
    assert collected.clips[["happy", "sad", "slow"]].to_numpy().tolist()[:3] == [
        [0, 1, 1],
        [0, 1, 0],
        [0, 0, 0],
    ]


def test_a_split_of_ones_own_is_taken(songs: Path) -> None:
    rows = ["file,v,set", "a,1,train", "b song,2,TRAIN", "7,3,dev", "d,4,test", "e,5,", "f,6,train"]
    write_lines(songs / "ratings.csv", rows)
    official = read(songs, split_column="set").checked().official
    assert list(official.values()) == ["train", "train", "validation", "test", "train"]
    write_lines(songs / "ratings.csv", [*rows, "e,5,other"])
    problems = read(songs, split_column="set").problems
    assert "ratings.csv line 8: set is 'other', none of train, validation, test" in problems


def test_ratings_over_time_become_windows(songs: Path) -> None:
    rows = [f"{song},{second},{second % 10}" for song in ("a", "b song", "7") for second in range(20)]
    write_lines(songs / "ratings.csv", ["file,seconds,v", *rows])
    collected = read(songs, time_column="seconds", over_time="windows").checked()
    assert collected.clips["clip"].tolist()[:2] == ["a at 0 s", "a at 10 s"]
    assert collected.clips["v"].tolist() == pytest.approx([0.45] * 6)
    assert collected.starts["7 at 10 s"] == 10


def test_a_scale_that_is_hardly_used_is_warned_of(songs: Path) -> None:
    rows = ["file,v", *(f"{name},.{k}" for k, name in enumerate(("a", "b song", "7", "d", "e", "f")))]
    write_lines(songs / "ratings.csv", rows)
    (warning,) = read(songs).warnings
    assert warning == "all ratings lie in 0 to 0.5 of the scale 0 to 10: are scale_min and scale_max right?"
    assert read(songs, scale_max=0.5).warnings == ()


BAD: dict[str, tuple[dict[str, object], list[str], str]] = {
    "off the scale": ({}, ["file,v", "a,11"], "ratings.csv line 2: v is 11, outside 0-10"),
    "below 0": ({"scale_min": -1, "scale_max": 1}, ["file,v", "a,-2"], "v is -2, outside -1 to 1"),
    "no number": ({"targets": "v"}, ["file,v", "a,x"], "v is 'x', not a number"),
    "empty": ({"targets": "v"}, ["file,v,w", "a,,1"], "v is empty"),
    "twice": ({}, ["file,v", "a,1", "a,2"], "ratings.csv line 3: clip a is already on ratings.csv line 2"),
    "no identifier": ({}, ["file,v", ",1"], "file is empty"),
    "no group": ({"group_column": "g"}, ["file,v,g", "a,1,"], "g of clip a is empty"),
    "no class": ({"class_column": "c"}, ["file,c", "a,"], "c is empty"),
    "unknown column": (
        {"group_column": "album"},
        ["file,v", "a,1"],
        "has no column 'album' (it has: file, v)",
    ),
    "unknown target": ({"targets": "x"}, ["file,v", "a,1"], "has no column 'x' (it has: file, v)"),
    "no numbers": ({}, ["file,v", "a,x"], "has no column of numbers (it has: v): give targets"),
    "twice a heading": ({}, ["file,v,v", "a,1,2"], "has more than one column called 'v'"),
    "no rows": ({}, ["file,v"], "has no rows"),
}


@pytest.mark.parametrize(("options", "rows", "says"), BAD.values(), ids=BAD)
def test_a_fault_of_the_table_is_named(
    songs: Path, options: dict[str, object], rows: list[str], says: str
) -> None:
    write_lines(songs / "ratings.csv", rows)
    assert any(says in problem for problem in read(songs, **options).problems)


def test_which_table_is_meant_must_be_clear(songs: Path) -> None:
    write_lines(songs / "more.csv", ["file,v", "a,1"])
    (problem,) = read(songs).problems
    assert problem.endswith("has several tables (more.csv, ratings.csv): give ratings")
    assert read(songs, ratings=str(songs / "more.csv")).clips["clip"].tolist() == ["a"]
    for path in songs.glob("*.csv"):
        path.unlink()
    (problem,) = read(songs).problems
    assert problem.startswith("no table (.csv, .tsv, .tab) in ")


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"scale_min": 5, "scale_max": 5}, "parameter scale_min: 5 is not below scale_max, 5"),
        ({"class_column": "a", "tag_column": "b"}, "parameter tag_column: is given beside class_column"),
        ({"over_time": "windows"}, "parameter time_column: is needed for ratings over time"),
        ({"targets": "=v"}, "targets: '=v' is half of new=old"),
        ({"targets": "a/b=v"}, "targets: 'a/b' cannot be the name of a metric. Call it a_b, say"),
        ({"targets": "a=v,a=w"}, "targets: one is named twice"),
    ],
)
def test_options_that_make_no_sense_are_refused(songs: Path, options: dict[str, object], says: str) -> None:
    with pytest.raises(UserError) as caught:
        read(songs, **options)
    assert str(caught.value).startswith(says)
