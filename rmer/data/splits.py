"""Which clips train, validate and test: the published random split, and a split that no album straddles."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import torch

from rmer.errors import UserError

IntArray = npt.NDArray[np.int64]

PARTS = ("train", "validation", "test")
SPLIT_SEED = 42


def published_split(clips: int) -> dict[str, IntArray]:
    """Return the row indices that the published code draws for a data set of ``clips`` clips.

    Same as ``torch.utils.data.random_split`` with sizes int(.8 n), the larger and the smaller half of the
    rest (train, validation, test), and a generator seeded with 42. Raises UserError where a part would be
    empty.
    """
    train = int(clips * 0.8)
    test = int((clips - train) * 0.5)
    validation = clips - train - test
    if min(train, validation, test) < 1:
        raise UserError(
            f"{clips} clips cannot be divided into train, validation and test",
            where="split",
            mend="Give at least 6 clips",
        )
    order = published_order(clips)
    return dict(zip(PARTS, np.split(order, [train, train + validation]), strict=True))


def published_order(clips: int) -> IntArray:
    """Return the permutation of ``clips`` rows that the published split cuts into parts."""
    generator = torch.Generator().manual_seed(SPLIT_SEED)
    return np.asarray(torch.randperm(clips, generator=generator).numpy(), np.int64)
