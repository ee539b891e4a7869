"""Music from cues: chords, bass, lead, pulse, clusters and texture, each shaped by the cues it makes audible.

A cue has more than one trace in the sound, as in film music: minor passages are also lower and darker, atonal
ones leap through the registers, dissonant ones have high clusters over beating chords.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from rmer.data.audio.decoders import SAMPLE_RATE, FloatArray
from rmer.data.demo.design import CUES, Cues, Palette

MAJOR = np.array([0, 2, 4, 5, 7, 9, 11])
MINOR = np.array([0, 2, 3, 5, 7, 8, 10])
PROGRESSIONS = ((0, 3, 4, 0), (0, 4, 3, 0), (0, 3, 0, 4))  # degrees whose triads are all major or all minor
SLOTS = 16  # to a bar of four beats
STRENGTH = np.tile([1.0, 0.0, 0.25, 0.0], 4) + np.eye(1, SLOTS)[0]
HARMONICS = 6
QUIETEST = 0.03  # gain of a note that is still worth computing
LOWER_IN_MINOR = 10  # semitones
CLUSTER = (88, 89, 90, 91, 94)  # MIDI pitches


@dataclass(frozen=True)
class Note:
    """One note: seconds, MIDI pitch (fractions are allowed), amplitude."""

    onset: float
    duration: float
    pitch: float
    gain: float


def synthesise(values: FloatArray, palette: Palette, seconds: float, rng: np.random.Generator) -> FloatArray:
    """Return one clip, float32 [samples] at 22 050 Hz, from its cues [8] in order of CUES."""
    cues = Cues(**dict(zip(CUES, map(float, values), strict=True)), palette=palette)
    samples = round(seconds * SAMPLE_RATE)
    grid = _bent_grid(cues, seconds, rng)
    sound = np.zeros(samples, np.float32)
    for note in _accompaniment(cues, grid, rng) + _lead(cues, grid, rng):
        _add(sound, note.onset, _tone(note, cues))
    for onset in grid[:, ::4].ravel().tolist():
        _add(sound, onset, _knock(cues, rng))
    sound = _reverberate(sound, palette.room, rng) + (1 - cues.melody) * _texture(cues, samples, rng)
    fade = np.minimum(1, np.minimum(np.arange(samples), np.arange(samples)[::-1]) / (0.05 * SAMPLE_RATE))
    sound *= fade
    return np.asarray(0.8 * sound / np.abs(sound).max(), np.float32)


def _bent_grid(cues: Cues, seconds: float, rng: np.random.Generator) -> FloatArray:
    """Return the time of every slot, [bars, 16]: even when stable, else with rubato and jitter."""
    freedom = 1 - cues.rhythm_stability
    bars = 2 + int(1.6 * seconds / (4 * cues.beat))  # more than enough, as rubato may hurry
    steps = cues.beat / 4 * np.exp(0.45 * freedom * np.repeat(rng.normal(0, 1, bars * 4), 4))
    onsets = np.cumsum(steps) - steps[0] + rng.normal(0, 0.3 * freedom * cues.beat, bars * SLOTS)
    grid = np.maximum(onsets, 0).reshape(bars, SLOTS)
    return np.asarray(grid[grid[:, 0] < seconds])


def _accompaniment(cues: Cues, grid: FloatArray, rng: np.random.Generator) -> list[Note]:
    """Chords and bass; their rhythm tells complexity, their tones mode, dissonance and atonality."""
    palette, notes = cues.palette, []
    progression = PROGRESSIONS[rng.integers(len(PROGRESSIONS))]
    phase, pattern = rng.uniform(), _pattern(cues, rng)
    for bar, times in enumerate(grid):
        if rng.uniform() < cues.rhythm_complexity:
            pattern = _pattern(cues, rng)
        scale = _scale(cues, bar, phase)
        degree = progression[bar % len(progression)]
        tonic = 55 + palette.key + palette.register - LOWER_IN_MINOR * (cues.mode - 0.5)
        tones = [tonic + scale[(degree + third) % 7] for third in (0, 2, 4)]
        hits = np.flatnonzero(pattern)
        for slot, gap in zip(hits, np.diff([*hits, SLOTS]), strict=True):
            length = _length(cues, gap)
            for tone in tones:
                pitch = _astray(tone, cues, rng)
                notes.append(Note(times[slot], length, pitch, 0.30))
                notes.append(Note(times[slot], length, pitch + 1.0, 0.42 * cues.dissonance**1.5))
                notes.append(Note(times[slot], length, pitch + 0.4 * cues.dissonance, 0.25 * cues.dissonance))
            if slot == hits[0]:
                notes += [
                    Note(times[slot], 3 * cues.beat, tone + palette.register, 0.25 * cues.dissonance)
                    for tone in CLUSTER
                ]
            if STRENGTH[slot] >= 1:
                notes.append(Note(times[slot], length, _astray(tones[0] - 12, cues, rng), 0.5))
    return [note for note in notes if note.gain > QUIETEST]


def _lead(cues: Cues, grid: FloatArray, rng: np.random.Generator) -> list[Note]:
    """A line in steps of the scale, loud where there is to be a melody."""
    palette, notes, place, phase = cues.palette, [], int(rng.integers(0, 7)), rng.uniform()
    for bar, times in enumerate(grid):
        scale = _scale(cues, bar, phase)
        slots = np.arange(0, SLOTS, 2 if cues.tempo < 0.5 else 4)
        for slot, gap in zip(slots, np.diff([*slots, SLOTS]), strict=True):
            place = int(np.clip(place + rng.choice([-2, -1, -1, 0, 1, 1, 2]), 0, 10))
            tone = 72 + palette.key + palette.register + scale[place % 7] + 12 * (place // 7)
            notes.append(
                Note(times[slot], _length(cues, gap), _astray(tone, cues, rng), 0.9 * cues.melody**1.3)
            )
    return [note for note in notes if note.gain > QUIETEST]


def _pattern(cues: Cues, rng: np.random.Generator) -> npt.NDArray[np.bool_]:
    """Return which slots of a bar are struck: strong beats when simple, many off-beats when complex."""
    complexity = cues.rhythm_complexity
    chance = (1 - complexity) * np.clip(STRENGTH - 0.3, 0, 1) + complexity * (0.75 - 0.35 * (STRENGTH > 0.5))
    struck = rng.uniform(0, 1, SLOTS) < chance
    struck[0] |= complexity < 0.6 or not struck.any()
    return np.asarray(struck)


def _scale(cues: Cues, bar: int, phase: float) -> npt.NDArray[np.int64]:
    """Return the scale of a bar; over the bars the share of minor ones is the cue."""
    return MINOR if (phase + bar * 0.618034) % 1 < cues.mode else MAJOR


def _astray(tone: float, cues: Cues, rng: np.random.Generator) -> float:
    """Return the tone, or with the cue's probability any pitch around it."""
    stray, leap = rng.uniform(), rng.integers(-16, 17)
    return float(tone + leap) if stray < cues.atonality else float(tone)


