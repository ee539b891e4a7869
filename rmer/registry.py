"""Named things that a package beside this one can add to: systems, attacks, metrics, data sets, ...

The project registers its own where they are defined. Another package adds one by an entry point of the
registry's group, whose name is the thing's name::

    [project.entry-points."rmer.systems"]
    A2X2E = "their_package:SYSTEM"
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from functools import cached_property
from importlib.metadata import EntryPoint, entry_points
from typing import Generic, TypeVar, cast

from rmer.errors import UserError

T = TypeVar("T")


class Registry(Mapping[str, T], Generic[T]):
    """Name -> thing, the project's own first; one of another package is loaded when it is asked for.

    ``kind`` says in words what is registered, ``group`` is the group of entry points (``rmer.systems``).
    Raises UserError, naming the package, for an entry point that cannot be loaded or takes a name again.
    """

    def __init__(self, kind: str, group: str, own: Mapping[str, T]) -> None:
        self.kind, self.group = kind, group
        self._loaded = dict(own)

    def __getitem__(self, name: str) -> T:
        if name not in self._loaded:
            self._loaded[name] = self._load(self._others[name])
        return self._loaded[name]

    def __iter__(self) -> Iterator[str]:
        return iter(dict.fromkeys([*self._loaded, *self._others]))

    def __len__(self) -> int:
        return len(list(iter(self)))

    @cached_property
    def _others(self) -> dict[str, EntryPoint]:
        points = {point.name: point for point in entry_points(group=self.group)}
        for name in sorted(set(points) & set(self._loaded)):
            what = f"there is another {self.kind} of the name {name}"
            raise UserError(what, where=_package(points[name]), mend="Rename its entry point")
        return points

    def _load(self, point: EntryPoint) -> T:
        try:
            return cast(T, point.load())
        except Exception as error:  # another package's code: whatever it raises
            what = f"its {self.kind} {point.name} cannot be loaded ({type(error).__name__}: {error})"
            raise UserError(what, where=_package(point), mend="Mend or remove that package") from error


def _package(point: EntryPoint) -> str:
    return f"package {point.dist.name if point.dist is not None else point.value}"
