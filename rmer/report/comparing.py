"""Attacked models as samples of their systems, compared as one family."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from rmer.evaluation.attacked import AttackedModel
from rmer.evaluation.bootstrap import SEED
from rmer.evaluation.comparison import Comparison, SystemSample, compare_systems
from rmer.evaluation.metrics import METRICS, aims
from rmer.report.system_tables import in_order


def system_samples(models: Sequence[AttackedModel]) -> list[SystemSample]:
    """Return the models of each system as one sample, in the order of the tables.

    Empty where they were not all attacked on the same clips with the same ratings: there is nothing to
    compare then.
    """
    first = models[0]
    alike = all(
        model.clips == first.clips
        and model.albums == first.albums
        and model.folds == first.folds
        and np.allclose(model.labels, first.labels, rtol=0, atol=1e-6)
        for model in models
    )
    if not alike:
        return []
    return [
        SystemSample(
            name=name,
            clips=first.clips,
            albums=first.albums,
            folds=first.folds,
            labels=first.labels,
            clean=np.stack([model.clean for model in members]),
            adversarial={aim: np.stack([model.worst(aim) for model in members]) for aim in aims()},
        )
        for name, members in in_order(models).items()
    ]


def compare_models(
    models: Sequence[AttackedModel],
    reference: str,
    *,
    margins: Mapping[str, float] | None = None,
    seed: int = SEED,
) -> list[Comparison]:
    """Return the corrected comparison on every endpoint; empty for one system, or for different clips."""
    samples = system_samples(models)
    return compare_systems(samples, reference, margins=margins, seed=seed) if len(samples) > 1 else []


def endpoint_phrase(endpoint: str) -> str:
    """Return the endpoint's metric as in a sentence: ``clipped MAE``."""
    return METRICS[endpoint.split("/")[1]].phrase
