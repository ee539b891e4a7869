"""Write the demo data in the layout of the real ones: clips, ratings, track list, Mid-level annotations."""

from __future__ import annotations

import csv
import io
import json
import os
import uuid
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from functools import partial
from pathlib import Path

import numpy as np
import soundfile

from rmer.data.audio.decoders import SAMPLE_RATE
from rmer.data.dataset import CONCEPTS, EMOTIONS
from rmer.data.demo.design import Design, draw_design, rate_concepts, rate_emotions
from rmer.data.demo.synthesis import synthesise
from rmer.data.tables.midlevel import ANNOTATIONS_FILE, ANNOTATIONS_FOLDER, METADATA_FILE
from rmer.data.tables.ratings import RATINGS_FILE
from rmer.data.tables.text_tables import clip_name
from rmer.data.tables.tracklist import TRACKLIST_FILE
from rmer.errors import UserError
from rmer.progress import progress

AUDIO_FOLDER = "Set1"
MANIFEST_FILE = "demo.json"
VERSION = 3  # raise it when the same parameters give other files
CONCEPT_NOISE = 0.5  # of the noise of emotions
_RATINGS, _SONGS, _AUDIO = 1, 2, 3  # random streams; the design has stream 0


def write_demo_data(
    folder: Path, *, clips: int = 40, seconds: float = 15.0, seed: int = 42, noise: float = 0.3
) -> Path:
    """Write a synthetic data set into ``folder`` and return it.

    The same parameters give the same files, byte for byte on one machine. Clips that an interrupted run left
    are kept; a demo data set of other parameters is replaced. ``noise`` is the standard deviation of the
    emotion ratings around what the music expresses, in points of the 1-9 scale. Raises UserError where the
    folder holds anything else.
    """
    folder = Path(folder)
    _make_room(folder, {"version": VERSION, "clips": clips, "seconds": seconds, "seed": seed, "noise": noise})
    design = draw_design(clips, seed)
    _write_clips(folder / AUDIO_FOLDER, design, seconds, seed)
    rng = np.random.default_rng([seed, _RATINGS])
    emotions = rate_emotions(design.cues, noise, rng)
    concepts = rate_concepts(design.cues, CONCEPT_NOISE * noise, rng)
    leading = [EMOTIONS[number] for number in (emotions - emotions.mean(axis=0)).argmax(axis=1)]
    ratings = [
        [clip_name(number), *(f"{rating:.2f}" for rating in row), emotion.upper()]
        for number, (row, emotion) in enumerate(zip(emotions, leading, strict=True), start=1)
    ]
    header = ["number", *EMOTIONS, "TARGET"]
    # The published ratings file starts with a byte order mark and has Windows line ends: so has this.
    write_table(folder / RATINGS_FILE, [header, *ratings], end="\r\n", encoding="utf-8-sig")
    write_table(folder / TRACKLIST_FILE, _tracklist(design, leading, seconds))
    _write_midlevel(folder / ANNOTATIONS_FOLDER, design, concepts, np.random.default_rng([seed, _SONGS]))
    return folder


def _make_room(folder: Path, manifest: dict[str, int | float]) -> None:
    """Clear away the clips of another demo data set and note what this one is."""
    path = folder / MANIFEST_FILE
    text = json.dumps(manifest, indent=2) + "\n"
    if path.is_file() and path.read_bytes() == text.encode():
        return
    if not path.is_file() and folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise UserError("is not empty and not demo data", where=str(folder), mend="Choose another folder")
    (folder / AUDIO_FOLDER).mkdir(parents=True, exist_ok=True)
    # The old manifest goes last, so that clips can never be taken for those of the new one.
    for clip in (folder / AUDIO_FOLDER).glob("*.mp3"):
        clip.unlink()
    _write_bytes(path, text.encode())


