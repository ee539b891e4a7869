"""Stage ``demo_data``: write a synthetic data set to try everything on."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from rmer.data.demo.demo_files import write_demo_data
from rmer.data.readers.collection import FEWEST_CLIPS
from rmer.errors import UserError
from rmer.parameters import Parameters, param, place


@dataclass(frozen=True)
class DemoParams(Parameters):
    """Parameters of ``demo_data``."""

    out_dir: str = place("demo_data", "folder to write, in the layout of the real data sets")
    clips: int = param(40, "number of clips", low=FEWEST_CLIPS, high=999)
    seconds: float = param(15.0, "length of a clip", low=1.0, high=60.0)
    seed: int = param(42, "seed of everything that is drawn", low=0, high=2**31)
    noise: float = param(0.3, "spread of the ratings around the music, in rating points", low=0.0, high=4.0)


def make_demo_data(params: DemoParams) -> Path:
    """Write the demo data and return its folder; what is there already is kept.

    Raises UserError where the folder holds anything else, or cannot be written.
    """
    if not params.out_dir:
        raise UserError("is empty", where="parameter out_dir", mend="Name a folder to write")
    drawn = {name: getattr(params, name) for name in ("clips", "seconds", "seed", "noise")}
    try:
        return write_demo_data(Path(params.out_dir), **drawn)
    except OSError as error:
        what = f"cannot be written ({error.strerror or error})"
        raise UserError(what, where=params.out_dir, mend="Name a folder that you may write to") from error
