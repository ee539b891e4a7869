"""Parameters that say where a data set's files lie and how to read them, shared by all stages that do."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from rmer.data.audio import DECODERS
from rmer.data.collection import Collected, collect
from rmer.data.dataset import EMOTIONS
from rmer.data.frontend import FRAMES, FRONTENDS, File2Spect
from rmer.data.soundness import MIN_SECONDS
from rmer.data.soundtracks import SCALE_MAX
from rmer.data.splits import SPLIT_SEED
from rmer.data.survey import Survey, survey
from rmer.errors import UserError
from rmer.parameters import Parameters, param
from rmer.tracking.locations import home


@dataclass(frozen=True)
class DataParams(Parameters):
    """Parameters of the files of a data set and of what is made of them."""

    soundtracks_dir: str = param("", "folder with the clips (Set1/001.mp3 ...)", kind="path")
    ratings: str = param("", "ratings CSV; default: mean_ratings_set1.csv in soundtracks_dir", kind="path")
    midlevel_dir: str = param(
        "", "Mid-level annotations; default: metadata_annotations in soundtracks_dir", kind="path"
    )
    tracklist: str = param(
        "", "track list CSV; default: set1_tracklist.csv in soundtracks_dir, if there", kind="path"
    )
    targets: str = param(",".join(EMOTIONS), "columns of the ratings to predict, separated by commas")
    scale_max: float = param(SCALE_MAX, "ratings are divided by this", low=1e-6, high=1e6)
    decoder: str = param("soundfile", "reader of audio files", choices=tuple(DECODERS))
    frames: int = param(FRAMES, "length of the excerpts in frames, 31.3 a second", low=8, high=100_000)
    frontend: str = param("madmom", "madmom itself, or its equal in torch", choices=FRONTENDS)
    min_seconds: float = param(MIN_SECONDS, "clips that sound for less are an error", low=0.1, high=600.0)
    split_seed: int = param(SPLIT_SEED, "seed of the album split", low=0, high=2**31)
    cache_dir: str = param(
        "", "folder for full spectrograms; default: spectrograms in RMER_HOME", kind="path"
    )
    workers: int = param(0, "parallel processes; 0: one a core", low=0, high=1024)

    def collect(self) -> Collected:
        """Return clips, labels and files with every problem that they have.

        Raises UserError where no folder is given or ``targets`` cannot be used.
        """
        if not self.soundtracks_dir:
            mend = "Give the folder that holds Set1/ and mean_ratings_set1.csv"
            raise UserError("is not given", where="parameter soundtracks_dir", mend=mend)
        return collect(
            Path(self.soundtracks_dir),
            _path(self.ratings),
            _path(self.midlevel_dir),
            _path(self.tracklist),
            [target.strip() for target in self.targets.split(",") if target.strip()],
            scale_max=self.scale_max,
        )

    def survey(self, collected: Collected) -> Survey:
        """Return all that is wrong or odd about the data set, its spectrograms and its splits.

        Raises UserError where decoder or front end are not installed.
        """
        file2spect = File2Spect(self.decoder, self.frontend)
        file2spect.require()
        return survey(
            collected,
            file2spect,
            Path(self.cache_dir) if self.cache_dir else home() / "spectrograms",
            frames=self.frames,
            min_seconds=self.min_seconds,
            split_seed=self.split_seed,
            workers=self.workers,
        )


def _path(text: str) -> Path | None:
    return Path(text) if text else None
