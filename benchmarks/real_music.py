"""A data set of real recordings whose ratings are computed, in the layout of the Soundtracks data.

Nobody rated these clips: concepts are what :mod:`rmer.systems.music_features` finds in a clip, emotions a
fixed mixture of them. What attacks do to models of real music can be measured with it; not what music says.

    python -m benchmarks.real_music /usr/share/games/wesnoth/1.16/data/core/music real

A recording is an album, so that no part of a split hears what another has heard.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

import click
import numpy as np
import soundfile
import torch
from tqdm import tqdm

from rmer.data.audio.decoders import SAMPLE_RATE, decode
from rmer.data.audio.frontend import audio2spect
from rmer.data.dataset import CONCEPTS, EMOTIONS
from rmer.data.demo.demo_files import AUDIO_FOLDER, write_table
from rmer.data.readers.audio_files import AUDIO_EXTENSIONS
from rmer.data.tables.midlevel import ANNOTATIONS_FILE, ANNOTATIONS_FOLDER, METADATA_FILE
from rmer.data.tables.ratings import RATINGS_FILE
from rmer.data.tables.text_tables import clip_name
from rmer.data.tables.tracklist import TRACKLIST_FILE
from rmer.systems.music_features import FEATURES, Spect2Features

QUIETEST = 0.01  # root mean square of a clip that is used, of full scale
# What each concept is made of: features and their weights in standard deviations.
OF_FEATURES = {
    "melody": {"spectral_flatness": -1.0, "bass": -0.5},
    "articulation": {"spectral_flux": 1.0, "level_variation": 0.5},
    "rhythm_complexity": {"spectral_flux": 0.7, "spectral_spread": 0.7},
    "rhythm_stability": {"level": 1.0, "level_variation": -0.7},
    "dissonance": {"roughness": 1.0, "bass": 0.5},
    "atonality": {"spectral_centroid": 1.0, "level": -0.4},
    "mode": {"brightness": -0.8, "spectral_spread": -0.4},
}
MIXING = 0.6  # standard deviation of the weight of a concept in an emotion


@click.command()
@click.argument("music", type=click.Path(exists=True, file_okay=False, path_type=Path))
@click.argument("out_dir", type=click.Path(file_okay=False, path_type=Path))
@click.option("--seconds", default=10.5, show_default=True, help="length of a clip")
@click.option("--each", default=10, show_default=True, help="most clips of a recording")
def main(music: Path, out_dir: Path, seconds: float, each: int) -> None:
    """Cut recordings of a folder into clips and compute their ratings."""
    recordings = sorted(path for path in music.rglob("*") if path.suffix.lower() in AUDIO_EXTENSIONS)
    clips, spect2features = out_dir / AUDIO_FOLDER, Spect2Features()
    clips.mkdir(parents=True, exist_ok=True)
    features, tracks = [], []
    for recording in tqdm(recordings, desc="Recordings"):
        for samples in _clips(decode(recording), round(seconds * SAMPLE_RATE), each):
            tracks.append(recording.stem)
            soundfile.write(clips / f"{clip_name(len(tracks))}.flac", samples, SAMPLE_RATE)
            with torch.no_grad():
                spectrogram = torch.from_numpy(audio2spect("torch")(samples))
                features.append(spect2features(spectrogram[None])[0].numpy())
    concepts = rate_concepts(np.array(features))
    _write_tables(out_dir, tracks, concepts, rate_emotions(concepts))
    print(f"{len(tracks)} clips of {len(recordings)} recordings in {out_dir}")


def rate_concepts(features: np.ndarray) -> np.ndarray:
    """Mix features [clips, 13] into concepts [clips, 7], which lie on the scale of 1 to 10."""
    deviations = (features - features.mean(0)) / features.std(0)
    weights = np.array([[parts.get(name, 0.0) for name in FEATURES] for parts in OF_FEATURES.values()])
    weights /= np.linalg.norm(weights, axis=1, keepdims=True)
    rated: np.ndarray = 1 + 9 / (1 + np.exp(-(deviations @ weights.T)))
    return rated


def rate_emotions(concepts: np.ndarray) -> np.ndarray:
    """Mix concepts [clips, 7] into emotions [clips, 8], which lie on the scale of 1 to 9."""
    weights = np.random.default_rng(0).normal(0, MIXING, (concepts.shape[1], len(EMOTIONS)))
    deviations = (concepts - concepts.mean(0)) / concepts.std(0)
    rated: np.ndarray = 1 + 8 / (1 + np.exp(-(deviations @ weights)))
    return rated


def _clips(samples: np.ndarray, length: int, each: int) -> Iterator[np.ndarray]:
    """Cut clips that are loud enough out of a recording, evenly spread."""
    most = len(samples) // length
    for number in range(min(most, each)):
        start = number * max(most // each, 1) * length
        clip = samples[start : start + length]
        if np.sqrt(np.square(clip).mean()) >= QUIETEST:
            yield clip


def _write_tables(folder: Path, tracks: Sequence[str], concepts: np.ndarray, emotions: np.ndarray) -> None:
    names = [clip_name(number + 1) for number in range(len(tracks))]
    ratings = zip(names, *emotions.T.round(2), strict=True)
    write_table(folder / RATINGS_FILE, [["number", *EMOTIONS], *ratings])
    write_table(folder / TRACKLIST_FILE, [["Nro", "Album name"], *zip(names, tracks, strict=True)])
    midlevel = folder / ANNOTATIONS_FOLDER
    midlevel.mkdir(exist_ok=True)
    numbers = range(1, len(tracks) + 1)
    sources = [
        ["song id", "Source", "ID at file source"],
        *((number, "soundtracks", number) for number in numbers),
    ]
    write_table(midlevel / METADATA_FILE, sources, separator=";")
    rated = zip(numbers, *concepts.T.round(4), strict=True)
    write_table(midlevel / ANNOTATIONS_FILE, [["song_id", *CONCEPTS], *rated])


if __name__ == "__main__":
    main()
