"""Small data sets of noise, for tests of what trains on one or reads one."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd

from rmer.data.dataset import CONCEPTS, EMOTIONS, Dataset
from rmer.data.splits import part_column, published_split
from rmer.tracking import Artifact, Run


def noise_dataset(
    parts: Sequence[str], *, frames: int = 24, concepts: tuple[str, ...] = CONCEPTS, **frontend: object
) -> Dataset:
    """Return a data set without albums; ``parts`` names the part of each clip in the published split."""
    rng, clips = np.random.default_rng(3), len(parts)
    table = pd.DataFrame({"clip": [f"{n:03d}" for n in range(clips)], "file": "", "album": "", "track": ""})
    table = table.assign(**{name: rng.uniform(0.1, 0.8, clips) for name in (*EMOTIONS, *concepts)})
    table = table.assign(spec_mean=0.4, spec_mean_square=0.3, spec_frames=frames, excerpt_start=0)
    spectrograms = rng.gamma(2, 0.2, (clips, frames, 149)).astype(np.float32)
    return Dataset(spectrograms, table.assign(split_published=parts), EMOTIONS, concepts, frontend)


def published_parts(clips: int) -> list[str]:
    """Return the part of each clip in the published split."""
    return list(part_column(published_split(clips), clips))


def log_dataset(run: Run, dataset: Dataset) -> None:
    """Log a data set as preprocessing does."""
    dataset.save(run.work_dir / Artifact.DATASET)
    run.file(run.work_dir / Artifact.DATASET)
