"""Spectrograms of many audio files: in parallel, restartable, with every bad file named at the end."""

from __future__ import annotations

import hashlib
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
from tqdm import tqdm

from rmer.data.frontend import File2Spect
from rmer.digests import file_digest
from rmer.errors import DataErrors, UserError


@dataclass(frozen=True)
class CachedSpectrogram:
    """A full raw log spectrogram on disk, float32 [frames, bands], with the statistics of its cells."""

    path: Path
    frames: int
    mean: float
    mean_square: float
    computed: bool  # False: found in the cache

    def load(self) -> npt.NDArray[np.float32]:
        """Map the array into memory."""
        array: npt.NDArray[np.float32] = np.load(self.path, mmap_mode="r", allow_pickle=False)
        return array


def compute_spectrograms(
    files: Sequence[Path], file2spect: File2Spect, cache_dir: Path, workers: int = 0
) -> list[CachedSpectrogram]:
    """Compute the spectrogram of each file, in the order given, with a progress bar.

    Each is kept in ``cache_dir`` under a name made of the file's contents and the versions of decoder and
    front end, and taken from there by the next call. ``workers`` processes share the work (0: one a core).

    Raises
    ------
    DataErrors
        When files cannot be used: one line each, after all others are done.
    UserError
        When the cache cannot be written or a worker process dies.
    """
    file2spect.require()  # what cannot be had is one problem, not one per file
    try:
        cache_dir.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise _cache_error(cache_dir, error) from error
    bar = tqdm(_results(files, file2spect, cache_dir, workers), "Spectrograms", len(files), unit="clip")
    results = list(bar)
    problems = [result for result in results if isinstance(result, str)]
    if problems:
        mend = "Mend or replace these files and run again; the others are done and kept"
        raise DataErrors(problems, where="audio", mend=mend)
    return [result for result in results if isinstance(result, CachedSpectrogram)]


def _results(
    files: Sequence[Path], file2spect: File2Spect, cache_dir: Path, workers: int
) -> Iterator[CachedSpectrogram | str]:
    """Yield a spectrogram or a problem for each file, in order."""
    processes = min(workers or joblib.cpu_count(), max(len(files), 1))
    tasks = (joblib.delayed(_compute)(path, file2spect, cache_dir) for path in files)
    try:
        # One thread a process: linear algebra must not bring its own crowd.
        with joblib.parallel_config(backend="loky", inner_max_num_threads=1):
            yield from joblib.Parallel(n_jobs=processes, return_as="generator")(tasks)
    except TerminatedWorkerError as error:
        raise UserError(
            "a worker process died, for lack of memory or inside the decoder",
            where="audio",
            mend="Run again: finished clips are kept, and fewer workers need less memory",
        ) from error


def _compute(path: Path, file2spect: File2Spect, cache_dir: Path) -> CachedSpectrogram | str:
    try:
        key = f"{file_digest(path)} {file2spect.version}"
        cached = cache_dir / f"{hashlib.sha256(key.encode()).hexdigest()[:32]}.npy"
        known = _read(cached)
        spectrogram = file2spect(path) if known is None else known
    except UserError as error:
        return str(error)
    if known is None:
        _write(cached, spectrogram)
    cells = np.asarray(spectrogram, np.float64)
    mean, mean_square = float(cells.mean()), float(np.square(cells).mean())
    return CachedSpectrogram(cached, len(cells), mean, mean_square, computed=known is None)


def _read(path: Path) -> npt.NDArray[np.floating[Any]] | None:
    """Return the cached array, or None where there is none or it is not what was written (a full disk)."""
    try:
        with path.open("rb") as stream:
            array = np.asarray(np.load(stream, allow_pickle=False))
            return array if stream.read() == _digest(array) else None
    except (OSError, ValueError, EOFError, BadZipFile, TokenError, MemoryError):
        return None


def _digest(array: npt.NDArray[np.floating[Any]]) -> bytes:
    """Return what stands behind an array in its file, where numpy does not look."""
    return hashlib.sha256(np.ascontiguousarray(array).data).digest()


def _write(path: Path, spectrogram: npt.NDArray[np.float32]) -> None:
    part = path.with_name(f"{path.name}.{os.getpid()}.{uuid.uuid4().hex[:8]}.part")
    try:
        with part.open("wb") as stream:
            np.save(stream, spectrogram, allow_pickle=False)
            stream.write(_digest(spectrogram))
        part.replace(path)
    except OSError as error:
        part.unlink(missing_ok=True)
        raise _cache_error(path.parent, error) from error


def _cache_error(folder: Path, error: OSError) -> UserError:
    return UserError(
        f"cannot be written ({error.strerror})", where=str(folder), mend="Give another cache_dir"
    )
