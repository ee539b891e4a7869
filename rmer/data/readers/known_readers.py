"""The readers of data sets by name; a package adds one by an entry point of the group ``rmer.datasets``."""

from __future__ import annotations

from rmer.data.readers.deam import Deam
from rmer.data.readers.emopia import Emopia
from rmer.data.readers.folder import Folder
from rmer.data.readers.jamendo_mood import JamendoMood
from rmer.data.readers.pmemo import Pmemo
from rmer.data.readers.reader import DatasetReader
from rmer.data.readers.soundtracks import Soundtracks
from rmer.data.readers.soundtracks1 import Soundtracks1
from rmer.data.readers.soundtracks2 import Soundtracks2
from rmer.registry import Registry

DEFAULT_READER = "soundtracks"
OWN: dict[str, type[DatasetReader]] = {
    DEFAULT_READER: Soundtracks,
    "soundtracks1": Soundtracks1,
    "soundtracks2": Soundtracks2,
    "deam": Deam,
    "pmemo": Pmemo,
    "emopia": Emopia,
    "jamendo_mood": JamendoMood,
    "folder": Folder,
}
READERS: Registry[type[DatasetReader]] = Registry("data set", "rmer.datasets", OWN)
