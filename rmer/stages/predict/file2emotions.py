"""Audio file to emotions, in one Python call."""

from __future__ import annotations

from pathlib import Path

from rmer.evaluation.song_emotions import SongEmotions
from rmer.stages.predict.predict_params import PredictParams
from rmer.stages.predict.seed_models import find_models
from rmer.tracking import connect


class File2Emotions:
    """Audio file to emotions, by all seeds of a system in the store, or by one model.

    >>> File2Emotions("A2M2E")("song.mp3").table()

    ``system`` and ``model_uri`` are those of ``rmer predict``; ``store`` is a tracking address (default:
    ``MLFLOW_TRACKING_URI``, else ``mlflow.db`` here). Raises UserError where there is no such model.
    """

    def __init__(
        self, system: str = "", *, model_uri: str = "", seed: str = "", store: str | None = None
    ) -> None:
        params = PredictParams(system=system, model_uri=model_uri, seed=seed)
        self._hearer = find_models(connect(store), params)

    @property
    def models(self) -> tuple[str, ...]:
        """The names of the models, one a seed."""
        return tuple(model.name for model in self._hearer.hears.models)

    def __call__(self, path: str | Path, hop: float = 10.0) -> SongEmotions:
        """Return the emotions of a file of any format, in windows every ``hop`` seconds.

        Raises UserError where it is no recording that could be judged.
        """
        return self._hearer.hears(self._hearer.read(Path(path)), hop)
