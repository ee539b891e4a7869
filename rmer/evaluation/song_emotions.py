"""The emotions of a whole song: predicted window by window by every seed, and what they are made of.

Averages over windows and seeds keep explanations exact, because the last layer of a bottleneck is linear:
mean prediction = mean of (bias + weights times usual concepts) + sum of mean effects, where the effect of a
concept is its weight times how far it lies from its usual value (:mod:`rmer.evaluation.concepts`).
"""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np
import pandas as pd
import torch
from torch import Tensor, nn

from rmer.data.audio.recordings import Recording, excerpts
from rmer.data.dataset import Normalisation
from rmer.data.preparation.songs import Song
from rmer.data.tables.rating_scale import RatingScale
from rmer.errors import UserError
from rmer.evaluation.concepts import ConceptLayer
from rmer.evaluation.endpoints import Floats
from rmer.evaluation.fitting_layer import fitting_layer
from rmer.systems.audio_model import AudioModel, example_samples
from rmer.systems.frozen import FrozenNetwork

# Mid-level concepts are rated from 1 to 10, and divided by 10. Features are told in standard deviations over
# the training clips, from their mean.
CONCEPT_UNITS, FEATURE_UNITS = "rating points", "standard deviations"
UNIT_SCALES = {CONCEPT_UNITS: RatingScale(0.0, 10.0), FEATURE_UNITS: RatingScale(0.0, 1.0)}


@dataclass(frozen=True, eq=False)
class SeedModel:
    """One trained model: its name (``A2M2E s6``), network and, where its concepts have names, last layer.

    ``usual`` are its mean predicted concepts of the training clips, [concepts], against which effects are
    told; zeros where they are not known.
    """

    name: str
    network: nn.Module
    layer: ConceptLayer | None = None
    usual: Floats | None = None

    @cached_property
    def frozen(self) -> FrozenNetwork:
        """The network made ready for predictions, in float32."""
        return FrozenNetwork(self.network)


@dataclass(frozen=True, eq=False)
class SongEmotions:
    """What models of several seeds say about one song.

    Attributes
    ----------
    song : the name of its file
    emotions, concepts : the names of what is predicted; no concepts where they have no names
    starts : first frame of each window
    seconds : of the song in the middle of each window [windows]
    predicted : [seeds, windows, emotions], in 0-1
    conceived : [seeds, windows, concepts], in 0-1
    effects : [emotions, concepts] what each concept adds to each emotion, mean over seeds and windows; NaN
        where no linear layer makes emotions of concepts
    baseline : [emotions] the prediction with all concepts at their usual values; NaN where effects are
    scale : the ratings that predictions stand for; concepts are rated on another one
    usual : whether effects are told against the training clips, rather than against concepts of 0
    units : what concepts are told in, of :data:`UNIT_SCALES`
    """

    song: str
    emotions: tuple[str, ...]
    concepts: tuple[str, ...]
    models: tuple[str, ...]
    starts: tuple[int, ...]
    seconds: Floats
    predicted: Floats
    conceived: Floats
    effects: Floats
    baseline: Floats
    scale: RatingScale
    usual: bool
    units: str = CONCEPT_UNITS

    @property
    def explained(self) -> bool:
        """Whether it is known how the concepts make the emotions."""
        return bool(self.concepts) and not bool(np.isnan(self.baseline).any())

    @property
    def mean(self) -> Floats:
        """The prediction for the whole song, [emotions] on the scale of the ratings."""
        return self.scale.ratings(self.predicted.mean(axis=(0, 1)))

    @property
    def spread(self) -> Floats:
        """Standard deviation over seeds (n - 1) of the whole song's prediction; NaN of one seed."""
        return _spread(self.predicted.mean(axis=1)) * self.scale.span

    @property
    def curve(self) -> Floats:
        """The prediction over time, [windows, emotions] on the scale of the ratings."""
        return self.scale.ratings(self.predicted.mean(axis=0))

    @property
    def curve_spread(self) -> Floats:
        """Standard deviation over seeds of :attr:`curve`."""
        return _spread(self.predicted) * self.scale.span

    @property
    def typical(self) -> int:
        """The place of the window whose prediction is nearest to that of the whole song."""
        return int(np.abs(self.curve - self.mean).sum(axis=1).argmin())

    @property
    def concept_curve(self) -> Floats:
        """The concepts over time, [windows, concepts] on the scale that they are told on."""
        return self.unit_scale.ratings(self.conceived.mean(axis=0))

    @property
    def unit_scale(self) -> RatingScale:
        """The scale that concepts are told on."""
        return UNIT_SCALES[self.units]

    def table(self) -> pd.DataFrame:
        """Return one row: mean and spread over seeds of each emotion and concept, in rating points."""
        row: dict[str, object] = {"song": self.song, "seeds": len(self.models), "windows": len(self.seconds)}
        row |= _columns(self.emotions, self.mean, self.spread)
        conceived = self.conceived.mean(axis=1)
        row |= _columns(
            [f"concept_{name}" for name in self.concepts],
            self.unit_scale.ratings(conceived.mean(axis=0)),
            _spread(conceived) * self.unit_scale.span,
        )
        return pd.DataFrame([row])

    def window_table(self) -> pd.DataFrame:
        """Return one row a window: song, second, and mean and spread of each emotion and each concept."""
        spread = self.curve_spread
        columns: dict[str, Any] = {"song": self.song, "second": self.seconds}
        for place, name in enumerate(self.emotions):
            columns |= {name: self.curve[:, place], f"{name}_spread": spread[:, place]}
        concepts = self.concept_curve
        columns |= {f"concept_{name}": concepts[:, place] for place, name in enumerate(self.concepts)}
        return pd.DataFrame(columns)

    def effect_table(self) -> pd.DataFrame:
        """Return one row for each emotion and concept: ``effect`` in rating points, beside ``baseline``.

        Baseline plus all effects of an emotion is its prediction.
        """
        index = pd.MultiIndex.from_product([self.emotions, self.concepts], names=["emotion", "concept"])
        effects = pd.DataFrame({"effect": (self.effects * self.scale.span).ravel()}, index).reset_index()
        baseline = np.repeat(self.scale.ratings(self.baseline), len(self.concepts))
        return effects.assign(baseline=baseline).assign(song=self.song)[
            ["song", "emotion", "concept", "effect", "baseline"]
        ]


