"""Columns of per-clip tables: one for each target or concept, named ``<kind>_<name>``."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt


def named_columns(
    prefix: str, names: Sequence[str], values: npt.NDArray[np.floating[Any]]
) -> dict[str, npt.NDArray[np.floating[Any]]]:
    """Return the columns of ``values`` [clips, names] as ``prefix + name`` -> [clips]."""
    return {f"{prefix}{name}": values[:, index] for index, name in enumerate(names)}
