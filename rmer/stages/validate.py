"""Stage ``validate``: say everything that is wrong with a data set, without computing or logging anything."""

from __future__ import annotations

import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import soundfile
from tqdm import tqdm

from rmer.data.audio import SAMPLE_RATE, decode
from rmer.data.collection import Collected, labels_digest
from rmer.errors import UserError
from rmer.parameters import param
from rmer.stages.data_params import DataParams

EXCERPT_SECONDS = 10.0


@dataclass(frozen=True)
class ValidateParams(DataParams):
    """Parameters of ``validate``."""

    decode: bool = param(False, "decode all audio instead of reading headers")


def validate(params: ValidateParams) -> list[str]:
    """Check a data set, print a report and return every problem found (none: it can be preprocessed)."""
    collected = params.collect()
    audio_problems, short = check_audio(list(collected.audio.values()), params.decoder, whole=params.decode)
    problems = [*collected.problems, *audio_problems]
    print(_report(params.soundtracks_dir, collected, problems, [*collected.warnings, *short]))
    return problems


def check_audio(
    paths: Sequence[Path], decoder: str = "soundfile", *, whole: bool = False
) -> tuple[list[str], list[str]]:
    """Return what is wrong with audio files, and a warning for each that is shorter than an excerpt.

    With libsndfile only headers are read unless ``whole``; other decoders always decode.
    """
    problems, short = [], []
    seconds_of = partial(_seconds, decoder=decoder, whole=whole or decoder != "soundfile")
    with ThreadPoolExecutor(max_workers=os.cpu_count()) as pool:
        results = tqdm(pool.map(seconds_of, paths), "Audio", len(paths), unit="clip", disable=not paths)
        for path, result in zip(paths, results, strict=True):
            if isinstance(result, str):
                problems.append(result)
            elif result < EXCERPT_SECONDS:
                short.append(f"{path.name} lasts {result:.1f} s: its excerpt repeats it")
    return problems, short


def _seconds(path: Path, *, decoder: str, whole: bool) -> float | str:
    """Return the length of a file, or what is wrong with it."""
    try:
        if whole:
            return len(decode(path, decoder)) / SAMPLE_RATE
        return float(soundfile.info(path).duration)
    except UserError as error:
        return f"{path.name} {error.what}"
    except soundfile.SoundFileError as error:
        return f"{path.name} cannot be opened ({getattr(error, 'error_string', error)})"


def _report(folder: str, collected: Collected, problems: Sequence[str], warnings: Sequence[str]) -> str:
    clips = collected.clips
    labels = [*collected.emotions, *collected.concepts]
    albums = f"{clips['album'].nunique()} albums" if collected.has_albums else "none (no album split)"
    lines = [
        f"Data set in {folder}",
        f"  clips     {len(clips)} rated, {len(collected.audio)} with audio",
        f"  targets   {', '.join(collected.emotions)}",
        f"  concepts  {', '.join(collected.concepts) or 'none: only systems without concept loss train'}",
        f"  albums    {albums}",
        f"  labels    {labels_digest(clips, labels)}",
    ]
    for name, found in (("warning", warnings), ("problem", problems)):
        lines.append(f"{len(found) or 'No'} {name}{'' if len(found) == 1 else 's'}")
        lines += [f"  - {text}" for text in found]
    return "\n".join(lines)
