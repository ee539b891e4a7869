"""How figures look: one style, and colours and lines by which a system is known in all of them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import wraps
from typing import Any, ParamSpec

import matplotlib as mpl
from matplotlib.figure import Figure

from rmer.report.system_tables import is_adversarial, twin

# Okabe and Ito (2008): told apart with any colour vision. Hatching, dashes and markers repeat what colour
# says for grey print.
BLACK_BOX, INTERPRETABLE = "#E69F00", "#009E73"
CLEAN, ADVERSARIAL, DIAGONAL = "#0072B2", "#D55E00", "#555555"
HIGHLIGHT, GREY = "#0072B2", "#8c8c8c"
HATCH = "////"
# System without adversarial training -> colour and marker. Its adversarially trained twin has the same
# colour, a dashed line and an open marker.
KNOWN = {
    "A2E": ("#E69F00", "o"),
    "A2B2E": ("#D55E00", "s"),
    "A2M2E": ("#009E73", "^"),
    "placebo": ("#CC79A7", "D"),
}
OTHERS = (("#0072B2", "v"), ("#56B4E9", "P"), ("#000000", "X"), ("#7f6d00", "<"), ("#8c8c8c", ">"))

STYLE: Any = {  # matplotlib's own type is a literal of every setting's name
    "font.family": "sans-serif",
    "font.sans-serif": ["DejaVu Sans"],
    "font.size": 8.0,
    "axes.titlesize": 9.0,
    "axes.labelsize": 9.0,
    "xtick.labelsize": 8.0,
    "ytick.labelsize": 8.0,
    "legend.fontsize": 8.0,
    "axes.linewidth": 0.7,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "hatch.linewidth": 0.5,
    "figure.dpi": 100,
}

Parameters = ParamSpec("Parameters")


def styled(draw: Callable[Parameters, Figure]) -> Callable[Parameters, Figure]:
    """Draw under :data:`STYLE`, whatever the caller's matplotlib settings are."""

    @wraps(draw)
    def inner(*args: Parameters.args, **kwargs: Parameters.kwargs) -> Figure:
        with mpl.rc_context():
            mpl.rcdefaults()
            with mpl.rc_context(STYLE):
                figure = draw(*args, **kwargs)
                # Laid out once here, and not again in every format that it is saved in.
                if (layout := figure.get_layout_engine()) is not None:
                    layout.execute(figure)
                figure.set_layout_engine(None)
                return figure

    return inner


def lines_of(systems: Sequence[str]) -> dict[str, dict[str, Any]]:
    """Return system -> keywords of a line: colour, dashes and marker."""
    others = [name for name in systems if twin(name) not in KNOWN]
    lines = {}
    for name in systems:
        adversarial = is_adversarial(name)
        colour, marker = KNOWN[twin(name)] if name not in others else OTHERS[others.index(name) % len(OTHERS)]
        lines[name] = {
            "color": colour,
            "marker": marker,
            "linestyle": "--" if adversarial else "-",
            "markerfacecolor": "w" if adversarial else colour,
        }
    return lines
