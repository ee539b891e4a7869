"""What an attack run keeps to be listened to, and what is left of its adversaries after codecs."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd
import soundfile
from torch import Tensor

from rmer.data.audio.decoders import SAMPLE_RATE
from rmer.data.audio.recordings import Samples
from rmer.evaluation.endpoints import Floats
from rmer.evaluation.hearing.codecs import robustness_table
from rmer.evaluation.hearing.perceived_quality import perceived_quality, visqol_is_installed
from rmer.evaluation.metrics import clip_errors
from rmer.evaluation.sound_subject import SoundSubject
from rmer.report.listening.listening_page import ListenedClip, listening_page
from rmer.report.listening.sound_files import write_sounds
from rmer.tracking import Artifact, Run


def log_listening(
    run: Run,
    subject: SoundSubject,
    table: pd.DataFrame,
    adversaries: Tensor,
    *,
    most: int,
    title: str,
    budget: str,
) -> None:
    """Log ``listen.html`` and WAV files of the clips whose error grew most, ``most`` of them.

    ``table`` is the per-clip table of the run, ``adversaries`` the rows that it is about [clips, 1, cells].
    """
    targets = [name.removeprefix("label_") for name in map(str, table) if _is_label(name)]
    rated, before, after = (
        table[[f"{kind}_{target}" for target in targets]].to_numpy(np.float64)
        for kind in ("label", "clean", "adv")
    )
    growth = clip_errors(rated, after) - clip_errors(rated, before)
    clips = []
    for place in np.argsort(-growth, kind="stable")[:most]:
        name, recording = subject.files.clips[place], subject.files.recordings[place]
        clean, excerpt = recording.samples, recording.heard(subject.files.frames)
        adversary = whole_adversaries(subject, adversaries, [int(place)])[0]
        for file in write_sounds(run.work_dir / "listening" / name, clean, adversary).values():
            run.file(file, f"{Artifact.LISTENING}/{name}")
        quality = perceived_quality(clean, adversary) if visqol_is_installed() else None
        known = (rated[place], before[place], after[place])
        clips.append(ListenedClip(name, clean, adversary, *known, quality, excerpt))
    run.text(listening_page(clips, targets, title, budget), Artifact.LISTEN)


def log_codecs(run: Run, subject: SoundSubject, adversaries: Tensor, targets: Sequence[str]) -> None:
    """Log ``tables/codecs.csv``: clips and adversaries after MP3, Ogg, resampling, gain and a cut."""
    clean = [recording.samples for recording in subject.files.recordings]
    whole = whole_adversaries(subject, adversaries, range(len(clean)))

    def predicted(clips: Sequence[Samples]) -> Floats:
        with tempfile.TemporaryDirectory() as folder:
            files = [Path(folder) / f"{place}.wav" for place in range(len(clips))]
            for file, samples in zip(files, clips, strict=True):
                soundfile.write(file, samples, SAMPLE_RATE, subtype="PCM_16")
            return subject.said_of(subject.ear.of_files(subject.files, files))

    run.table(robustness_table(clean, whole, subject.truth, targets, predicted), Artifact.CODECS)


def whole_adversaries(subject: SoundSubject, rows: Tensor, places: Sequence[int]) -> list[Samples]:
    """Return the whole clips at some places with the samples of their rows in them, int16 [samples]."""
    files = subject.files
    return [files.recordings[place].replaced(rows[place, 0].cpu().numpy(), files.frames) for place in places]


def _is_label(column: str) -> bool:
    return column.startswith("label_") and not column.startswith("label_concept_")
