"""What every reader of a data set has in common."""

from __future__ import annotations

import dataclasses
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import pandas as pd

from rmer.data.readers.collection import FEWEST_CLIPS, Collected
from rmer.data.tables.rating_scale import RatingScale
from rmer.data.tables.ratings import SCALE_MAX
from rmer.data.tables.target_names import asked_for, metric_names
from rmer.data.tables.text_tables import some
from rmer.errors import UserError
from rmer.nearest import did_you_mean
from rmer.parameters import Parameters


@dataclass(frozen=True)
class DatasetReader(Parameters, ABC):
    """Reads the files of one data set; a call takes the folder and returns :class:`Collected`.

    A reader is a frozen dataclass whose fields are its options: parameters of ``preprocess`` that it takes
    under the same name (``tracklist``, say), and others of its own, declared with
    :func:`rmer.parameters.param`. It writes :meth:`read`, and says which ``files`` its folder holds, how to
    cite the data set, under which licence it may be used, and what its ``faults`` are that one should know
    of. ``title`` is the data set's own name; one without is called by its folder. ``targets`` are those to
    predict, by commas ("": all that the data set has), each ``heading`` or ``name=heading``
    (:mod:`rmer.data.tables.target_names`).
    """

    files: ClassVar[str]
    title: ClassVar[str] = ""
    citation: ClassVar[str] = ""
    licence: ClassVar[str] = ""
    faults: ClassVar[tuple[str, ...]] = ()

    targets: str = ""

    @property
    def rating_scale(self) -> RatingScale:
        """The ratings that labels of 0 and of 1 stand for."""
        return RatingScale(0.0, float(getattr(self, "scale_max", SCALE_MAX)))

    @abstractmethod
    def read(self, folder: Path) -> Collected:
        """Return clips, labels and files; every problem of the files is handed back, none is raised.

        The clip table may lack ``file``, ``album`` and ``track``. Raises UserError only for options that
        cannot be used.
        """

    def target_names(self) -> tuple[str, ...]:
        """Return the headings in ``targets``."""
        return tuple(asked_for(self.targets))

    def __call__(self, folder: Path) -> Collected:
        """Read a data set, and hold it to what is asked of any; raises what :meth:`read` does."""
        found = self.read(folder)
        names = found.clips["clip"].tolist()
        files = [_relative(found.audio.get(name), folder) for name in names]
        clips = pd.DataFrame({"file": files, "album": "", "track": ""}, index=found.clips.index)
        clips[found.clips.columns] = found.clips
        named = self._named(found.emotions)
        # Of columns that are read and not asked for, none may have the new name of another.
        clips = clips.drop(columns=set(found.emotions) - set(named)).rename(columns=named)
        emotions = tuple(named.values())
        titles = {name: heading for heading, name in named.items() if name != heading}
        columns = ["clip", "file", "album", "track", *emotions, *found.concepts]
        problems = found.problems
        if 0 < len(names) < FEWEST_CLIPS:
            few = f"{len(names)} clips are too few to divide: at least {FEWEST_CLIPS} are needed"
            problems = (*problems, few)
        return dataclasses.replace(
            found, clips=clips[columns], emotions=emotions, problems=problems, titles=titles
        )

    def _named(self, found: Sequence[str]) -> dict[str, str]:
        """Return heading -> name of the targets asked for; raises UserError where the data set lacks one."""
        asked = asked_for(self.targets)
        unknown = sorted(heading for heading in asked if heading not in found)
        if unknown and found:
            mend = did_you_mean(unknown, found, f"Give some of {some(found, 60)}")
            raise UserError(f"there is no {', '.join(unknown)}", where="parameter targets", mend=mend)
        return asked if asked and found else metric_names(found)


def _relative(path: Path | None, folder: Path) -> str:
    if path is None:
        return ""
    return path.relative_to(folder).as_posix() if path.is_relative_to(folder) else path.name
