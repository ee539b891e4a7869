"""Parameters that say where a data set's files lie and how to read them, shared by all stages that do."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from rmer.data.audio.decoders import DECODERS
from rmer.data.audio.frontend import FRAMES, FRONTENDS, File2Spect
from rmer.data.audio.soundness import MIN_SECONDS
from rmer.data.dataset import EMOTIONS
from rmer.data.demo.demo_files import MANIFEST_FILE
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
COLUMNS = (
    "id_column",
    "file_column",
    "group_column",
    "split_column",
    "class_column",
    "tag_column",
    "time_column",
)
OF_READERS = ("ratings", "midlevel_dir", "tracklist", "targets", "scale_min", "scale_max", *COLUMNS)


@dataclass(frozen=True)
class DataParams(Parameters):
    """Parameters of the files of a data set and of what is made of them."""

    dataset: str = param(
        DEFAULT_READER,
        "data set, or how its files are read: soundtracks (also one's own data in its layout), folder (any "
        "sounds with a table), or a reader that another package adds",
        choices=tuple(READERS),
    )
    dataset_options: str = param("", "options of that reader alone: YAML such as {name: value}")
    data_dir: str = place("", "folder of the data set; main: demo data without it")
    soundtracks_dir: str = place("", "the same as data_dir, for Soundtracks")
    ratings: str = place("", "ratings CSV; default: mean_ratings_set1.csv in soundtracks_dir")
    midlevel_dir: str = place("", "Mid-level annotations; default: metadata_annotations in soundtracks_dir")
    tracklist: str = place("", "track list CSV; default: set1_tracklist.csv in soundtracks_dir, if any")
    targets: str = param(
        ",".join(EMOTIONS), "columns to predict, or new=old, by commas; other data sets: default all"
    )
    scale_min: float = param(0.0, "folder: the smallest possible rating", low=-1e6, high=1e6)
    scale_max: float = param(
        SCALE_MAX, "the largest possible rating; ratings are divided by it", low=1e-6, high=1e6
    )
    id_column: str = param(
        "", "folder: column that identifies clips; default: clip, id, file ... or the first"
    )
    file_column: str = param("", "folder: column of the files; default: file, path ... or id_column")
    group_column: str = param("", "folder: column of what no split tears apart (album, artist)")
    split_column: str = param("", "folder: column of the official split (train, validation, test)")
    class_column: str = param("", "folder: column of classes, one a clip, instead of ratings")
    tag_column: str = param("", "folder: column of tags, several a clip, instead of ratings")
    time_column: str = param(
        "", "folder: column of seconds; rows of a clip are ratings over time, in windows"
    )
    decoder: str = param("soundfile", "reader of audio files", choices=tuple(DECODERS))
    frames: int = param(FRAMES, "length of the excerpts in frames, 31.3 a second", low=8, high=100_000)
    frontend: str = param("madmom", "madmom itself, or its equal in torch", choices=FRONTENDS)
    min_seconds: float = param(
        MIN_SECONDS, "clips that sound for less are an error", low=0.1, high=600.0, role="guard"
    )
    split_seed: int = param(SPLIT_SEED, "seed of the album split", low=0, high=2**31)
    cache_dir: str = place("", "folder for full spectrograms; default: spectrograms in RMER_HOME")
    workers: int = machine(0, "processes of preprocessing; 0: one a core", low=0, high=1024)

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.data_dir and self.soundtracks_dir and self.data_dir != self.soundtracks_dir:
            mend = "They are the same: give one"
            raise UserError("is another folder than soundtracks_dir", where="parameter data_dir", mend=mend)
        object.__setattr__(self, "soundtracks_dir", self.data_dir or self.soundtracks_dir)

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
            name = "soundtracks_dir" if self.dataset == DEFAULT_READER else "data_dir"
            raise UserError("is not given", where=f"parameter {name}", mend=mend)
        folder = Path(self.soundtracks_dir)
        if self.dataset != DEFAULT_READER and not folder.is_dir():
            mend = f"Give the folder that holds {reader.files}"
            raise UserError("is not a folder", where=str(folder), mend=mend)
        return reader(folder)

    def dataset_name(self) -> str:
        """Return what the data set is called on runs: by its own name, else by that of its folder."""
        folder = Path(self.soundtracks_dir).absolute()
        if (folder / MANIFEST_FILE).is_file():
            return "demo"
        return READERS[self.dataset].title or folder.name

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
