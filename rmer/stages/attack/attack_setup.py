"""One model under attack: what the parameters of ``attack`` come to for it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property, partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from rmer.attacks.base import Attack
from rmer.attacks.method import Aim
from rmer.attacks.problem import Progress
from rmer.attacks.sound_threat import SoundThreat
from rmer.attacks.suite import white_box
from rmer.attacks.threat import Threat
from rmer.data.audio.recordings import excerpts
from rmer.data.audio.transformations import variants
from rmer.data.preparation.recording_files import SoundFiles
from rmer.data.splits import ALL
from rmer.data.standardised import Part, Standardised
from rmer.errors import UserError
from rmer.evaluation.checks.controls import Background, control_cost
from rmer.evaluation.checks.measurements import AttackedScores
from rmer.evaluation.gradient_precision import comparison_cost
from rmer.evaluation.metrics import constant_mae
from rmer.evaluation.sound_subject import SoundSubject
from rmer.evaluation.subject import Subject
from rmer.report.readable import budget_in_words, sound_budget_in_words
from rmer.stages.attack.attack_params import AttackParams
from rmer.stages.attack.victims import Victim
from rmer.stages.data.found_recordings import found_recordings
from rmer.stages.decided_precision import decided_precision
from rmer.systems.arithmetic import Precision, precision_for
from rmer.systems.audio_model import AudioModel
from rmer.systems.black_box import is_black_box
from rmer.systems.devices import clips_at_once
from rmer.systems.frozen import FrozenNetwork
from rmer.systems.listening_network import ListeningNetwork


@dataclass(frozen=True, eq=False)
class AttackSetup:
    """One model, and what is done to it."""

    victim: Victim
    params: AttackParams
    surrogate: Victim | None
    device: torch.device
    # Norm -> budget -> scores of the same model under the other norm, where it was evaluated.
    other_norm: Mapping[str, Mapping[float, AttackedScores]]
    # Other systems or seeds that were trained to the same weights (``A2B2E s6``).
    twins: Sequence[str]
    # Where the recordings lie, of domain waveform.
    sound_folder: str = ""

    @property
    def black_box(self) -> bool:
        """Whether the model is known by its predictions alone."""
        return is_black_box(self.victim.model)

    @cached_property
    def precision(self) -> Precision:
        """Arithmetic of gradients."""
        return precision_for(self.victim.model, decided_precision(self.params.precision, self.device))

    @cached_property
    def other(self) -> FrozenNetwork | None:
        """The surrogate ready for attack."""
        return None if self.surrogate is None else self._freeze(self.surrogate)

    @cached_property
    def attacks(self) -> tuple[Attack, ...]:
        """The attacks whose adversaries are reported."""
        return self.params.method.attacks(self.params.own_settings, self._aim)

    @cached_property
    def part(self) -> Part:
        """The clips under attack; raises UserError for a part of data on which the model was not trained."""
        if self.victim.own is not None and self.params.split != "test":
            what = "all clips of a data set that the model was not trained on are test clips"
            raise UserError(what, where="parameter split", mend="Leave it out")
        return self.victim.data.part(self.params.split)

    @property
    def split(self) -> str:
        """What the clips under attack are: a part of the model's own data, or all of another data set."""
        return self.params.split if self.victim.own is None else ALL

    @cached_property
    def sound(self) -> SoundFiles:
        """The recordings of the clips under attack; raises what :func:`found_recordings` does."""
        victim = self.victim
        recordings = found_recordings(
            victim.dataset, tuple(self.part.rows.tolist()), self.sound_folder, victim.dataset_run_id
        )
        return replace(recordings, normalisation=victim.data.normalisation)

    @cached_property
    def clean(self) -> Tensor:
        """What the model gets of the clips: standardised spectrograms, or samples if it takes audio."""
        model = self.victim.model
        if not isinstance(model, AudioModel):
            return self.part.inputs
        return excerpts(self.sound.recordings, self.sound.frames, peak_normalised=model.peak_normalised)

    @property
    def budget(self) -> str:
        """The reported budget in words: ``L-inf .01``, ``6 dB below what the music masks``."""
        norm = self.params.settings.get("norm", "linf")
        if self.params.on_sound:
            return sound_budget_in_words(norm, self.params.settings["budget"])
        return budget_in_words(norm, f"{self.params.reported_epsilon:g}")

    @property
    def in_words(self) -> str:
        """What is done to the model: ``suite quick, L-inf .01``."""
        settings = self.params.settings
        kind = [self.params.attack, settings.get("tier", ""), settings.get("transformations", "")]
        without = " by predictions alone" if self.black_box and self.params.suite is not None else ""
        return f"{' '.join(filter(None, kind))}{without}, {self.budget}"

    @property
    def batch_size(self) -> int:
        """Clips attacked at once."""
        return self.params.attack_batch_size or clips_at_once(self.device)

    @property
    def gradients(self) -> int:
        """The gradients that the run takes, three predictions counted as one."""
        clips, transfer = len(self.part), self.surrogate is not None
        return gradients_of_run(
            self.params, self._aim, clips=clips, precision=self.precision, transfer=transfer
        )

    def subject(self, resume: Path, progress: Progress) -> Subject:
        """Return what attacks are given; ``resume`` is the folder of finished batches."""
        common: dict[str, Any] = {
            "network": self._freeze(self.victim),
            "labels": self.part.labels,
            "seed": self.params.settings.get("attack_seed", 0),
            "batch_size": self.batch_size,
            "progress": progress,
            "resume": resume,
        }
        if not self.params.on_sound:
            threats = threat_at(self.params, self.victim.data)
            return Subject(inputs=self.part.inputs, threat_at=threats, **common)
        rows = self.sound.rows()
        around = SoundThreat.around(self.params.settings["norm"], 1.0, rows)
        return SoundSubject(
            inputs=rows,
            threat_at=lambda epsilon: replace(around, epsilon=epsilon),
            reader=FrozenNetwork(self.victim.model.to(self.device), batch_size=self.batch_size),
            files=self.sound,
            **common,
        )

    def background(self) -> Background:
        """Return what is known of the model besides."""
        return Background(
            targets=self.victim.dataset.emotions,
            trained=self.victim.logged_scores(self.split),
            constant_mae=constant_mae(self.victim.data.train.labels.numpy(), self.part.labels.numpy()),
            twins=self.twins,
            surrogate=self.other,
            other_norm=self.other_norm,
        )

    @property
    def _aim(self) -> Aim:
        return Aim(self.victim.dataset.emotions, self.victim.concepts, self.other, self.black_box)

    def _freeze(self, model: Victim) -> FrozenNetwork:
        network = model.model.to(self.device)
        if self.params.on_sound:
            frames = self.part.inputs.shape[2]
            changes = variants(self.params.transformation_names)
            network = ListeningNetwork(network, model.data.normalisation, frames, changes).to(self.device)
        return FrozenNetwork(
            network, precision=self.precision, batch_size=self.batch_size, compile=self.params.compile
        )