def _write_clips(folder: Path, design: Design, seconds: float, seed: int) -> None:
    """Synthesise the clips that are not there yet, in threads (numpy and the encoder release the lock)."""
    folder.mkdir(exist_ok=True)
    todo = [row for row in range(len(design.cues)) if not (folder / f"{clip_name(row + 1)}.mp3").is_file()]
    write = partial(_write_clip, folder, design, seconds, seed)
    with progress("Demo clips", len(todo), "clip") as bar, ThreadPoolExecutor(os.cpu_count()) as pool:
        try:
            for future in as_completed([pool.submit(write, row) for row in todo]):
                future.result()
                bar.update()
        except BaseException:  # also Ctrl-C: do not synthesise the rest before stopping
            pool.shutdown(cancel_futures=True)
            raise


def _write_clip(folder: Path, design: Design, seconds: float, seed: int, row: int) -> None:
    rng = np.random.default_rng([seed, _AUDIO, row])
    samples = synthesise(design.cues[row], design.palettes[design.album[row]], seconds, rng)
    content = io.BytesIO()
    soundfile.write(content, samples, SAMPLE_RATE, format="MP3", subtype="MPEG_LAYER_III")
    _write_bytes(folder / f"{clip_name(row + 1)}.mp3", content.getvalue())


def _tracklist(design: Design, leading: Sequence[str], seconds: float) -> list[list[str]]:
    rows = [["Nro", "Emotion", "Album name", "Track", "Min:Sec"]]
    for row, emotion in enumerate(leading):
        start, album = int(design.start[row]), design.palettes[design.album[row]].name
        time = f"{_clock(start)}-{_clock(start + max(1, round(seconds)))}"
        rows.append([clip_name(row + 1), emotion.capitalize(), album, str(design.track[row]), time])
    return rows


def _write_midlevel(folder: Path, design: Design, concepts: np.ndarray, rng: np.random.Generator) -> None:
    """Write both Mid-level tables: the clips under new ids, among as many songs of other sources."""
    clips = len(concepts)
    songs = rng.permutation(2 * clips) + 1
    metadata, annotations = {}, {}
    for row, song in enumerate(songs.tolist()):
        if row < clips:
            album, values = design.palettes[design.album[row]].name, concepts[row]
            about = ["soundtracks", str(row + 1), f"Cue {row + 1}; excerpt", "rmer", album]
        else:
            source, values = ("jamendo", "magnatune")[row % 2], rng.uniform(1, 10, len(CONCEPTS))
            about = [source, f"{source[:3]}_{10_000 + song}", f"Song {song}", "Anonymous", ""]
        metadata[song] = [str(song), *about]
        annotations[song] = [str(song), *(f"{value:.4f}" for value in values)]
    header = ["song id", "Source", "ID at file source", "Song title", "Artist", "Album"]
    folder.mkdir(exist_ok=True)
    for name, separator, head, rows in (
        (METADATA_FILE, ";", header, metadata),
        (ANNOTATIONS_FILE, ",", ["song_id", *CONCEPTS], annotations),
    ):
        write_table(folder / name, [head, *(rows[song] for song in sorted(rows))], separator=separator)


def _clock(seconds: int) -> str:
    return f"{seconds // 60:02d}:{seconds % 60:02d}"


def write_table(
    path: Path,
    rows: Iterable[Sequence[str]],
    *,
    separator: str = ",",
    end: str = "\n",
    encoding: str = "utf-8",
) -> None:
    """Write rows to a table file, all of them or none."""
    text = io.StringIO(newline="")
    csv.writer(text, delimiter=separator, lineterminator=end).writerows(rows)
    _write_bytes(path, text.getvalue().encode(encoding))


def _write_bytes(path: Path, content: bytes) -> None:
    """Write a file that appears whole or not at all; one that is right already is left alone."""
    if path.is_file() and path.read_bytes() == content:
        return
    part = path.with_name(f".{path.name}.{uuid.uuid4().hex[:8]}.part")
    try:
        part.write_bytes(content)
        part.replace(path)
    finally:
        part.unlink(missing_ok=True)
