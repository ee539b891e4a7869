"""What every attack shares: batching over clips, cost accounting, and a budget that cannot be forgotten."""

from __future__ import annotations

import time
from abc import abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, ClassVar, final

import torch
from torch import Tensor, nn

from rmer.attacks.finished_batches import remembered
from rmer.attacks.method import Aim, AttackMethod
from rmer.attacks.problem import Problem, Progress, clip_generator, forget, untold
from rmer.attacks.result import AttackResult, Crafted, Passes
from rmer.attacks.threat import Threat, l2_norms, linf_norms
from rmer.systems.devices import fixed_shapes
from rmer.systems.frozen import FrozenNetwork


class BudgetError(AssertionError):
    """An attack returned an adversary outside its threat model: a bug in the attack."""


class Attack(AttackMethod):
    """Base class. Calling an attack crafts, checks and measures; a subclass writes only :meth:`run`."""

    # Whether adversaries must satisfy the threat model. Only the published attack, which never enforced its
    # epsilon, sets this to False: its violations are then counted, not raised.
    enforced: ClassVar[bool] = True
    # Whether it draws random numbers, so that its seed determines the result.
    random: ClassVar[bool] = False
    # Whether all clips, and all budgets, are one pool of work that it cuts into batches itself.
    pooled: ClassVar[bool] = False

    @classmethod
    def attacks(cls, settings: Mapping[str, Any], aim: Aim) -> tuple[Attack, ...]:
        return (cls.built(settings, aim),)

    @classmethod
    def built(cls, settings: Mapping[str, Any], aim: Aim) -> Attack:
        """Return the attack with a value for each of its settings."""
        return cls(**settings)

    @abstractmethod
    def run(self, network: FrozenNetwork, problem: Problem) -> Crafted:
        """Craft adversaries for one batch; clips do not influence each other unless the attack is joint."""

    @property
    def joint(self) -> bool:
        """Whether the clips of a split are attacked together, as one batch."""
        return False

    @property
    def metric(self) -> str:
        """The metric that :attr:`Crafted.adversaries` are worst for."""
        return "mae"

    @abstractmethod
    def passes(self, targets: int) -> Passes:
        """Return the cost of a clip for a model of ``targets`` outputs, with gradients in float32."""

    @property
    def polishing(self) -> int:
        """Gradients in float32 that a search in bfloat16 takes of a clip besides."""
        return 0

    def least_passes(self, targets: int) -> Passes:
        """Return the least cost of a clip, for attacks that may be done early."""
        return self.passes(targets)

    @final
    def __call__(
        self,
        model: nn.Module | FrozenNetwork,
        inputs: Tensor,
        labels: Tensor,
        threat: Threat,
        *,
        seed: int = 0,
        batch_size: int = 8,
        warm_start: Tensor | None = None,
        progress: Progress | None = None,
        resume: Path | None = None,
    ) -> AttackResult:
        """Attack every clip of a split.

        Parameters
        ----------
        model : maps [batch, 1, frames, bands] to {"output": [batch, targets], "c_prob": ...}
        inputs : [clips, 1, frames, bands], standardised
        labels : [clips, targets], what the attack moves away from
        seed : of all that is random; what clip i draws does not depend on ``batch_size``
        warm_start : adversaries of a smaller budget, [clips, 1, frames, bands], as one more start
        progress : called with the number of clips done after each batch; pooled attacks tell parts of clips
        resume : folder for finished batches; those found there are not attacked again

        Raises BudgetError where an adversary of an enforced attack leaves ``threat``
        """
        network = model if isinstance(model, FrozenNetwork) else FrozenNetwork(model, batch_size=batch_size)
        remember = forget if resume is None else partial(remembered, resume)
        parts: list[Crafted] = []
        with fixed_shapes(network.device):
            for first, problem in self._problems(inputs, labels, threat, seed, batch_size, warm_start):
                clips = len(problem.inputs)
                if self.pooled:
                    problem = replace(problem, remember=remember, progress=progress or untold)
                parts.append(remember(f"{first:05d}-{clips}", partial(self._craft, network, problem)))
                if progress is not None and not self.pooled:
                    progress(clips)
        return self._measure(inputs.cpu(), parts, threat)

    @final
    def over_budgets(
        self,
        model: nn.Module | FrozenNetwork,
        inputs: Tensor,
        labels: Tensor,
        threats: Sequence[Threat],
        *,
        seed: int = 0,
        batch_size: int = 8,
        progress: Progress | None = None,
        resume: Path | None = None,
    ) -> list[AttackResult]:
        """Attack every clip within each of several budgets, all at once; one result a budget, as if alone.

        For ``pooled`` attacks; see :meth:`__call__` for the parameters. A clip draws the same random numbers
        for every budget.
        """
        network = model if isinstance(model, FrozenNetwork) else FrozenNetwork(model, batch_size=batch_size)
        remember = forget if resume is None else partial(remembered, resume)
        clips, times = len(inputs), len(threats)
        problem = Problem(
            torch.cat([inputs] * times),
            torch.cat([labels] * times),
            threats[0].pooled(threats, clips),
            [clip_generator(seed, index) for _ in threats for index in range(clips)],
            remember=remember,
            progress=progress or untold,
            clips=torch.arange(clips).repeat(times),
        )
        with fixed_shapes(network.device):
            whole = remember("pool", partial(self._craft, network, problem))
        return [
            self._measure(inputs.cpu(), [whole.rows(slice(place * clips, (place + 1) * clips))], threat)
            for place, threat in enumerate(threats)
        ]

    def shared(
        self,
        network: FrozenNetwork,
        inputs: Tensor,
        labels: Tensor,
        threats: Sequence[Threat],
        results: Sequence[AttackResult],
    ) -> list[AttackResult]:
        """Return the results of ascending budgets after these have learnt from each other; most do not."""
        return list(results)

    @final
    def remeasured(self, inputs: Tensor, part: Crafted, threat: Threat, before: AttackResult) -> AttackResult:
        """Check and measure adversaries that were found at the cost of a result and some predictions more."""
        part = replace(part, gradients=before.gradients, forwards=before.forwards, seconds=before.seconds)
        problem = Problem(inputs.cpu(), inputs.new_empty(0), threat.on(torch.device("cpu")), [])
        return self._measure(problem.inputs, [problem.settled(part.cpu())], problem.threat)

    @final
    def on_device(
        self,
        network: FrozenNetwork,
        inputs: Tensor,
        labels: Tensor,
        threat: Threat,
        *,
        seed: int = 0,
        batch_size: int = 8,
    ) -> tuple[Tensor, Tensor]:
        """Attack clips that lie on the network's device and leave all there: what training needs.

        Returns the adversaries [clips, 1, frames, bands], and which of them leave ``threat`` (bool [clips]),
        for the caller to look at when it waits for the device anyway (:func:`require_none`).
        """
        problems = self._problems(inputs, labels, threat, seed, batch_size, None)
        parts = []
        for _, problem in problems:
            problem = problem.on(network)
            found = self.run(network, problem).adversaries
            parts.append(problem.threat.settle(problem.inputs, found))
        adversaries = torch.cat(parts)
        return adversaries, threat.violations(inputs, adversaries)

    def _problems(
        self,
        inputs: Tensor,
        labels: Tensor,
        threat: Threat,
        seed: int,
        batch_size: int,
        warm_start: Tensor | None,
    ) -> Iterator[tuple[int, Problem]]:
        """Yield the batches of a split, each with the place of its first clip."""
        size = len(inputs) if self.joint or self.pooled else batch_size
        for first in range(0, len(inputs), size):
            rows = slice(first, min(first + size, len(inputs)))
            generators = [clip_generator(seed, index) for index in range(first, rows.stop)]
            start = None if warm_start is None else warm_start[rows]
            yield first, Problem(inputs[rows], labels[rows], threat.of(rows), generators, start)

    def _craft(self, network: FrozenNetwork, problem: Problem) -> Crafted:
        spent, started = (network.gradients, network.forwards), time.perf_counter()
        problem = problem.on(network)
        part = problem.settled(self.run(network, problem)).cpu()
        return replace(
            part,
            # What an attack spends on other networks, or has spent before, it states itself.
            gradients=part.gradients + network.gradients - spent[0],
            forwards=part.forwards + network.forwards - spent[1],
            seconds=part.seconds + time.perf_counter() - started,
        )

    def _measure(self, clean: Tensor, parts: list[Crafted], threat: Threat) -> AttackResult:
        adversaries = torch.cat([part.adversaries for part in parts])
        also = {metric: torch.cat([part.also[metric] for part in parts]) for metric in parts[0].also}
        violations = threat.violations(clean, adversaries)
        for others in also.values():
            violations = violations | threat.violations(clean, others)
        if self.enforced:
            require_none(violations, threat, self.name)
        delta = adversaries.double() - clean.double()
        return AttackResult(
            adversaries=adversaries,
            also=also,
            columns={name: torch.cat([part.columns[name] for part in parts]) for name in parts[0].columns},
            linf=linf_norms(delta),
            l2=l2_norms(delta),
            violations=violations,
            gradients=sum(part.gradients for part in parts),
            forwards=sum(part.forwards for part in parts),
            seconds=sum(part.seconds for part in parts),
        )


def require_none(violations: Tensor, threat: Threat, name: str) -> None:
    """Raise BudgetError where ``violations`` [clips] of an attack's threat model are not all False."""
    if bool(violations.any()):
        clips = violations.nonzero().flatten().tolist()
        raise BudgetError(f"{name}: {threat.norm} epsilon {threat.epsilon} exceeded on clips {clips}")
