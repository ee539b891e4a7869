"""Public data sets in the layout in which they are distributed, with short synthetic sounds."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import soundfile

RATE = 22050


def write_sound(path: Path, seed: int, seconds: float = 1.6) -> None:
    """Write a tone of its own in noise; the ending says in which format."""
    path.parent.mkdir(parents=True, exist_ok=True)
    rng, time = np.random.default_rng(seed), np.arange(int(seconds * RATE)) / RATE
    tone = np.sin(2 * np.pi * rng.uniform(200, 900) * time)
    soundfile.write(path, 0.4 * tone + 0.02 * rng.normal(size=len(time)), RATE)


def write_lines(path: Path, lines: Sequence[str], end: str = "\n") -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes((end.join(lines) + end).encode())
    return path


def write_deam(folder: Path, songs: Sequence[int] = (2, 3, 4, 5, 7, 8, 10, 12, 13, 17, 2001, 2058)) -> Path:
    """As the three archives unpack, nested, with blanks in the headings and ragged metadata."""
    averaged = folder / "DEAM_Annotations/annotations/annotations averaged per song"
    head = "song_id, valence_mean, valence_std, arousal_mean, arousal_std"
    more = ", valence_ max_mean, valence_max_std"
    rows = [f"{song},{1 + 0.4 * k % 8:.1f},.9,{9 - 0.3 * k % 8:.1f},.6" for k, song in enumerate(songs)]
    early = [row for row, song in zip(rows, songs, strict=True) if song <= 2000]
    late = [f"{row},5.5,1.2" for row, song in zip(rows, songs, strict=True) if song > 2000]
    static = averaged / "song_level/static_annotations_averaged_songs_1_2000.csv"
    write_lines(static, [head, *early])
    write_lines(static.with_name("static_annotations_averaged_songs_2000_2058.csv"), [head + more, *late])
    times = [15000 + 500 * step for step in range(20)]
    for sign, name in ((1, "valence"), (-1, "arousal")):
        lines = ["song_id," + ",".join(f"sample_{time}ms" for time in times)]
        for k, song in enumerate(songs):
            values = [f"{sign * (k / 20 + step / 100):.3f}" for step in range(20)]
            lines.append(f"{song}," + ",".join(values if song > 2 else [*values[:16], "", "", "", ""]))
        write_lines(averaged / f"dynamic (per second annotations)/{name}.csv", lines)
    metadata = folder / "metadata"
    of_2013 = ["song_id,file_name,Artist,Song title,start of the segment (min.sec),end of the segment,Genre"]
    of_2013 += [
        f'{song},{song}.mp3,"The Artist, {k // 2}	",Title,0.1,0.55,Rock'
        for k, song in enumerate(songs[:-2])
    ]
    write_lines(metadata / "metadata_2013.csv", of_2013)
    write_lines(
        metadata / "metadata_2014.csv",
        ["Id,Artist,Album,Track,Genre,segment start,segment end", "1001,A,B,C,D"],
    )
    of_2015 = [f"{song}, x.mp3,Title,Late,Album,Pop,Rock,more" for song in songs[-2:]]
    write_lines(metadata / "metadata_2015.csv", ["id,Filename,title,artist,album,genre", *of_2015])
    for song in songs:
        write_sound(folder / f"DEAM_audio/MEMD_audio/{song}.mp3", song)
    write_lines(folder / "features/2.csv", ["frameTime;F0", "0.0;1"])
    return folder


def write_pmemo(folder: Path, songs: Sequence[int] = (1, 4, 5, 6, 7, 9, 10, 12, 13, 20, 21, 1000)) -> Path:
    """PMEmo2019: annotations/, chorus/ with a song that has no ratings, metadata.csv."""
    root = folder / "PMEmo2019"
    static = [f"{song},{0.1 + 0.06 * k:.4f},{0.9 - 0.05 * k:.4f}" for k, song in enumerate(songs)]
    write_lines(root / "annotations/static_annotations.csv", ["musicId,Arousal(mean),Valence(mean)", *static])
    dynamic = [
        f"{song},{15 + step / 2},{0.2 + 0.01 * step:.4f},{0.3 + 0.02 * k:.4f}"
        for k, song in enumerate(songs)
        for step in range(8)
    ]
    head = "musicId,frameTime,Arousal(mean),Valence(mean)"
    write_lines(root / "annotations/dynamic_annotations.csv", [head, *dynamic])
    about = [
        f'{song},{song}.mp3,"Title, {k}",Artist {k // 2},Album,30.0,00:10,00:40'
        for k, song in enumerate(songs)
    ]
    head = "musicId,fileName,title,artist,album,duration,chorus_start_time,chorus_end_time"
    write_lines(root / "metadata.csv", [head, *about], end="\r\n")
    for song in (*songs, 999):
        write_sound(root / f"chorus/{song}.mp3", song)
    write_lines(root / "EDA/1_EDA.csv", ["time(s),100177", "0,.3"])
    return folder


def write_emopia(folder: Path) -> Path:
    """EMOPIA_1.0 with the clips that were fetched in audio_seg/, and the official lists."""
    root, clips = folder / "EMOPIA_1.0", []
    for k in range(18):
        song = f"{'-_' if k < 3 else ''}v{k // 3}_x-Y{k // 3}"
        clips.append((f"Q{k % 4 + 1}_{song}_{k % 3}", k % 4 + 1))
    label = [f"{name},{quadrant},A" for name, quadrant in clips]
    write_lines(root / "label.csv", ["ID,4Q,annotator", *label, "Q4_gone_0,4,B"])
    parts = {"train": clips[:12], "val": clips[12:15], "test": clips[15:]}
    for part, of_part in parts.items():
        rows = [f"{name},Q{quadrant}" for name, quadrant in of_part]
        write_lines(root / f"split/{part}.csv", ["fname,label", *rows])
    for k, (name, _) in enumerate(clips):
        write_sound(root / f"audio_seg/{name}.mp3", k)
    return folder


def write_jamendo(folder: Path) -> Path:
    """The repository's data/ beside the audio; one track is there in its smaller form, one not at all."""
    head = "TRACK_ID\tARTIST_ID\tALBUM_ID\tPATH\tDURATION\tTAGS"
    tags = ("happy", "sad", "dark")
    rows = []
    for k in range(18):
        number = 786434 + k
        of_track = [
            f"mood/theme---{tag}" for j, tag in enumerate(tags) if (k + j) % 3 == 0 or (k + j) % 4 == 1
        ]
        about = [
            f"track_0{number}",
            f"artist_{k // 3:06d}",
            "album_092222",
            f"{number % 100:02d}/{number}.mp3",
            "1.6",
        ]
        rows.append("\t".join([*about, *of_track]))
        name = f"{number}.low.mp3" if k == 3 else f"{number}.mp3"
        write_sound(folder / f"audio/{number % 100:02d}/{name}", k)
    rows.append(
        "track_0009999\tartist_000099\talbum_1\t99/9999.mp3\t200.1\tmood/theme---happy\tmood/theme---sad"
    )
    write_lines(folder / "data/autotagging_moodtheme.tsv", [head, *rows])
    for part, chosen in {
        "train": [*rows[:12], rows[18]],
        "validation": rows[12:15],
        "test": rows[15:18],
    }.items():
        write_lines(folder / f"data/splits/split-0/autotagging_moodtheme-{part}.tsv", [head, *chosen])
    return folder


def write_soundtracks2(folder: Path, clips: int = 12) -> Path:
    """Set2/set2/, as some copies unpack, with headings of the second set, and clips of Set 1 beside them."""
    names = "Number,Valence,Energy,Tension,Anger,Fear,Happy,Sad,Tender,Beauty,Liking,TARGET,Soundtrack,Link"
    rng = np.random.default_rng(3)
    rows = [
        f"{number:03d},{','.join(f'{x:.2f}' for x in rng.uniform(1, 8.9, 10))},FEAR,A{number // 3},{number}"
        for number in (*range(1, clips), 95)
    ]
    write_lines(folder / "mean_ratings_set2.csv", [names, *rows], end="\r\n")
    for number in (*range(1, clips), 95):
        write_sound(folder / f"Set2/set2/{number:03d}.mp3", 10 if number == 95 else number)
        write_sound(folder / f"Set1/{number:03d}.mp3", 500 + number)
        (folder / f"Set2/set2/._{number:03d}.mp3").write_bytes(b"\0\5\x16\7")
    return folder
