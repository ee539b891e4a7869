"""What each clip of the demo data is to sound like and how it is rated: concepts drawn, emotions derived.

Emotions follow from concepts and tempo by a fixed linear map in the spirit of the literature on musical cues
(Gabrielsson & Lindstrom 2010; Eerola, Friberg & Bresin 2013): minor mode lowers valence and raises sadness,
dissonance and atonality raise tension and fear, staccato and speed raise energy, legato raises tenderness.
The map is documented, with what it can be learnt to, in docs/demo-music.md.
"""

from __future__ import annotations

from dataclasses import dataclass, fields

import numpy as np
import numpy.typing as npt

from rmer.data.audio.decoders import FloatArray

# Rows in order of CUES, columns in order of EMOTIONS; rating points over a cue's whole range.
EMOTION_CENTRES = np.array([5.0, 5.0, 4.8, 4.2, 4.2, 4.4, 4.4, 4.4])
EMOTION_MAP = 2.0 * np.array(
    [
        # valence energy tension anger fear happy  sad  tender
        [+1.2, +0.0, -0.8, -0.5, -1.4, +0.8, +0.3, +1.8],  # melody
        [+0.3, +2.4, +0.5, +1.0, +0.0, +1.0, -1.6, -2.0],  # articulation
        [+0.0, +1.2, +0.6, +0.7, +0.3, +0.2, -0.7, -0.8],  # rhythm_complexity
        [+0.9, +1.3, -1.2, +0.3, -1.4, +1.0, -0.3, +0.0],  # rhythm_stability
        [-2.0, +0.6, +2.4, +2.0, +1.4, -1.0, -0.3, -1.5],  # dissonance
        [-1.1, +0.2, +1.7, +0.8, +2.0, -1.0, -0.5, -1.0],  # atonality
        [-2.1, -0.4, +0.8, +0.8, +0.6, -2.2, +2.6, -0.2],  # mode
        [+0.2, +1.2, +0.4, +0.5, +0.2, +0.6, -0.9, -0.7],  # tempo
    ]
)
RATING_LOW, RATING_HIGH = 1.0, 9.0
RATERS = 6  # a mean rating is a multiple of 1 / RATERS


@dataclass(frozen=True)
class Palette:
    """How all clips of one album sound: timbre, register, key, room."""

    name: str
    roll_off: float  # harmonic h has the amplitude h ** -roll_off
    odd: float  # 1: even harmonics are silent
    register: int  # semitones
    key: int  # semitones
    room: float  # reverberation time in seconds
    hiss: float  # Hz, centre of the texture's band


@dataclass(frozen=True)
class Cues:
    """The cues of one clip, each in 0-1, and the album's palette."""

    melody: float  # 1 a clear, singable line; 0 texture
    articulation: float  # 1 staccato; 0 legato
    rhythm_complexity: float  # 1 strokes on all slots off the beat; 0 on the beat alone
    rhythm_stability: float  # 1 even, with a pulse; 0 free
    dissonance: float  # 1 a cluster; 0 pure triads
    atonality: float  # 1 pitches that leap and slide; 0 one key
    mode: float  # 1 minor; 0 major
    tempo: float  # 1 fast; 0 slow: heard and felt, but not one of the annotated concepts
    palette: Palette

    @property
    def beat(self) -> float:
        """Seconds of a beat: 50 to 200 beats a minute."""
        return 60 / (50 + 150 * self.tempo)


CUES = tuple(field.name for field in fields(Cues) if field.name != "palette")


@dataclass(frozen=True)
class Design:
    """The data set before synthesis: cues [clips, 8] in 0-1, album, track and start second of each clip."""

    cues: FloatArray
    palettes: tuple[Palette, ...]
    album: npt.NDArray[np.int64]
    track: npt.NDArray[np.int64]
    start: npt.NDArray[np.int64]


def draw_design(clips: int, seed: int) -> Design:
    """Draw cues, albums and tracks of ``clips`` clips."""
    rng = np.random.default_rng([seed, 0])
    albums = int(2.4 * np.sqrt(clips))  # 45 albums at 360 clips, as in Soundtracks Set 1
    extra = rng.choice(albums, clips - albums, p=rng.dirichlet(np.full(albums, 2.0)))
    album = rng.permutation(np.concatenate([np.arange(albums), extra]))
    manner = rng.uniform(0, 1, (albums, len(CUES)))  # an album's own manner colours its clips
    cues = 0.8 * rng.beta(0.6, 0.6, (clips, len(CUES))) + 0.2 * manner[album]
    palettes = tuple(_draw_palette(number, rng) for number in range(albums))
    return Design(cues, palettes, album, rng.integers(1, 13, clips), rng.integers(0, 240, clips))


def rate_emotions(cues: FloatArray, noise: float, rng: np.random.Generator) -> FloatArray:
    """Return mean ratings [clips, 8] on the scale 1-9: linear in the cues plus noise, quantised."""
    ratings = EMOTION_CENTRES + (cues - 0.5) @ EMOTION_MAP + rng.normal(0, 1, (len(cues), 8)) * noise
    return np.asarray(np.clip(np.round(ratings * RATERS) / RATERS, RATING_LOW, RATING_HIGH))


def rate_concepts(cues: FloatArray, noise: float, rng: np.random.Generator) -> FloatArray:
    """Return concept values [clips, 7] on the scale 1-10: the cues themselves, plus noise."""
    values = 1 + 9 * cues[:, :7] + rng.normal(0, 1, (len(cues), 7)) * noise
    return np.asarray(np.clip(values, 1, 10))


def _draw_palette(number: int, rng: np.random.Generator) -> Palette:
    return Palette(
        name=_album_name(number),
        roll_off=rng.uniform(1.0, 1.6),
        odd=rng.uniform(0, 1),
        register=int(rng.integers(-2, 3)),
        key=int(rng.choice([0, 2, 5])),
        room=rng.uniform(0.15, 0.6),
        hiss=rng.uniform(1400, 2200),
    )


def _album_name(number: int) -> str:
    """Return a name that no other album has (there are at most 75 of them)."""
    first = ("Silent", "Golden", "Distant", "Broken", "Northern", "Hidden", "Burning", "Paper", "Glass")
    second = ("Harbour", "Garden", "Winter", "Station", "Letters", "Valley", "Machine", "Summer", "Island")
    return f"{first[number % 9]} {second[(number // 9 + number) % 9]}"
