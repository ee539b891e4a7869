"""Music from cues, in layers: bass and chords, a figure, a lead, pulse and hats, held tones, texture.

Each cue has a trace of its own, in a layer or a property of notes that no other cue changes as much, so that
a short excerpt tells it whatever the album sounds like (docs/demo-music.md).
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt
import scipy.fft

from rmer.data.audio.decoders import SAMPLE_RATE, FloatArray
from rmer.data.demo.design import CUES, Cues, Palette

MAJOR = np.array([0, 2, 4, 5, 7, 9, 11])
MINOR = np.array([0, 2, 3, 5, 7, 8, 10])
PROGRESSIONS = ((0, 3, 4, 0), (0, 4, 3, 0), (0, 3, 0, 4))  # degrees whose triads are all major or all minor
SLOTS = 16  # to a bar of four beats
OFF_BEAT = np.arange(SLOTS) % 4 > 0
HARMONICS = 6
HIGHEST_HARMONIC = 0.33  # of the sampling rate: hats lie above
QUIETEST = 0.03  # gain of a note that is still worth computing
TONIC = 57  # MIDI pitch around which chords lie
LOWER_IN_MINOR = 14  # semitones
SLIDE = 8  # semitones in the length of a note
CLUSTER = (103, 104, 105, 106, 107, 108)  # MIDI pitches, above all chords
PEDAL = 33  # MIDI pitch
THIRDS = ((86, 4), (45, 3))  # the held major and minor third: MIDI pitch of the lower tone, semitones
BLOCK = 256  # samples
FLOOR = 0.002  # amplitude of the noise of the recording: no band is so quiet that 16 bit are too coarse


@dataclass(frozen=True)
class Note:
    """One note: seconds, MIDI pitch (fractions are allowed), amplitude, semitones that it slides by."""

    onset: float
    duration: float
    pitch: float
    gain: float
    slide: float = 0.0


def synthesise(
    values: FloatArray, palette: Palette, seconds: float, rng: np.random.Generator, *, floor: float = FLOOR
) -> FloatArray:
    """Return one clip, float32 [samples] at 22 050 Hz, from its cues [8] in order of CUES.

    ``floor`` is the amplitude of the noise of the recording.
    """
    cues = Cues(**dict(zip(CUES, map(float, values), strict=True)), palette=palette)
    samples = round(seconds * SAMPLE_RATE)
    grid = _bent_grid(cues, seconds, rng)
    sound = np.zeros(samples)
    for note in _accompaniment(cues, grid, rng) + _lead(cues, grid, rng):
        if note.gain > QUIETEST:
            _add(sound, note.onset, _tone(note, cues))
    for onset in grid[:, ::2].ravel().tolist():
        _add(sound, onset, _knock(cues, rng))
    for onset in grid[_hats(cues, grid, rng)].tolist():
        _add(sound, onset, _hat(cues, rng))
    sound = _reverberate(sound, palette.room, rng) + _held(cues, samples) + _texture(cues, samples, rng)
    fade = np.minimum(1, np.minimum(np.arange(samples), np.arange(samples)[::-1]) / (0.05 * SAMPLE_RATE))
    sound *= 0.8 * fade / np.abs(sound).max()
    return np.asarray(sound + rng.normal(0, floor, samples), np.float32)


def _bent_grid(cues: Cues, seconds: float, rng: np.random.Generator) -> FloatArray:
    """Return the time of every slot, [bars, 16]: even when stable, else with rubato and jitter."""
    freedom = 1 - cues.rhythm_stability
    bars = 2 + int(1.6 * seconds / (4 * cues.beat))  # more than enough, as rubato may hurry
    steps = cues.beat / 4 * np.exp(0.3 * freedom * np.repeat(rng.normal(0, 1, bars * 4), 4))
    onsets = np.cumsum(steps) - steps[0] + rng.normal(0, 0.2 * freedom * cues.beat, bars * SLOTS)
    grid = np.maximum(onsets, 0).reshape(bars, SLOTS)
    return np.asarray(grid[grid[:, 0] < seconds])


def _accompaniment(cues: Cues, grid: FloatArray, rng: np.random.Generator) -> list[Note]:
    """Bass and chords on strong beats, and a figure of the chord's tones that tells tempo."""
    notes, progression, phase = [], PROGRESSIONS[rng.integers(len(PROGRESSIONS))], rng.uniform()
    for bar, times in enumerate(grid):
        scale, degree = _scale(cues, bar, phase), progression[bar % len(progression)]
        tones = [_tonic(cues) + scale[(degree + third) % 7] for third in (0, 2, 4)]
        for slot in (0, SLOTS // 2):
            length = _length(cues, SLOTS // 2)
            for tone, gain in zip([tones[0] - 12, *tones], (0.5, 0.25, 0.25, 0.25), strict=True):
                notes.append(_astray(Note(times[slot], length, tone, gain), cues, rng))
        for number, slot in enumerate(range(0, SLOTS, 2)):
            tone = tones[(0, 2, 1, 2)[number % 4]] + 12
            notes.append(_astray(Note(times[slot], _length(cues, 2), tone, 0.5), cues, rng))
    return notes


def _lead(cues: Cues, grid: FloatArray, rng: np.random.Generator) -> list[Note]:
    """A line in steps of the scale, loud where there is to be a melody."""
    notes, place, phase = [], int(rng.integers(0, 7)), rng.uniform()
    for bar, times in enumerate(grid):
        scale = _scale(cues, bar, phase)
        for slot in range(0, SLOTS, 2):
            place = int(np.clip(place + rng.choice([-2, -1, -1, 0, 1, 1, 2]), 0, 10))
            tone = 15 + _tonic(cues) + scale[place % 7] + 12 * (place // 7)
            note = Note(times[slot], _length(cues, 2), tone, 0.9 * cues.melody**1.3)
            notes.append(_astray(note, cues, rng))
    return notes


def _held(cues: Cues, samples: int) -> FloatArray:
    """Return what sounds throughout, [samples], in pure tones.

    A cluster if dissonant, the tonic as a pedal if there is one key, and a third: major and high, or minor
    and low.
    """
    key = cues.palette.key + cues.palette.register
    tones = [(PEDAL + key, 0.6 * (1 - cues.atonality))]
    tones += [(pitch, 0.3 * cues.dissonance) for pitch in CLUSTER]
    for (lower, step), gain in zip(THIRDS, (1 - cues.mode, cues.mode), strict=True):
        tones += [(lower + key, 0.3 * gain), (lower + key + step, 0.3 * gain)]
    pitches, gains = np.transpose(tones)
    angles = 2 * np.pi * np.array([_hertz(pitch) for pitch in pitches]) / SAMPLE_RATE
    # The sine of a sum: few sines of where blocks start and of what is within one, not one of each sample.
    coarse = np.multiply.outer(np.arange(0, samples, BLOCK), angles)
    fine = np.multiply.outer(angles, np.arange(BLOCK))
    sound = np.einsum("it,tj->ij", gains * np.sin(coarse), np.cos(fine))
    sound += np.einsum("it,tj->ij", gains * np.cos(coarse), np.sin(fine))
    return np.asarray(sound.ravel()[:samples])


def _hertz(pitch: float) -> float:
    """Return the frequency of a MIDI pitch."""
    return float(440 * 2 ** ((pitch - 69) / 12))


def _hats(cues: Cues, grid: FloatArray, rng: np.random.Generator) -> npt.NDArray[np.bool_]:
    """Return which slots have a stroke of the hats, [bars, 16]: of those off the beat, the cue's share."""
    places = rng.permuted(np.tile(np.arange(SLOTS), (len(grid), 1)), axis=1).argsort(axis=1)
    rank = (places + 0.5) / SLOTS
    return np.asarray((rank < cues.rhythm_complexity) & OFF_BEAT)


def _tonic(cues: Cues) -> float:
    """Return the MIDI pitch of the tonic: lower in minor."""
    return TONIC + cues.palette.key + cues.palette.register - LOWER_IN_MINOR * (cues.mode - 0.5)


def _scale(cues: Cues, bar: int, phase: float) -> npt.NDArray[np.int64]:
    """Return the scale of a bar; over the bars the share of minor ones is the cue."""
    return MINOR if (phase + bar * 0.618034) % 1 < cues.mode else MAJOR


def _astray(note: Note, cues: Cues, rng: np.random.Generator) -> Note:
    """Return the note sliding away from its pitch, and with the cue's probability from any around it."""
    stray, leap, direction = rng.uniform(), rng.integers(-16, 17), rng.choice([-1, 1])
    pitch = note.pitch + float(leap) if stray < cues.atonality else note.pitch
    return replace(note, pitch=pitch, slide=SLIDE * direction * cues.atonality)


def _length(cues: Cues, gap: int) -> float:
    """Return the seconds that a note sounds when the next is ``gap`` slots away: all of them when legato."""
    return max(0.05, (1.1 - 0.95 * cues.articulation) * gap * cues.beat / 4)


def _tone(note: Note, cues: Cues) -> FloatArray:
    """Return a note of the palette's timbre, [samples]; harmonics by Chebyshev's recurrence."""
    attack, release = 0.015 + 0.10 * (1 - cues.articulation), 0.03
    index = np.arange(int((note.duration + release) * SAMPLE_RATE))
    time = index.astype(np.float32) / SAMPLE_RATE
    frequency = _hertz(note.pitch)
    turns = index * (frequency / SAMPLE_RATE)
    if note.slide:  # the integral of the frequency, which grows exponentially
        rate = np.log(2) * note.slide / 12 / note.duration
        turns = frequency * np.expm1(rate * index / SAMPLE_RATE) / rate
    angle = (2 * np.pi * (turns - np.floor(turns))).astype(np.float32)
    twice_cosine, before, current = 2 * np.cos(angle), np.zeros_like(angle), np.sin(angle)
    roll_off = cues.palette.roll_off + 2.0 * (cues.mode - 0.5)
    wave = current.copy()
    for harmonic in range(2, min(HARMONICS, int(HIGHEST_HARMONIC * SAMPLE_RATE / frequency)) + 1):
        following = twice_cosine * current
        following -= before
        before, current = current, following
        evenness = 1 - cues.palette.odd if harmonic % 2 == 0 else 1.0
        wave += (evenness * harmonic**-roll_off) * current
    envelope = np.exp(time * -(0.2 + 12 * cues.articulation))
    rise, fall = int(attack * SAMPLE_RATE), int(release * SAMPLE_RATE)
    envelope[:rise] *= time[:rise] / attack
    envelope[-fall:] *= 1 - time[:fall] / release
    return np.asarray(note.gain * envelope * wave)


def _knock(cues: Cues, rng: np.random.Generator) -> FloatArray:
    """Return one stroke of the pulse, [samples]; there is none where the rhythm is free."""
    time = np.arange(int(0.06 * SAMPLE_RATE)) / SAMPLE_RATE
    noise = np.convolve(rng.normal(0, 1, len(time) + 11), np.full(12, 12**-0.5), "valid")  # below 2 kHz
    return np.asarray(1.5 * cues.rhythm_stability * np.exp(-time * 60) * noise)


def _hat(cues: Cues, rng: np.random.Generator) -> FloatArray:
    """Return one stroke of the hats, [samples]: noise whose power lies above 5 kHz."""
    time = np.arange(int(0.04 * SAMPLE_RATE)) / SAMPLE_RATE
    noise = np.diff(rng.normal(0, 1, len(time) + 3), 3)  # a threefold difference passes high frequencies
    return np.asarray((0.2 + cues.rhythm_complexity) * np.exp(-time * 60) * noise)


def _texture(cues: Cues, samples: int, rng: np.random.Generator) -> FloatArray:
    """Return a slowly heaving band of noise, [samples]; there is none where there is a melody."""
    size = scipy.fft.next_fast_len(samples, real=True)
    spectrum = scipy.fft.rfft(rng.standard_normal(size, np.float32))
    frequencies = scipy.fft.rfftfreq(size, 1 / SAMPLE_RATE)
    spectrum *= np.exp(-0.5 * (np.log2(np.maximum(frequencies, 1) / cues.palette.hiss) / 0.35) ** 2)
    noise = scipy.fft.irfft(spectrum, size)[:samples]
    knots = np.linspace(0, samples, 8)
    heave = np.interp(np.arange(samples), knots, rng.uniform(0.5, 1.0, len(knots)))
    return np.asarray(0.5 * (1 - cues.melody) * heave * noise / noise.std())


def _reverberate(sound: FloatArray, room: float, rng: np.random.Generator) -> FloatArray:
    """Return the sound in a room with this reverberation time in seconds."""
    time = np.arange(int(room * SAMPLE_RATE)) / SAMPLE_RATE
    tail = (rng.normal(0, 1, len(time)) * np.exp(-6.9 * time / room)).astype(np.float32)
    size = scipy.fft.next_fast_len(len(sound) + len(tail) - 1, real=True)
    spectrum = scipy.fft.rfft(sound.astype(np.float32), size) * scipy.fft.rfft(tail, size)
    wet = scipy.fft.irfft(spectrum, size)[: len(sound)]
    return np.asarray(sound + 0.15 * wet / np.sqrt(np.square(tail).sum()))


def _add(sound: FloatArray, onset: float, event: FloatArray) -> None:
    start = int(onset * SAMPLE_RATE)
    end = min(start + len(event), len(sound))
    if start < end:
        sound[start:end] += event[: end - start]
