"""What runs of attacks on the sound keep besides scores: how audible, after codecs, where to listen."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import pandas as pd

CLIP_COLUMNS = (
    "norm", "system", "seed", "run_id", "clip", "clean_mae_clipped", "adv_mae_clipped", "delta_mae_clipped",
    "snr_db", "noise_to_mask_db", "audible_share",
)  # fmt: skip
CODEC_COLUMNS = ("norm", "system", "seed", "transformation", "clean", "adv", "delta")


@dataclass(frozen=True)
class ListeningPage:
    """Where to hear the adversaries of one model; ``url`` is empty where the store has no web address."""

    system: str
    seed: str
    norm: str
    run_id: str
    url: str


@dataclass(frozen=True)
class HeardClip:
    """One clip and its adversary as a run keeps them, as data URIs that browsers play.

    Errors are clipped MAE, before the attack and for this adversary; ``snr_db`` is NaN where it is not known.
    """

    clip: str
    system: str
    seed: str
    error_clean: float
    error_attacked: float
    snr_db: float
    clean: str
    adversary: str


@dataclass(frozen=True, eq=False)
class Heard:
    """What there is to say about sounds that were attacked.

    Attributes
    ----------
    clips : One row for each attacked clip and run (:data:`CLIP_COLUMNS`): clipped MAE of the adversary that
        is the worst by it, and of the one that is kept to be heard (the worst by raw MAE) the signal-to-noise
        ratio, the largest noise-to-mask ratio in dB and the share of bands and frames above the threshold.
    codecs : One row for each run and transformation (:data:`CODEC_COLUMNS`), clipped MAE.
    pages : Pages to listen to.
    sounds : The clips that suffered most, of those that some run keeps to be heard.
    """

    clips: pd.DataFrame = field(default_factory=lambda: pd.DataFrame(columns=list(CLIP_COLUMNS)))
    codecs: pd.DataFrame = field(default_factory=lambda: pd.DataFrame(columns=list(CODEC_COLUMNS)))
    pages: Sequence[ListeningPage] = ()
    sounds: Sequence[HeardClip] = ()
