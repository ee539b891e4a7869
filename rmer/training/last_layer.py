"""The last layer of a bottleneck that is fitted by itself, after its concepts: no emotion reaches these.

Sources: the sequential and the independent bottleneck of Koh et al., "Concept Bottleneck Models", ICML 2020;
the former is A2Mid2E of Chowdhury et al., ISMIR 2019.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from rmer.data.standardised import Part
from rmer.errors import UserError
from rmer.systems.catalogue import LastLayer
from rmer.systems.prediction import predict


def refit_last_layer(network: nn.Module, part: Part, kind: LastLayer) -> None:
    """Give the layer from concepts to emotions the least-squares weights on ``part``, in place.

    Its inputs are the concepts as the network predicts them (``predicted``: sequential) or as they were rated
    (``rated``: independent). Where several weights fit alike, these are the smallest. The network is left in
    evaluation mode. Raises UserError for a network that has no such layer.
    """
    layer = getattr(network, "fc_ml2emo", None)
    if not isinstance(layer, nn.Linear) or part.concepts is None:
        mend = "Use arch=bottleneck, and data with rated concepts"
        raise UserError("there is no linear layer from concepts to emotions to fit", where="arch", mend=mend)
    network.eval()
    concepts = part.concepts
    if kind == "predicted":
        units = predict(network, part.inputs)[1]
        assert units is not None
        concepts = torch.from_numpy(units)
    weights = least_squares(concepts.cpu(), part.labels.cpu())
    with torch.no_grad():
        layer.weight.copy_(weights[:-1].T)
        layer.bias.copy_(weights[-1])


def least_squares(concepts: Tensor, labels: Tensor) -> Tensor:
    """Return weights and, in the last row, the bias [concepts + 1, targets] of the smallest squared error."""
    design = torch.cat([concepts.double(), torch.ones(len(concepts), 1, dtype=torch.float64)], 1)
    solution: Tensor = torch.linalg.lstsq(design, labels.double(), driver="gelsd").solution
    return solution
