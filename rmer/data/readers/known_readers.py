"""The readers of data sets by name; a package adds one by an entry point of the group ``rmer.datasets``."""

from __future__ import annotations

from rmer.data.readers.reader import DatasetReader
from rmer.data.readers.soundtracks import Soundtracks
from rmer.registry import Registry

DEFAULT_READER = "soundtracks"
READERS: Registry[type[DatasetReader]] = Registry("data set", "rmer.datasets", {DEFAULT_READER: Soundtracks})
