"""What every reader of a data set has in common."""

from __future__ import annotations

import dataclasses
from abc import ABC, abstractmethod
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import pandas as pd

from rmer.data.readers.collection import FEWEST_CLIPS, Collected
from rmer.errors import UserError
from rmer.parameters import Parameters


@dataclass(frozen=True)
class DatasetReader(Parameters, ABC):
    """Reads the files of one data set; a call takes the folder and returns :class:`Collected`.

    A reader is a frozen dataclass whose fields are its options: parameters of ``preprocess`` that it takes
    under the same name (``tracklist``, say), and others of its own, declared with
    :func:`rmer.parameters.param`. It writes :meth:`read`, and says which ``files`` its folder holds, how to
    cite the data set, and under which licence it may be used. ``targets`` are those to predict, by commas
    ("": all that the data set has).
    """

    files: ClassVar[str]
    citation: ClassVar[str] = ""
    licence: ClassVar[str] = ""

    targets: str = ""

    @abstractmethod
    def read(self, folder: Path) -> Collected:
        """Return clips, labels and files; every problem of the files is handed back, none is raised.

        The clip table may lack ``file``, ``album`` and ``track``. Raises UserError only for options that
        cannot be used.
        """

    def target_names(self) -> tuple[str, ...]:
        """Return the names in ``targets``."""
        return tuple(filter(None, map(str.strip, self.targets.split(","))))

    def __call__(self, folder: Path) -> Collected:
        """Read a data set, and hold it to what is asked of any; raises what :meth:`read` does."""
        found = self.read(folder)
        names = found.clips["clip"].tolist()
        files = [_relative(found.audio.get(name), folder) for name in names]
        clips = pd.DataFrame({"file": files, "album": "", "track": ""}, index=found.clips.index)
        clips[found.clips.columns] = found.clips
        emotions = self.target_names() or found.emotions
        if unknown := set(emotions) - set(found.emotions):
            mend = f"Give some of {', '.join(found.emotions)}"
            raise UserError(f"there is no {', '.join(sorted(unknown))}", where="parameter targets", mend=mend)
        columns = ["clip", "file", "album", "track", *emotions, *found.concepts]
        problems = found.problems
        if 0 < len(names) < FEWEST_CLIPS:
            few = f"{len(names)} clips are too few to divide: at least {FEWEST_CLIPS} are needed"
            problems = (*problems, few)
        return dataclasses.replace(found, clips=clips[columns], emotions=emotions, problems=problems)


def _relative(path: Path | None, folder: Path) -> str:
    if path is None:
        return ""
    return path.relative_to(folder).as_posix() if path.is_relative_to(folder) else path.name
