"""How a concept bottleneck comes to its emotions, and through which concepts an attack moves them.

The last layer of a bottleneck is linear, so its explanations are exact and not approximations:

* **effect** of a concept on an emotion: weight times predicted concept; bias + sum of effects = prediction
  (Chowdhury et al., ISMIR 2019; Molnar, "Interpretable Machine Learning", effects of linear regression);
* **centred effect**: weight times (predicted concept - its mean over the clean clips of the split);
  mean clean prediction + sum of centred effects = prediction. The clips that are explained are the reference,
  for clean and attacked inputs alike, so that an explanation needs nothing but their table;
* **movement**: weight times (attacked - clean predicted concept); the sum is what the emotion moves by.

Concepts and emotions are in units of rating / 10. The *spread* of a concept is the population standard
deviation of its clean predictions over the clips. Everything is computed in float64.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import numpy.typing as npt
import pandas as pd

from rmer.errors import UserError
from rmer.evaluation.endpoints import Floats

# Largest rounding error of a float32 network, relative to what it adds up (see ConceptLayer.error).
FLOAT32_TOLERANCE = 1e-6
WEIGHT = "weight_"


@dataclass(frozen=True, eq=False)
class ConceptLayer:
    """The linear layer from concepts to emotions: ``weights`` [emotions, concepts], ``bias`` [emotions]."""

    emotions: tuple[str, ...]
    concepts: tuple[str, ...]
    weights: Floats
    bias: Floats

    def __post_init__(self) -> None:
        expected = (len(self.emotions), len(self.concepts))
        if self.weights.shape != expected or self.bias.shape != expected[:1]:
            raise ValueError(f"weights {self.weights.shape} and bias {self.bias.shape}, not {expected}")

    @classmethod
    def from_table(cls, table: pd.DataFrame) -> ConceptLayer:
        """Build from :meth:`table`."""
        columns = [column for column in table.columns if column.startswith(WEIGHT)]
        return cls(
            emotions=tuple(table["emotion"].astype(str)),
            concepts=tuple(column.removeprefix(WEIGHT) for column in columns),
            weights=table[columns].to_numpy(np.float64),
            bias=table["bias"].to_numpy(np.float64),
        )

    def table(self) -> pd.DataFrame:
        """Return one row an emotion: ``emotion``, ``bias``, and ``weight_<concept>`` for each concept."""
        weights = pd.DataFrame(self.weights, columns=[f"{WEIGHT}{concept}" for concept in self.concepts])
        return pd.concat([pd.DataFrame({"emotion": self.emotions, "bias": self.bias}), weights], axis=1)

    def predict(self, concepts: npt.ArrayLike) -> Floats:
        """Return the emotions, [..., emotions], that follow from concepts [..., concepts]."""
        return self.bias + np.asarray(concepts, dtype=np.float64) @ self.weights.T

    def effects(self, concepts: npt.ArrayLike) -> Floats:
        """Return what each concept adds to each emotion, [..., emotions, concepts]."""
        return self.weights * np.asarray(concepts, dtype=np.float64)[..., np.newaxis, :]

    def what_if(self, concepts: npt.ArrayLike, values: Mapping[str, npt.ArrayLike]) -> Floats:
        """Return the emotions [clips, emotions] if some of the concepts [clips, concepts] had other values.

        ``values`` maps the name of a concept to one value, or to one for each clip.
        """
        changed = np.array(concepts, dtype=np.float64)
        for concept, value in values.items():
            if concept not in self.concepts:
                mend = f"The concepts are {', '.join(self.concepts)}"
                raise UserError(f"there is no concept {concept!r}", where="what_if", mend=mend)
            changed[..., self.concepts.index(concept)] = value
        return self.predict(changed)

    def error(self, concepts: npt.ArrayLike, predictions: npt.ArrayLike) -> float:
        """Return by how much bias + sum of effects misses the predictions [clips, emotions] at most.

        Relative to the sum of the absolute terms, where that is over 1: rounding grows with what is added up.
        """
        size = np.abs(self.bias) + np.abs(self.effects(concepts)).sum(axis=-1)
        missed = np.abs(self.predict(concepts) - np.asarray(predictions, dtype=np.float64))
        return float((missed / np.maximum(1.0, size)).max())


@dataclass(frozen=True, eq=False)
class AttackedConcepts:
    """One bottleneck on the clips of a split, before and after an attack.

    ``labels`` are rated emotions [clips, emotions], ``rated`` rated concepts, ``clean`` and ``adversarial``
    concepts as predicted before and under the attack, all [clips, concepts]. ``leakage`` is the table of
    :mod:`rmer.evaluation.leakage`, where it is known.
    """

    layer: ConceptLayer
    clips: tuple[str, ...]
    labels: Floats
    rated: Floats
    clean: Floats
    adversarial: Floats
    leakage: pd.DataFrame | None = None

    @classmethod
    def from_table(cls, table: pd.DataFrame, layer: ConceptLayer) -> AttackedConcepts:
        """Build from the per-clip table of an attack run.

        Raises ValueError where the layer does not turn the table's concepts into the table's predictions.
        """
        clean, adversarial = (_columns(table, f"{kind}_concept", layer.concepts) for kind in ("clean", "adv"))
        found = identity_error(table, layer)
        if not found <= FLOAT32_TOLERANCE:
            raise ValueError(f"bias + sum of effects misses the predictions by {found:.1g}")
        return cls(
            layer=layer,
            clips=tuple(table["clip"].astype(str)),
            labels=_columns(table, "label", layer.emotions),
            rated=_columns(table, "label_concept", layer.concepts),
            clean=clean,
            adversarial=adversarial,
        )

    @cached_property
    def spread(self) -> Floats:
        """Population standard deviation of each concept's clean predictions over the clips, [concepts]."""
        spread: Floats = self.clean.std(axis=0)
        return spread

    @cached_property
    def shift(self) -> Floats:
        """What the attack adds to each predicted concept, [clips, concepts]."""
        return self.adversarial - self.clean

    @cached_property
    def moved(self) -> Floats:
        """What the attack adds to each emotion through each concept, [clips, emotions, concepts]."""
        return self.layer.effects(self.shift)

    def centred_effects(self, concepts: Floats) -> Floats:
        """Return effects of concepts [clips, concepts] relative to the mean clean clip."""
        return self.layer.effects(concepts - self.clean.mean(axis=0))


