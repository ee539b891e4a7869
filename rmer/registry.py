"""Named things that a package beside this one can add to: attacks, systems, architectures, data sets.

The project registers its own where they are defined. Another package adds one by an entry point of the
registry's group, whose name is the thing's name::

    [project.entry-points."rmer.systems"]
    A2X2E = "their_package:SYSTEM"
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from importlib.metadata import EntryPoint, entry_points
from typing import Generic, TypeVar, cast

from rmer.errors import UserError

T = TypeVar("T")


class Registry(Mapping[str, T], Generic[T]):
    """Name -> thing, the project's own first; those of other packages are loaded when it is first read.

    ``kind`` says in words what is registered, ``group`` is the group of entry points (``rmer.systems``).
    Raises UserError, naming the package, for an entry point that cannot be loaded or takes a name again.
    """

    def __init__(self, kind: str, group: str, own: Mapping[str, T] | None = None) -> None:
        self.kind, self.group = kind, group
        self._things: dict[str, T] = dict(own or {})
        self._complete = False

    def __getitem__(self, name: str) -> T:
        return self._all()[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._all())

    def __len__(self) -> int:
        return len(self._all())

    def _all(self) -> dict[str, T]:
        if not self._complete:
            self._complete = True  # before loading: what is loaded may look into this registry
            for point in sorted(entry_points(group=self.group), key=lambda point: point.name):
                self._add(point)
        return self._things

    def _add(self, point: EntryPoint) -> None:
        package = point.dist.name if point.dist is not None else point.value
        if point.name in self._things:
            raise UserError(
                f"there is another {self.kind} of the name {point.name}",
                where=f"package {package}",
                mend="Rename its entry point",
            )
        try:
            self._things[point.name] = cast(T, point.load())
        except Exception as error:  # another package's code: whatever it raises
            raise UserError(
                f"its {self.kind} {point.name} cannot be loaded ({type(error).__name__}: {error})",
                where=f"package {package}",
                mend="Mend or remove that package",
            ) from error
