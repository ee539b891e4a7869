"""The catalogue of systems: what is varied between them, and their names."""

from __future__ import annotations

import re
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import Literal

from rmer.errors import UserError
from rmer.nearest import did_you_mean
from rmer.parameters import listed
from rmer.registry import Registry
from rmer.systems.network import ARCHITECTURES, unit_names

# A weight in the name of a system, from 0 to 1.
SAID_WEIGHT = re.compile(r"w([01]|\.\d+|\d(?:\.\d+)?e-\d+)")

# What the layer from concepts to emotions is fitted on: trained with the rest, or by itself afterwards, on
# concepts as predicted or as rated.
LastLayer = Literal["joint", "predicted", "rated"]


@dataclass(frozen=True)
class System:
    """One point of the design: architecture, weight of the emotion loss, adversarial training or not.

    The loss is ``task_loss_weight * emotion MSE + (1 - task_loss_weight) * concept MSE``; an architecture
    without concepts has the weight 1. With ``permuted_concepts`` every training clip gets the concept labels
    of another one: the same second task, but nothing that could be interpreted. ``parent`` names the system
    that this one is a twin of: trained alike, but without attacks. Where the ``last_layer`` is not trained
    jointly, the rest learns the concepts alone (weight 0).
    """

    name: str
    arch: str
    task_loss_weight: float = 1.0
    adversarial: bool = False
    permuted_concepts: bool = False
    parent: str = ""
    last_layer: LastLayer = "joint"

    def __post_init__(self) -> None:
        if self.arch not in ARCHITECTURES:
            mend = f"Use {' or '.join(ARCHITECTURES)}"
            raise UserError(f"{self.arch!r} is no architecture", where="arch", mend=mend)
        if not 0.0 <= self.task_loss_weight <= 1.0:
            mend = "Give a number in [0, 1]"
            raise UserError(f"{self.task_loss_weight} is out of range", where="task_loss_weight", mend=mend)
        if not self.has_bottleneck and self.task_loss_weight != 1.0:
            what = f"the {self.arch} architecture has no concepts to weigh the emotions against"
            raise UserError(what, where="task_loss_weight", mend="Leave it at 1, or use arch=bottleneck")
        if self.permuted_concepts and not self.supervises_concepts:
            mend = "Give a task_loss_weight below 1 and arch=bottleneck"
            raise UserError("it learns no concepts that could be permuted", where="system placebo", mend=mend)

        if self.last_layer != "joint" and (self.task_loss_weight > 0 or self.adversarial):
            what = (
                "its last layer is fitted after the concepts, so that no emotion has a part in training these"
            )
            mend = "Leave task_loss_weight and adversarial out, or take A2M2E"
            raise UserError(what, where=f"system {self.name}", mend=mend)
        if self.fitted_at_once and self.adversarial:
            what = "its weights are fitted in closed form, to clips as they are"
            raise UserError(what, where=f"system {self.name}", mend="Leave adversarial out, or take A2E")

    @property
    def has_bottleneck(self) -> bool:
        """Whether the emotions follow from a few units that could stand for concepts."""
        return ARCHITECTURES[self.arch].has_bottleneck

    @property
    def supervises_concepts(self) -> bool:
        """Whether concept labels enter the loss."""
        return self.has_bottleneck and self.task_loss_weight < 1.0

    @property
    def interpretable(self) -> bool:
        """Whether its emotions can be explained by units that stand for what they are named after."""
        return bool(unit_names(self.arch)) or (self.supervises_concepts and not self.permuted_concepts)

    @property
    def fitted_at_once(self) -> bool:
        """Whether its weights follow from the data in closed form: no epochs, and alike for any seed."""
        return getattr(ARCHITECTURES[self.arch], "fitted_at_once", False)

    @property
    def black_box(self) -> bool:
        """Whether it is neither interpretable nor a control."""
        return not self.interpretable and not self.permuted_concepts

    def varied(
        self, *, arch: str = "", task_loss_weight: float | None = None, adversarial: bool | None = None
    ) -> System:
        """Return the system with other properties: the catalogue's where it has that one.

        Else it is named after the catalogue's system of the same kind, with the weight: ``A2M2E w.3``.
        """
        arch = arch or self.arch
        if task_loss_weight is None:
            task_loss_weight = self.task_loss_weight if arch == self.arch else usual_weight(arch)
        adversarial = self.adversarial if adversarial is None else adversarial
        wanted = replace(
            self, arch=arch, task_loss_weight=task_loss_weight, adversarial=adversarial, parent=""
        )
        kin = next((known for known in (self, *CATALOGUE.values()) if known.is_kin_of(wanted)), None)
        kin = kin or self._kin(arch, adversarial=adversarial)
        if kin.task_loss_weight == task_loss_weight:
            return kin
        said = f"w{task_loss_weight:g}".replace("0.", ".")
        parent = kin.parent and f"{kin.parent} {said}"
        return replace(kin, name=f"{kin.name} {said}", task_loss_weight=task_loss_weight, parent=parent)

    def _kin(self, arch: str, *, adversarial: bool) -> System:
        """Return the system of its usual weight for which the catalogue has no name: ``aplacebo``."""
        base = self.name.removeprefix("a") if self.adversarial else self.name
        weight = self.task_loss_weight
        if arch != self.arch:
            base, weight = f"{base} {arch}", usual_weight(arch)
        name, parent = (f"a{base}", base) if adversarial else (base, "")
        return replace(
            self, name=name, arch=arch, task_loss_weight=weight, adversarial=adversarial, parent=parent
        )

    def is_kin_of(self, other: System) -> bool:
        """Return whether two systems differ in nothing but the weight of their losses, if in that."""
        properties = ("arch", "adversarial", "permuted_concepts", "supervises_concepts", "last_layer")
        return all(getattr(self, name) == getattr(other, name) for name in properties)


