"""Spectrograms of many audio files: in parallel, restartable, a bad file being an error in its place."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import os
import uuid
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from tokenize import TokenError
from typing import Any
from zipfile import BadZipFile

import joblib
import numpy as np
import numpy.typing as npt
from joblib.externals.loky.process_executor import TerminatedWorkerError

from rmer.data.audio.frontend import File2Spect
from rmer.data.audio.soundness import Soundness
from rmer.digests import file_digest
from rmer.errors import UserError
from rmer.progress import progress


@dataclass(frozen=True)
class CachedSpectrogram:
    """A full raw log spectrogram on disk, float32 [frames, bands], and what was measured on its recording.

    ``mean`` and ``mean_square`` are those of its cells.
    """

    path: Path
    frames: int
    mean: float
    mean_square: float
    sound: Soundness
    computed: bool  # False: found in the cache

    def load(self) -> npt.NDArray[np.float32]:
        """Map the array into memory."""
        array: npt.NDArray[np.float32] = np.load(self.path, mmap_mode="r", allow_pickle=False)
        return array


def compute_spectrograms(
    files: Sequence[Path], file2spect: File2Spect, cache_dir: Path, workers: int = 0
) -> list[CachedSpectrogram | UserError]:
    """Compute the spectrogram of each file, in the order given, with a progress bar.

    Each is kept in ``cache_dir`` under a name made of the file's contents and the versions of decoder and
    front end, with a description of the recording beside it (``.json``), and taken from there by the next
    call. ``workers`` processes share the work (0: one a core). A file that cannot be used is an error in its
    place. Raises UserError when the cache cannot be written or a worker process dies.
    """
    file2spect.require()  # what cannot be had is one problem, not one per file
    try:
        cache_dir.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise _cache_error(cache_dir, error) from error
    results = _results(files, file2spect, cache_dir, workers)
    found = []
    with progress("Spectrograms", len(files), "clip") as bar:
        for result in results:
            found.append(result)
            bar.update()
    return found


def _results(
    files: Sequence[Path], file2spect: File2Spect, cache_dir: Path, workers: int
) -> Iterator[CachedSpectrogram | UserError]:
    processes = min(workers or joblib.cpu_count(), max(len(files), 1))
    tasks = (joblib.delayed(_compute)(path, file2spect, cache_dir) for path in files)
    try:
        # One thread a process: linear algebra must not bring its own crowd.
        with joblib.parallel_config(backend="loky", inner_max_num_threads=1):
            yield from joblib.Parallel(n_jobs=processes, return_as="generator")(tasks)
    except TerminatedWorkerError as error:
        what = "a worker process died, for lack of memory or inside the decoder"
        mend = "Run again: finished clips are kept, and fewer workers need less memory"
        raise UserError(what, where="audio", mend=mend) from error


def _compute(path: Path, file2spect: File2Spect, cache_dir: Path) -> CachedSpectrogram | UserError:
    try:
        key = f"{file_digest(path)} {file2spect.version}"
        cached = cache_dir / f"{hashlib.sha256(key.encode()).hexdigest()[:32]}.npy"
        known = _read(cached)
        spectrogram, sound = known or file2spect.with_soundness(path)
    except UserError as error:
        return error
    if known is None:
        _write(cached, spectrogram, sound)
    cells = np.asarray(spectrogram, np.float64)
    mean, mean_square = float(cells.mean()), float(np.square(cells).mean())
    return CachedSpectrogram(cached, len(cells), mean, mean_square, sound, computed=known is None)


def _read(path: Path) -> tuple[npt.NDArray[np.float32], Soundness] | None:
    """Return what is cached, or None where there is nothing or not what was written (a full disk, say)."""
    try:
        described = json.loads(path.with_suffix(".json").read_text(encoding="utf-8"))
        sound = Soundness(**{**described, "complaints": tuple(described["complaints"])})
        with path.open("rb") as stream:
            array = np.asarray(np.load(stream, allow_pickle=False), np.float32)
            return (array, sound) if stream.read() == _digest(array) else None
    except (OSError, ValueError, EOFError, TypeError, KeyError, BadZipFile, TokenError, MemoryError):
        return None


def _digest(array: npt.NDArray[np.floating[Any]]) -> bytes:
    """Return what stands behind an array in its file, where numpy does not look."""
    return hashlib.sha256(np.ascontiguousarray(array).data).digest()


def _write(path: Path, spectrogram: npt.NDArray[np.float32], sound: Soundness) -> None:
    suffix = f".{os.getpid()}.{uuid.uuid4().hex[:8]}.part"
    description = path.with_suffix(".json")
    parts = [place.with_name(place.name + suffix) for place in (description, path)]
    try:
        parts[0].write_text(json.dumps(dataclasses.asdict(sound)), encoding="utf-8")
        with parts[1].open("wb") as stream:
            np.save(stream, spectrogram, allow_pickle=False)
            stream.write(_digest(spectrogram))
        for part, place in zip(parts, (description, path), strict=True):
            part.replace(place)
    except OSError as error:
        for part in parts:
            part.unlink(missing_ok=True)
        raise _cache_error(path.parent, error) from error


def _cache_error(folder: Path, error: OSError) -> UserError:
    mend = "Give another cache_dir"
    return UserError(f"cannot be written ({error.strerror})", where=str(folder), mend=mend)
