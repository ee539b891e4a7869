"""What the systems of a report are, one line each."""

from __future__ import annotations

from collections.abc import Sequence

from rmer.systems.catalogue import System, known_system

UNKNOWN = "a model that is not of the catalogue"
LAST_LAYERS = {
    "predicted": "as A2M2E, but emotions are fitted afterwards, on predicted concepts",
    "rated": "as A2M2E, but emotions are fitted afterwards, on rated concepts",
}


def legend(systems: Sequence[str]) -> list[tuple[str, str]]:
    """Return (row, what its system is in a line) of every row of a report."""
    return [(name, _described(known_system(name))) for name in systems]


def _described(system: System | None) -> str:
    if system is None:
        return UNKNOWN
    if system.adversarial:
        plain = system.parent or f"the same system ({_described_plainly(system)})"
        return f"{plain}, trained on attacked clips too"
    return _described_plainly(system)


def _described_plainly(system: System) -> str:
    if system.fitted_at_once:
        return "linear: ridge regression on well-known features of music"
    if system.permuted_concepts:
        return "the control: A2M2E, but taught the concepts of other clips, which mean nothing"
    if system.last_layer in LAST_LAYERS:
        return LAST_LAYERS[system.last_layer]
    if system.interpretable:
        return "interpretable: from audio to musical concepts, and from these to emotions"
    if system.has_bottleneck:
        return "black box: through a bottleneck of units that mean nothing"
    return "black box: from audio straight to emotions"
