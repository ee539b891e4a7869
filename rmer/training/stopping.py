"""Early stopping on a value to be maximised."""

from __future__ import annotations

import math
from dataclasses import dataclass


@dataclass
class EarlyStopping:
    """Counts epochs without improvement. A tie counts as an improvement, as published; NaN never does.

    Epochs before ``first`` count for nothing. Where the best of all epochs is not one of them, they change
    nothing: the same epoch is kept, and training ends with the same one.
    """

    patience: int
    best: float = -math.inf
    best_epoch: int = 0
    waited: int = 0
    first: int = 1

    def improved(self, value: float, epoch: int) -> bool:
        """Take in the value of an epoch and return whether it is the best so far."""
        if epoch < self.first:
            return False
        if value >= self.best:
            self.best, self.best_epoch, self.waited = value, epoch, 0
            return True
        self.waited += 1
        return False

    @property
    def exhausted(self) -> bool:
        """Whether the patience is used up."""
        return self.waited >= self.patience
