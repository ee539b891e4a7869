"""Parameters that say where a data set's files lie and how to read them, shared by all stages that do."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from rmer.data.audio.decoders import DECODERS
from rmer.data.audio.frontend import FRAMES, FRONTENDS, File2Spect
from rmer.data.audio.soundness import MIN_SECONDS
from rmer.data.dataset import EMOTIONS
from rmer.data.preparation.survey import Survey, survey
from rmer.data.readers.collection import Collected
from rmer.data.readers.known_readers import DEFAULT_READER, READERS
from rmer.data.readers.reader import DatasetReader
from rmer.data.splits import SPLIT_SEED
from rmer.data.tables.ratings import SCALE_MAX
from rmer.errors import UserError
from rmer.parameters import Parameters, machine, param, place
from rmer.plain_yaml import parse_yaml
from rmer.tracking.locations import home

# Parameters that a reader may take, under the same name.
OF_READERS = ("ratings", "midlevel_dir", "tracklist", "targets", "scale_max")


@dataclass(frozen=True)
class DataParams(Parameters):
    """Parameters of the files of a data set and of what is made of them."""

    dataset: str = param(
        DEFAULT_READER,
        "how its files are read: soundtracks (also one's own data), or a reader that another package adds",
        choices=tuple(READERS),
    )
    dataset_options: str = param("", "options of that reader alone: YAML such as {name: value}")
    soundtracks_dir: str = place("", "clips (Set1/001.mp3 ...) and ratings; main: demo data without it")
    ratings: str = place("", "ratings CSV; default: mean_ratings_set1.csv in soundtracks_dir")
    midlevel_dir: str = place("", "Mid-level annotations; default: metadata_annotations in soundtracks_dir")
    tracklist: str = place("", "track list CSV; default: set1_tracklist.csv in soundtracks_dir, if any")
    targets: str = param(",".join(EMOTIONS), "columns of the ratings to predict, separated by commas")
    scale_max: float = param(SCALE_MAX, "ratings are divided by this", low=1e-6, high=1e6)
    decoder: str = param("soundfile", "reader of audio files", choices=tuple(DECODERS))
    frames: int = param(FRAMES, "length of the excerpts in frames, 31.3 a second", low=8, high=100_000)
    frontend: str = param("madmom", "madmom itself, or its equal in torch", choices=FRONTENDS)
    min_seconds: float = param(
        MIN_SECONDS, "clips that sound for less are an error", low=0.1, high=600.0, role="guard"
    )
    split_seed: int = param(SPLIT_SEED, "seed of the album split", low=0, high=2**31)
    cache_dir: str = place("", "folder for full spectrograms; default: spectrograms in RMER_HOME")
    workers: int = machine(0, "processes of preprocessing; 0: one a core", low=0, high=1024)

    def reader(self) -> DatasetReader:
        """Return the reader of the data set, with the options given; raises UserError for one it has not."""
        values = {name: getattr(self, name) for name in OF_READERS}
        given = {name: value for name, value in values.items() if value != getattr(DataParams, name)}
        where = "parameter dataset_options"
        more = parse_yaml(self.dataset_options, where) if self.dataset_options else {}
        if not isinstance(more, Mapping):
            raise UserError("is no mapping", where=where, mend="Give YAML such as {name: value}")
        options = {**given, **{str(name): value for name, value in more.items()}}
        return READERS[self.dataset].from_mapping(options, where=f"data set {self.dataset}")

    def collect(self) -> Collected:
        """Return clips, labels and files with every problem that they have.

        Raises UserError where no folder is given or an option of the reader cannot be used.
        """
        reader = self.reader()
        if not self.soundtracks_dir:
            mend = f"Give the folder that holds {reader.files}"
            raise UserError("is not given", where="parameter soundtracks_dir", mend=mend)
        return reader(Path(self.soundtracks_dir))

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