def _length(cues: Cues, gap: int) -> float:
    """Return the seconds that a note sounds when the next is ``gap`` slots away: all of them when legato."""
    return max(0.05, (1.1 - 0.95 * cues.articulation) * gap * cues.beat / 4)


def _tone(note: Note, cues: Cues) -> FloatArray:
    """Return a note of the palette's timbre, [samples]; harmonics by Chebyshev's recurrence."""
    attack, release = 0.004 + 0.10 * (1 - cues.articulation), 0.03
    index = np.arange(int((note.duration + release) * SAMPLE_RATE))
    time = index.astype(np.float32) / SAMPLE_RATE
    frequency = 440 * 2 ** ((note.pitch - 69) / 12)
    angle = (2 * np.pi * (index * (frequency / SAMPLE_RATE) % 1)).astype(np.float32)
    twice_cosine, before, current = 2 * np.cos(angle), np.zeros_like(angle), np.sin(angle)
    roll_off = cues.palette.roll_off + 1.0 * (cues.mode - 0.5) - 0.4 * (cues.articulation - 0.5)
    wave = current.copy()
    for harmonic in range(2, min(HARMONICS, int(0.45 * SAMPLE_RATE / frequency)) + 1):
        following = twice_cosine * current
        following -= before
        before, current = current, following
        evenness = 1 - cues.palette.odd if harmonic % 2 == 0 else 1.0
        wave += (evenness * harmonic**-roll_off) * current
    envelope = np.exp(time * -(0.8 + 4 * cues.articulation))
    rise, fall = int(attack * SAMPLE_RATE), int(release * SAMPLE_RATE)
    envelope[:rise] *= time[:rise] / attack
    envelope[-fall:] *= 1 - time[:fall] / release
    return np.asarray(note.gain * envelope * wave)


def _knock(cues: Cues, rng: np.random.Generator) -> FloatArray:
    """Return one stroke of the pulse, [samples]; there is none where the rhythm is free."""
    time = np.arange(int(0.06 * SAMPLE_RATE)) / SAMPLE_RATE
    return np.asarray(1.2 * cues.rhythm_stability**1.5 * np.exp(-time * 70) * rng.normal(0, 1, len(time)))


def _texture(cues: Cues, samples: int, rng: np.random.Generator) -> FloatArray:
    """Return a slowly heaving band of noise, [samples]."""
    spectrum = np.fft.rfft(rng.standard_normal(samples, np.float32))
    frequencies = np.fft.rfftfreq(samples, 1 / SAMPLE_RATE)
    spectrum *= np.exp(-0.5 * (np.log2(np.maximum(frequencies, 1) / cues.palette.hiss) / 0.7) ** 2)
    noise = np.fft.irfft(spectrum, samples)
    knots = np.linspace(0, samples, 8)
    heave = np.interp(np.arange(samples), knots, rng.uniform(0.5, 1.0, len(knots)))
    return np.asarray(0.5 * heave * noise / noise.std())


def _reverberate(sound: FloatArray, room: float, rng: np.random.Generator) -> FloatArray:
    """Return the sound in a room with this reverberation time in seconds."""
    time = np.arange(int(room * SAMPLE_RATE)) / SAMPLE_RATE
    tail = (rng.normal(0, 1, len(time)) * np.exp(-6.9 * time / room)).astype(np.float32)
    size = 1 << (len(sound) + len(tail) - 1).bit_length()
    wet = np.fft.irfft(np.fft.rfft(sound, size) * np.fft.rfft(tail, size), size)[: len(sound)]
    return np.asarray(sound + 0.25 * wet / np.sqrt(np.square(tail).sum()))


def _add(sound: FloatArray, onset: float, event: FloatArray) -> None:
    start = int(onset * SAMPLE_RATE)
    end = min(start + len(event), len(sound))
    if start < end:
        sound[start:end] += event[: end - start]