def usual_weight(arch: str) -> float:
    """Return the weight of the emotion loss where nothing else is said: half, where there are concepts."""
    return 0.5 if ARCHITECTURES[arch].has_bottleneck else 1.0


OWN = (
    System("A2E", "plain"),
    System("A2B2E", "bottleneck"),
    System("A2M2E", "bottleneck", 0.5),
    System("aA2E", "plain", adversarial=True, parent="A2E"),
    System("aA2B2E", "bottleneck", adversarial=True, parent="A2B2E"),
    System("aA2M2E", "bottleneck", 0.5, adversarial=True, parent="A2M2E"),
    System("sA2M2E", "bottleneck", 0.0, last_layer="predicted"),
    System("iA2M2E", "bottleneck", 0.0, last_layer="rated"),
    System("placebo", "bottleneck", 0.5, permuted_concepts=True),
    System("ridge", "features"),
)
CATALOGUE: Registry[System] = Registry("system", "rmer.systems", {system.name: system for system in OWN})

PUBLISHED = ("A2E", "A2B2E", "A2M2E", "aA2E", "aA2B2E")


def groups() -> dict[str, tuple[str, ...]]:
    """Return names for several systems: the published study's five, and those of one property.

    They are of networks that are trained; ``ridge`` is named by itself.
    """
    systems = [system for system in CATALOGUE.values() if not system.fitted_at_once]
    chosen = {
        "blackbox": [system for system in systems if system.black_box and not system.adversarial],
        "interpretable": [system for system in systems if system.interpretable and not system.adversarial],
        "adversarial": [system for system in systems if system.adversarial],
        "control": [system for system in systems if system.permuted_concepts],
    }
    named = {group: tuple(system.name for system in members) for group, members in chosen.items()}
    return {"published": PUBLISHED, **named, "all": tuple(system.name for system in systems)}


def known_system(name: str) -> System | None:
    """Return the system of a name, of the catalogue or varied (``aplacebo w.3``); None for any other model.

    Names in the catalogue have no blanks; what follows one says what was varied, or, in brackets, how the
    model was trained.
    """
    base, *said = name.partition(" (")[0].split(" ")
    known = CATALOGUE.get(base) or _known_by_twin(base)
    if known is not None:
        for text in said:
            known = _varied_as(known, text)
    return known


def _known_by_twin(name: str) -> System | None:
    """Return the adversarially trained twin of this name that the catalogue does not have (``aplacebo``)."""
    plain = CATALOGUE.get(name.removeprefix("a"))
    with suppress(UserError):  # one that cannot be trained so
        made = plain and plain.varied(adversarial=True)
        return made if made and made.name == name else None
    return None


def _varied_as(system: System, said: str) -> System:
    """Return the variation that is named after a system so; itself where the text says none."""
    weight = SAID_WEIGHT.fullmatch(said)
    with suppress(UserError):  # a name that users gave to a model of their own
        if said in ARCHITECTURES:
            return system.varied(arch=said)
        if weight:
            return system.varied(task_loss_weight=float(weight[1]))
    return system


def resolve(names: str) -> list[System]:
    """Return the systems of a comma-separated list of names and groups, without repeats, in order."""
    found: dict[str, System] = {}
    known_groups = groups()
    for name in listed(names):
        if name not in known_groups and name not in CATALOGUE:
            known = [*CATALOGUE, *known_groups]
            mend = did_you_mean([name], known, f"Known are {', '.join(known)}")
            raise UserError(f"no system or group is called {name!r}", where="systems", mend=mend)
        found.update({member: CATALOGUE[member] for member in known_groups.get(name, (name,))})
    if not found:
        raise UserError("no system is named", where="systems", mend=f"Known are {', '.join(CATALOGUE)}")
    return list(found.values())
