"""The catalogue of systems: what is varied between them, and their names."""

from __future__ import annotations

from dataclasses import dataclass

from rmer.errors import UserError
from rmer.parameters import listed
from rmer.systems.network import Arch


@dataclass(frozen=True)
class System:
    """One point of the design: architecture, weight of the emotion loss, adversarial training or not.

    The loss is ``task_loss_weight * emotion MSE + (1 - task_loss_weight) * concept MSE``; the plain
    architecture has no concepts, so its weight is always 1. With ``permuted_concepts`` every training clip
    gets the concept labels of another one: the same second task, but nothing that could be interpreted.
    """

    arch: Arch
    task_loss_weight: float = 1.0
    adversarial: bool = False
    permuted_concepts: bool = False

    def __post_init__(self) -> None:
        if self.arch not in ("plain", "bottleneck"):
            raise UserError(f"{self.arch!r} is no architecture", where="arch", mend="Use plain or bottleneck")
        if not 0.0 <= self.task_loss_weight <= 1.0:
            raise UserError(
                f"{self.task_loss_weight} is out of range",
                where="task_loss_weight",
                mend="Give a number in [0, 1]",
            )
        if self.arch == "plain" and self.task_loss_weight != 1.0:
            raise UserError(
                "the plain architecture has no concepts to weigh the emotions against",
                where="task_loss_weight",
                mend="Leave it at 1, or use arch=bottleneck",
            )
        if self.permuted_concepts and not self.supervises_concepts:
            raise UserError(
                "it learns no concepts that could be permuted",
                where="system placebo",
                mend="Give a task_loss_weight below 1 and arch=bottleneck",
            )

    @property
    def supervises_concepts(self) -> bool:
        """Whether concept labels enter the loss."""
        return self.arch == "bottleneck" and self.task_loss_weight < 1.0

    @property
    def names_concepts(self) -> bool:
        """Whether the bottleneck's units stand for the concepts that they are named after."""
        return self.supervises_concepts and not self.permuted_concepts

    @property
    def name(self) -> str:
        """``A2E`` .. ``aA2M2E``, ``placebo``; an uncatalogued weight is appended: ``A2M2E w.3``."""
        if self.permuted_concepts:
            stem = "placebo"
        elif self.arch == "plain":
            stem = "A2E"
        elif self.task_loss_weight == 1.0:
            stem = "A2B2E"
        else:
            stem = "A2M2E"
        suffix = (
            "" if self.task_loss_weight in (0.5, 1.0) else f" w{self.task_loss_weight:g}".replace("0.", ".")
        )
        return f"{'a' if self.adversarial else ''}{stem}{suffix}"


CATALOGUE: dict[str, System] = {
    system.name: system
    for adversarial in (False, True)
    for system in (
        System("plain", 1.0, adversarial),
        System("bottleneck", 1.0, adversarial),
        System("bottleneck", 0.5, adversarial),
    )
} | {"placebo": System("bottleneck", 0.5, permuted_concepts=True)}

PUBLISHED = ("A2E", "A2B2E", "A2M2E", "aA2E", "aA2B2E")

GROUPS: dict[str, tuple[str, ...]] = {
    "published": PUBLISHED,
    "blackbox": ("A2E", "A2B2E"),
    "interpretable": ("A2M2E",),
    "adversarial": ("aA2E", "aA2B2E"),
    "control": ("placebo",),
    "all": tuple(CATALOGUE),
}


def resolve(names: str) -> list[System]:
    """Return the systems of a comma-separated list of names and groups, without repeats, in order."""
    found: dict[str, System] = {}
    for name in listed(names):
        if name not in GROUPS and name not in CATALOGUE:
            raise UserError(
                f"no system or group is called {name!r}",
                where="systems",
                mend=f"Known are {', '.join([*CATALOGUE, *GROUPS])}",
            )
        found.update({member: CATALOGUE[member] for member in GROUPS.get(name, (name,))})
    if not found:
        raise UserError("no system is named", where="systems", mend=f"Known are {', '.join(CATALOGUE)}")
    return list(found.values())