def gradients_of_run(
    params: AttackParams, aim: Aim, *, clips: int, precision: Precision, transfer: bool
) -> int:
    """Return the gradients that an attack run takes, three predictions counted as one.

    ``transfer`` tells whether there is another model for the controls of a suite to craft adversaries on.
    """
    attacks, targets = params.method.attacks(params.own_settings, aim), len(aim.targets)
    budgets, tier = len(params.all_epsilons), params.suite
    more = 0 if precision == "fp32" else sum(attack.polishing for attack in attacks)
    each = sum(attack.passes(targets).in_gradients for attack in attacks) + more
    gradients = each * budgets * clips
    if tier is None:
        return gradients
    gradients += control_cost(
        tier,
        targets,
        clips=clips,
        transfer=transfer,
        on_sound=params.on_sound,
        black_box=aim.black_box,
    )
    if precision == "fp32" or tier.adaptive:
        return gradients
    return gradients + comparison_cost(white_box(tier)[0], targets, clips=clips, budgets=budgets)


def threat_at(params: AttackParams, data: Standardised) -> Callable[[float], Threat]:
    """Return the threat model as a function of the budget a cell.

    Published and bridge know no box: the bridge changes one thing only.
    """
    if params.method.protocol != "corrected":
        return partial(Threat, "linf")
    cells = data.test.inputs[0].numel()
    norm = params.settings["norm"]
    return lambda epsilon: Threat.per_cell(norm, epsilon, cells, data.floor, data.ceiling)