@dataclass(frozen=True, eq=False)
class Audio2Emotions:
    """Song to emotions, by models of one system trained alike but for their seeds.

    Models have one standardisation, as they were trained on the same split; ``frames`` is the length of what
    they were trained on, ``scale`` the ratings that predictions stand for, ``units`` what concepts are told
    in.
    """

    models: tuple[SeedModel, ...]
    emotions: tuple[str, ...]
    concepts: tuple[str, ...]
    normalisation: Normalisation
    frames: int
    scale: RatingScale = field(default_factory=RatingScale)
    units: str = CONCEPT_UNITS

    def __post_init__(self) -> None:
        if not self.models:
            raise UserError("there is no model", where="Audio2Emotions", mend="Give one at least")

    def __call__(self, song: Song, hop: float = 10.0) -> SongEmotions:
        """Predict every window of a song, one every ``hop`` seconds."""
        starts = song.starts(self.frames, hop)
        inputs = self._inputs(song, starts)
        outputs, units, effects, baselines = [], [], [], []
        for model in self.models:
            found = model.frozen.predict_in_batches(inputs.to(model.frozen.device, model.frozen.dtype))
            outputs.append(found["output"].double().cpu().numpy())
            if found["c_prob"] is None or not self.concepts:
                continue
            units.append(found["c_prob"].double().cpu().numpy())
            if model.layer is not None:
                usual = np.zeros(len(self.concepts)) if model.usual is None else model.usual
                effects.append(model.layer.effects(units[-1].mean(axis=0) - usual))
                baselines.append(model.layer.predict(usual))
        conceived = len(units) == len(outputs)
        explained = len(effects) == len(outputs)
        concepts = self.concepts if conceived else ()
        form = (len(self.emotions), len(concepts))
        return SongEmotions(
            song=song.name,
            emotions=self.emotions,
            concepts=concepts,
            models=tuple(model.name for model in self.models),
            starts=tuple(starts),
            seconds=np.array([song.middle(start, self.frames) for start in starts]),
            predicted=np.stack(outputs),
            conceived=np.stack(units) if conceived else np.zeros((len(outputs), len(starts), 0)),
            effects=np.mean(effects, axis=0) if explained else np.full(form, np.nan),
            baseline=np.mean(baselines, axis=0) if explained else np.full(len(self.emotions), np.nan),
            scale=self.scale,
            usual=explained and all(model.usual is not None for model in self.models),
            units=self.units,
        )

    @property
    def takes_audio(self) -> bool:
        """Whether the models get samples rather than spectrograms."""
        return isinstance(self.models[0].network, AudioModel)

    def _inputs(self, song: Song, starts: list[int]) -> Tensor:
        """Return what the models get of windows: standardised spectrograms, or samples."""
        network = self.models[0].network
        if not isinstance(network, AudioModel):
            windows = self.normalisation.standardise(song.windows(starts, self.frames))
            return torch.from_numpy(windows)[:, None]
        recordings = [Recording(song.samples, start) for start in starts]
        return excerpts(recordings, self.frames, peak_normalised=network.peak_normalised)


def last_layer(
    network: nn.Module, emotions: tuple[str, ...], concepts: tuple[str, ...], frames: int, bands: int
) -> ConceptLayer | None:
    """Return the linear layer from concepts to emotions of a network, None where it has none.

    It is the one that turns the network's concepts into its emotions, for inputs drawn at random.
    """
    if not concepts:
        return None
    generator = torch.Generator().manual_seed(0)
    inputs = torch.randn(2, 1, frames, bands, generator=generator)
    if isinstance(network, AudioModel):
        inputs = example_samples(frames)
    with torch.no_grad():
        found = network(inputs)
    units = found["c_prob"]
    if units is None or units.shape[1] != len(concepts):
        return None
    conceived, predicted = units.numpy(), found["output"].numpy()
    return fitting_layer(network, emotions, concepts, lambda layer: layer.error(conceived, predicted))[0]


def _spread(values: Floats) -> Floats:
    """Return the standard deviation over the first axis, seeds; NaN where there is one."""
    if len(values) < 2:
        return np.full(values.shape[1:], np.nan)
    spread: Floats = values.std(axis=0, ddof=1)
    return spread


def _columns(names: list[str] | tuple[str, ...], mean: Floats, spread: Floats) -> dict[str, float]:
    columns: dict[str, float] = {}
    for name, value, width in zip(names, mean, spread, strict=True):
        columns |= {name: float(value), f"{name}_spread": float(width)}
    return columns
