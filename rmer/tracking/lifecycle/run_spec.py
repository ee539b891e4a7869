"""What a run is to be, and how it went."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from rmer.tracking.schema import config_digest


@dataclass(frozen=True)
class RunSpec:
    """What a run is: ``config`` holds everything that determines its result, ``tags`` help to find it."""

    stage: str
    name: str
    config: Mapping[str, Any]
    tags: Mapping[str, str] = field(default_factory=dict)
    study: str | None = None

    @property
    def digest(self) -> str:
        """The idempotence key, tag ``rmer.config``."""
        return config_digest(self.stage, self.config)


@dataclass(frozen=True)
class Outcome:
    """How a run went: ``skipped`` when it was done before, ``waiting`` records when the store went away.

    ``name`` is that of the run, ``metrics`` holds the latest value of each, also of those that wait.
    """

    run_id: str
    skipped: bool = False
    resumed: bool = False
    waiting: int = 0
    metrics: Mapping[str, float] = field(default_factory=dict)
    name: str = ""
