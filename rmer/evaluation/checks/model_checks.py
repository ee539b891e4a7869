"""Sanity checks of the model, its inputs and its gradients (see :mod:`rmer.evaluation.checks.sanity`)."""

from __future__ import annotations

import numpy as np

from rmer.evaluation.checks.measurements import Measurements, NotMeasuredError, Verdict, measured
from rmer.evaluation.checks.probes import TINY_GRADIENT
from rmer.evaluation.endpoints import Floats
from rmer.evaluation.metrics import correlations

# Difference between predictions for a clip alone and in a batch: convolutions sum in another order (up to
# 1e-3 where a GPU multiplies in TF32). Batch norm in training mode makes more than .01.
BATCH_DIFFERENCE = 2e-3
# By how much mean and standard deviation of the inputs may miss 0 and 1, and their lowest cell silence. Music
# of other albums differs by about .1; spectrograms that were not standardised miss by .6 and more.
STANDARDISED = 0.3
# Clean scores of the training and of the attack run: float32 averages, perhaps from two machines. Two seeds
# of one system differ by ten times as much.
SAME_SCORE = 5e-4
# Permutations of the clips, and the share of them that may reach the correlation of labels in order.
PERMUTATIONS = 1000
PERMUTATION_LEVEL = 0.01
FEWEST_CLIPS = 6  # 720 orders: fewer clips have none that is rare enough
# Share of gradient cells that may be exactly zero; networks of the study have none.
ZERO_SHARE = 0.1
# Relative error of the slope along the gradient: networks of the study have .002, in bfloat16 .02.
SLOPE_ERROR = 0.1


def evaluation_mode(measurements: Measurements) -> Verdict:
    """Difference between predictions for a clip alone and in a batch; one batch twice must give the same."""
    repeats = measured(measurements.repeats, "the predictions' repeatability")
    passed = repeats.same_batch <= BATCH_DIFFERENCE and repeats.alone <= BATCH_DIFFERENCE
    value = max(repeats.same_batch, repeats.alone)
    return Verdict(value, BATCH_DIFFERENCE, passed, f"one batch twice: {repeats.same_batch:.3g}")


def normalisation_matches(measurements: Measurements) -> Verdict:
    """Largest of |mean|, |standard deviation - 1| and |lowest cell - silence| of the attacked inputs."""
    inputs = measured(measurements.inputs, "the mean of the inputs")
    distances = [abs(inputs.mean), abs(inputs.std - 1.0)]
    detail = f"mean {inputs.mean:.3f}, standard deviation {inputs.std:.3f}"
    if inputs.above_floor is not None:
        distances.append(abs(inputs.above_floor))
        detail += f", lowest cell {inputs.above_floor:.3f} above silence"
    value = float(np.max(distances))
    return Verdict(value, STANDARDISED, value <= STANDARDISED, detail)


def clean_score_matches_training(measurements: Measurements) -> Verdict:
    """Largest difference between clean scores here and those that the training logged for this part."""
    clean = measured(measurements.clean, "the clean score")
    known = {
        metric: (here, logged)
        for metric, logged in measurements.trained.items()
        if (here := getattr(clean, metric, None)) is not None
    }
    if not known:
        raise NotMeasuredError("no score of the training is known for this part")
    value = float(np.max([abs(here - logged) for here, logged in known.values()]))
    detail = ", ".join(f"{name} {here:.4f}, logged {logged:.4f}" for name, (here, logged) in known.items())
    return Verdict(value, SAME_SCORE, value <= SAME_SCORE, detail)


def weights_of_no_other_system(measurements: Measurements) -> Verdict:
    """How many other trained systems or seeds have the weights of this model."""
    twins = measured(measurements.twins, "which other systems have these weights")
    return Verdict(len(twins), 0.0, not twins, ", ".join(twins))


def labels_in_order(measurements: Measurements) -> Verdict:
    """Clean correlation, against what one permutation of the clips in a hundred reaches."""
    labels = measured(measurements.labels, "labels")
    predictions = measured(measurements.predictions, "clean predictions")
    if len(labels) < FEWEST_CLIPS:
        raise NotMeasuredError(f"{len(labels)} clips are too few to permute")
    found = _correlation(labels, predictions)
    rng = np.random.default_rng(0)
    permuted = [_correlation(rng.permutation(labels), predictions) for _ in range(PERMUTATIONS)]
    limit = float(np.quantile(permuted, 1.0 - PERMUTATION_LEVEL))
    passed = found > limit
    if not passed and not measurements.trained.get("corr", np.nan) > limit:
        raise NotMeasuredError(
            f"the model's correlation, {found:.3f}, is none: permuted labels reach {limit:.3f}"
        )
    return Verdict(found, limit, passed, f"of {PERMUTATIONS} permutations, 99 % stay below the limit")


def share_of_zero_gradients(measurements: Measurements) -> Verdict:
    """Share of gradient cells that are exactly zero; a clip without a usable gradient counts in full."""
    gradients = measured(measurements.gradients, "the gradients")
    unusable = ~(gradients.largest > TINY_GRADIENT)  # NaN, too, is unusable
    share = float(np.where(unusable, 1.0, gradients.zero_share).mean())
    detail = f"{int(unusable.sum())} of {len(unusable)} clips have no usable gradient"
    return Verdict(share, ZERO_SHARE, share <= ZERO_SHARE, detail)


def gradient_matches_finite_differences(measurements: Measurements) -> Verdict:
    """Relative error of the slope that gradients promise, median over clips."""
    errors = measured(measurements.slope_errors, "the slope of the loss")
    error = float(np.median(errors))
    return Verdict(error, SLOPE_ERROR, error <= SLOPE_ERROR, f"largest of a clip {errors.max():.3g}")


def _correlation(labels: Floats, predictions: Floats) -> float:
    """Return the correlation averaged over the targets that have one; 0 where none has."""
    found = correlations(labels, predictions)
    return float(found[~np.isnan(found)].mean()) if not np.isnan(found).all() else 0.0
