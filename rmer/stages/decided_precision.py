"""The arithmetic of gradients that ``precision`` comes to on this machine, decided once and kept."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, TypeVar

import torch

from rmer.parameters import Parameters
from rmer.systems.arithmetic import Precision
from rmer.systems.devices import resolve_device
from rmer.systems.fastest_precision import resolve_precision
from rmer.tracking.private import private_folder

P = TypeVar("P", bound=Parameters)


def decided_precision(name: str, device: torch.device) -> Precision:
    """Return the precision called ``name``; what ``auto`` measured is kept under ``RMER_HOME``."""
    return resolve_precision(name, device, private_folder("arithmetic") if name == "auto" else None)


def with_decided_precision(params: P) -> P:
    """Return parameters for jobs with the precision that ``auto`` is here.

    Whoever hands out jobs decides for all of them: workers on other machines would come to other decisions,
    and models of one study would not be comparable.
    """
    given: Any = params
    if getattr(given, "precision", None) != "auto":
        return params
    changed: P = replace(given, precision=decided_precision("auto", resolve_device(given.device)))
    return changed
