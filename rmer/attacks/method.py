"""What ``rmer attack`` can do to a model, what it needs for that, and what of it users can set."""

from __future__ import annotations

import dataclasses
import functools
import typing
from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from types import NoneType
from typing import TYPE_CHECKING, Any, ClassVar

from rmer.systems.frozen import FrozenNetwork

if TYPE_CHECKING:
    from rmer.attacks.base import Attack

# The reported budget a cell of corrected attacks (the primary endpoint), in standardised units.
REPORTED = 0.01


@dataclass(frozen=True)
class Setting:
    """What users can set of an attack: its default, its type (bool, int, float, str), and its rules.

    ``rules`` are those of :func:`rmer.parameters.param`.
    """

    default: Any
    kind: type[Any]
    rules: Mapping[str, Any]


@dataclass(frozen=True, eq=False)
class Aim:
    """What settings refer to: names of a model's targets and concepts, and a surrogate, if there is one.

    ``black_box`` tells of a model that is known by its predictions alone.
    """

    targets: tuple[str, ...]
    concepts: tuple[str, ...] = ()
    surrogate: FrozenNetwork | None = None
    black_box: bool = False


class AttackMethod(ABC):
    """One attack, or a suite of several, registered under its name in :mod:`rmer.attacks.known_attacks`.

    Its settings are the fields of its dataclass that are made with :func:`rmer.parameters.param`. A setting
    that several attacks have under one name means the same in all of them.
    """

    name: ClassVar[str]
    # Only corrected attacks know a box, norms, several budgets, and a seed.
    protocol: ClassVar[str] = "corrected"
    # The budget a cell where users name none, in standardised units.
    epsilon: ClassVar[float] = REPORTED
    # Whether a budget of 0 makes no sense, as a curve or the least budget is looked for.
    needs_budget: ClassVar[bool] = False
    # Whether adversaries are crafted on another model where there is one, and whether there has to be one.
    takes_surrogate: ClassVar[bool] = False
    needs_surrogate: ClassVar[bool] = False
    # Whether it can attack the samples of a recording, too; then it knows no shape of clips.
    on_sound: ClassVar[bool] = True
    # Whether it makes use of the adversaries of a smaller budget.
    starts_warm: ClassVar[bool] = False

    @classmethod
    def settings(cls) -> Mapping[str, Setting]:
        """Return what users can set, by name."""
        return settings_of(cls)

    @classmethod  # noqa: B027 - most have nothing to check
    def check(cls, given: Mapping[str, Any]) -> None:
        """Raise UserError, before any model is known, for settings that do not go together.

        ``given`` are those that users gave.
        """

    @classmethod
    def epsilons(cls, settings: Mapping[str, Any]) -> tuple[float, ...]:
        """Return the budgets a cell besides the reported one, where users name none."""
        return ()

    @classmethod
    def implied(cls, settings: Mapping[str, Any], *, black_box: bool = False) -> dict[str, Any]:
        """Return what settings stand for, should that ever change: it determines the result as they do.

        ``black_box`` as in :class:`Aim`.
        """
        return {}

    @classmethod
    @abstractmethod
    def attacks(cls, settings: Mapping[str, Any], aim: Aim) -> tuple[Attack, ...]:
        """Return the attacks that are reported; ``settings`` has a value for each of :meth:`settings`.

        Raises UserError where a loss names no target and no concept.
        """


@functools.cache  # type hints are slow to resolve, and every set of parameters asks for all attacks
def settings_of(attack: Any) -> Mapping[str, Setting]:
    """Return the settings of a dataclass by their names; the defaults are those of an instance, if given."""
    kind = attack if isinstance(attack, type) else type(attack)
    hints = typing.get_type_hints(kind)
    return {
        field.metadata.get("option", field.name): _setting(
            getattr(attack, field.name), hints[field.name], field.metadata
        )
        for field in dataclasses.fields(kind)
        if "help" in field.metadata
    }


def _setting(default: Any, hint: Any, rules: Mapping[str, Any]) -> Setting:
    kinds = [kind for kind in (typing.get_args(hint) or (hint,)) if kind is not NoneType]
    if typing.get_origin(hint) is typing.Literal:
        return Setting(default, str, {**rules, "choices": tuple(kinds)})
    if isinstance(default, tuple):  # objectives
        return Setting(",".join(part.name for part in default), str, rules)
    return Setting(default, kinds[0], rules)
