"""Ridge regression from features to emotions, in closed form; its penalty is chosen on the validation clips.

Source: A. Hoerl, R. Kennard, "Ridge regression: biased estimation for nonorthogonal problems", Technometrics
12(1), 1970. The penalty is on the squared weights of standardised features, as in scikit-learn's ``Ridge``;
the bias has none.
"""

from __future__ import annotations

import torch
from torch import Tensor

from rmer.data.dataset import Normalisation
from rmer.data.standardised import Part
from rmer.systems.feature_network import FeatureNetwork

PENALTIES = torch.logspace(-2, 5, 29, dtype=torch.float64)
CLIPS = 32  # whose features are computed at once
CONSTANT = 1e-6  # of a feature's size: a deviation that is rounding


def fit_ridge(
    network: FeatureNetwork, train: Part, validation: Part, normalisation: Normalisation
) -> dict[str, float]:
    """Give a network the weights whose penalty leaves the smallest validation error, in place.

    Features are standardised on ``train``; one that is constant there gets the weight 0. Returns the mean
    squared error on ``train`` and the penalty.
    """
    network.eval()
    network.input_mean.fill_(normalisation.mean)
    network.input_std.fill_(normalisation.std)
    features = _features(network, train)
    mean, deviation = features.mean(0), features.std(0, correction=0)
    deviation = torch.where(deviation > CONSTANT * features.abs().amax(0), deviation, 1.0)
    fitted, judged = (
        ((of_part - mean) / deviation, part.labels.double().cpu())
        for of_part, part in ((features, train), (_features(network, validation), validation))
    )
    fits = {penalty: ridge_weights(*fitted, penalty) for penalty in PENALTIES.tolist()}
    penalty = min(fits, key=lambda tried: _error(*fits[tried], *judged))
    weights, bias = fits[penalty]
    with torch.no_grad():
        network.feature_mean.copy_(mean)
        network.feature_std.copy_(deviation)
        network.ridge.weight.copy_(weights.T)
        network.ridge.bias.copy_(bias)
    return {"train/loss": _error(weights, bias, *fitted), "train/penalty": penalty}


def ridge_weights(units: Tensor, labels: Tensor, penalty: float) -> tuple[Tensor, Tensor]:
    """Return weights [units, targets] and bias [targets] of the least squared error plus penalised weights.

    (X'X + penalty I)^-1 X'Y of centred X [clips, units] and Y [clips, targets].
    """
    centre, mean = units.mean(0), labels.mean(0)
    centred = units - centre
    gram = centred.T @ centred + penalty * torch.eye(units.shape[1], dtype=units.dtype)
    weights = torch.linalg.solve(gram, centred.T @ (labels - mean))
    return weights, mean - centre @ weights


def _error(weights: Tensor, bias: Tensor, units: Tensor, labels: Tensor) -> float:
    return float((units @ weights + bias - labels).square().mean())


def _features(network: FeatureNetwork, part: Part) -> Tensor:
    """Return the features of clips, float64 [clips, features]."""
    with torch.no_grad():
        parts = [network.features(clips) for clips in torch.split(part.inputs, CLIPS)]
    return torch.cat(parts).double().cpu()
