"""Figures as files."""

from __future__ import annotations

from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

if TYPE_CHECKING:
    from matplotlib.figure import Figure

MARGIN = 0.1  # inches around all that is drawn
# What would make files of the same figure differ: the time, and matplotlib's version.
_NOT_SAID: dict[str, dict[str, Any]] = {
    "pdf": {"CreationDate": None},
    "png": {"Software": None},
    "svg": {"Date": None},
}


def save_figure(figure: Figure, file: Path | IO[bytes], kind: str, *, dpi: float | None = None) -> None:
    """Save a figure that is laid out as ``pdf``, ``png`` or ``svg``, cut to what is drawn.

    Pictures in it have ``dpi`` dots per inch, as many as the figure without.
    """
    # Asked for a tight box, matplotlib would draw all of it once more to find it.
    box = figure.get_tightbbox().padded(MARGIN)
    figure.savefig(file, format=kind, dpi=dpi or "figure", bbox_inches=box, metadata=_NOT_SAID[kind])