def identity_error(table: pd.DataFrame, layer: ConceptLayer) -> float:
    """Return the larger :meth:`ConceptLayer.error` of the clean and the adversarial rows of a per-clip table.

    Where the table reports another iterate than the saved adversary, ``rescored_*`` belongs to the concepts.
    """
    adversarial = "rescored" if f"rescored_{layer.emotions[0]}" in table else "adv"
    errors = [
        layer.error(
            _columns(table, f"{concepts}_concept", layer.concepts), _columns(table, outputs, layer.emotions)
        )
        for concepts, outputs in (("clean", "clean"), ("adv", adversarial))
    ]
    return float(np.max(errors))


def effects_table(model: AttackedConcepts) -> pd.DataFrame:
    """Return one row for each clip, emotion and concept.

    Columns: ``clip``, ``emotion``, ``concept``, ``clean_effect``, ``adv_effect``, ``clean_centred``,
    ``adv_centred``, and ``moved`` (adversarial minus clean effect).
    """
    layer = model.layer
    index = pd.MultiIndex.from_product(
        [model.clips, layer.emotions, layer.concepts], names=["clip", "emotion", "concept"]
    )
    columns = {
        "clean_effect": layer.effects(model.clean),
        "adv_effect": layer.effects(model.adversarial),
        "clean_centred": model.centred_effects(model.clean),
        "adv_centred": model.centred_effects(model.adversarial),
        "moved": model.moved,
    }
    return pd.DataFrame({name: values.ravel() for name, values in columns.items()}, index).reset_index()


def shift_table(model: AttackedConcepts) -> pd.DataFrame:
    """Return one row a concept: how the attack moves it, and how much of the emotions' movement it carries.

    Columns (means over clips)
    --------------------------
    * ``concept``, ``clean_mean``, ``spread``: of the clean predictions;
    * ``shift``, ``shift_abs``: mean change and mean absolute change; ``shift_spreads``,
      ``shift_abs_spreads``: the same in spreads (NaN where the spread is zero); ``raised``: share of the
      clips in which the attack raises it;
    * ``share``: of the absolute movement of all emotions, 0-1; opposite movements do not cancel;
    * ``net_share``: of the movement that is left after cancelling, in its direction; sums to 1, and is
      negative for a concept that works against the others;
    * ``clean_mae``, ``adv_mae``: mean absolute error of the predicted concept against its rating.
    """
    shift, sizes = model.shift.mean(axis=0), np.abs(model.shift).mean(axis=0)
    return pd.DataFrame(
        {
            "concept": model.layer.concepts,
            "clean_mean": model.clean.mean(axis=0),
            "spread": model.spread,
            "shift": shift,
            "shift_abs": sizes,
            "shift_spreads": _ratio(shift, model.spread),
            "shift_abs_spreads": _ratio(sizes, model.spread),
            "raised": (model.shift > 0).mean(axis=0),
            "share": _shares(np.abs(model.moved).sum(axis=(0, 1))),
            "net_share": _shares(_along_the_way(model.moved).sum(axis=(0, 1))),
            "clean_mae": np.abs(model.clean - model.rated).mean(axis=0),
            "adv_mae": np.abs(model.adversarial - model.rated).mean(axis=0),
        }
    )


def movement_table(model: AttackedConcepts) -> pd.DataFrame:
    """Return one row for each emotion and concept: through which weights the emotion moves.

    Columns: ``emotion``, ``concept``, ``weight``, ``moved`` and ``moved_abs`` (mean and mean absolute
    movement over clips; ``moved`` adds up to the mean change of the emotion), ``share`` and ``net_share`` of
    this emotion's movement, as in :func:`shift_table`.
    """
    layer, moved = model.layer, model.moved
    index = pd.MultiIndex.from_product([layer.emotions, layer.concepts], names=["emotion", "concept"])
    columns = {
        "weight": layer.weights,
        "moved": moved.mean(axis=0),
        "moved_abs": np.abs(moved).mean(axis=0),
        "share": _shares(np.abs(moved).sum(axis=0)),
        "net_share": _shares(_along_the_way(moved).sum(axis=0)),
    }
    return pd.DataFrame({name: values.ravel() for name, values in columns.items()}, index).reset_index()


def _along_the_way(moved: Floats) -> Floats:
    """Return movements [clips, emotions, concepts] counted positive where the emotion moves in the end."""
    signed: Floats = moved * np.sign(moved.sum(axis=-1, keepdims=True))
    return signed


def _shares(parts: Floats) -> Floats:
    """Return parts [..., concepts] over their sum; NaN where there is nothing to share."""
    return _ratio(parts, parts.sum(axis=-1, keepdims=True))


def _ratio(part: Floats, whole: Floats) -> Floats:
    ratio: Floats = np.divide(part, whole, out=np.full(part.shape, np.nan), where=whole != 0)
    return ratio


def _columns(table: pd.DataFrame, kind: str, names: Sequence[str]) -> Floats:
    return table[[f"{kind}_{name}" for name in names]].to_numpy(np.float64)
