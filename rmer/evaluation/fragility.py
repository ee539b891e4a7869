"""How fragile the prediction of a song is: the smallest budget found that moves one of its emotions.

What is attacked is the mean prediction of all seeds on one window, the one whose prediction is nearest to
that of the whole song. Bisection (:mod:`rmer.attacks.minimum_norm`) ends at a budget that is enough, so that
the true smallest one is not larger: an upper bound.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn

from rmer.attacks.apgd import APGD
from rmer.attacks.attack_domains import SPECTROGRAM, WAVEFORM
from rmer.attacks.largest_move import LargestMove
from rmer.attacks.minimum_norm import MinimumNorm
from rmer.attacks.result import AttackResult
from rmer.attacks.sound_budgets import epsilon_of, level
from rmer.attacks.sound_threat import SoundThreat
from rmer.attacks.threat import Threat
from rmer.data.audio.frontend import File2Spect
from rmer.data.audio.recordings import HEADER, Recording, Samples
from rmer.data.preparation.recording_files import SoundFiles
from rmer.data.preparation.songs import Song
from rmer.errors import UserError
from rmer.evaluation.endpoints import Floats
from rmer.evaluation.song_emotions import Audio2Emotions, SongEmotions
from rmer.evaluation.sound_subject import SoundSubject
from rmer.systems.arithmetic import Precision
from rmer.systems.black_box import is_black_box
from rmer.systems.frozen import FrozenNetwork
from rmer.systems.listening_network import ListeningNetwork
from rmer.systems.network import Prediction

MOVE = 0.1
DOMAINS = (WAVEFORM, SPECTROGRAM)  # the default first
# Largest budgets that are tried: what the music masks, and .1 standardised units a cell.
MOST = {WAVEFORM: epsilon_of("masking", 0.0), SPECTROGRAM: 0.1}
STEPS, BISECTIONS = 10, 7


@dataclass(frozen=True, eq=False)
class Fragility:
    """The smallest budget found that moves an emotion of a window by ``move`` (in 0-1).

    Attributes
    ----------
    domain : "waveform", where a budget is a level in dB over what the music masks, or "spectrogram", where
        it is a number of standardised units a cell
    budget : the smallest one found; NaN where even ``most`` moves no emotion that far
    emotion, moved : which one moves most at that budget (or at ``most``), and by how much, signed (in 0-1)
    second : of the song in the middle of the window
    before, after : predictions for the window [emotions], in 0-1
    clean, adversary : int16 [samples] of the window at 22 050 Hz; None of domain spectrogram
    gradients : passes forward and backward that it took, of the mean of all seeds
    """

    domain: str
    move: float
    most: float
    budget: float
    emotion: str
    moved: float
    second: float
    before: Floats
    after: Floats
    clean: Samples | None
    adversary: Samples | None
    gradients: int

    @property
    def found(self) -> bool:
        """Whether any budget was enough."""
        return not math.isnan(self.budget)

    @property
    def in_words(self) -> str:
        """The budget as it is read: ``-24.1 dB``, ``0.0031``, ``over 0 dB``."""
        unit, digits = (" dB", 1) if self.domain == WAVEFORM else ("", 4)
        return f"{self.budget:.{digits}f}{unit}" if self.found else f"over {self.most:g}{unit}"


@dataclass(frozen=True)
class LevelBisection(MinimumNorm):
    """A minimum-norm attack that bisects the level of the budget, in dB, rather than its amplitude.

    Where no budget has failed yet, the next one is 20 dB lower.
    """

    def between(self, short: Tensor, enough: Tensor) -> Tensor:
        return torch.where(short > 0, (short * enough).sqrt(), enough / 10)


class MeanNetwork(nn.Module):
    """Several models as one, which predicts the mean of their outputs and has no concepts."""

    def __init__(self, models: Sequence[nn.Module]) -> None:
        super().__init__()
        self.models = nn.ModuleList(models)

    def forward(self, inputs: Tensor) -> Prediction:
        """Map [batch, 1, frames, bands] to ``output`` [batch, emotions]; ``c_prob`` is None."""
        outputs = torch.stack([model(inputs)["output"] for model in self.models])
        return {"output": outputs.mean(0), "c_prob": None}


def fragility(
    hearer: Audio2Emotions,
    song: Song,
    heard: SongEmotions,
    *,
    domain: str = WAVEFORM,
    move: float = MOVE,
    frontend: str = "madmom",
    seed: int = 0,
    precision: Precision = "fp32",
) -> Fragility:
    """Return the smallest budget found that moves an emotion of the most typical window by ``move``.

    On the waveform the adversary is a WAV file of the whole song, written, read back and preprocessed as any
    song; what is reported is the prediction for that file. Raises UserError for an unknown domain.
    """
    if domain not in DOMAINS:
        raise UserError(f"no domain {domain!r}", where="fragility", mend=f"Use {' or '.join(DOMAINS)}")
    start = heard.starts[heard.typical]
    if hearer.takes_audio and domain == SPECTROGRAM:
        mend = "Change the sound: fragility_domain waveform"
        raise UserError("takes audio: there is no spectrogram to change", where=heard.models[0], mend=mend)
    if any(is_black_box(model.network) for model in hearer.models):
        what = "is known by its predictions alone, so that no smallest change can be searched for"
        raise UserError(what, where=heard.models[0], mend="Leave fragility out")
    networks = [model.network for model in hearer.models]
    mean = networks[0] if hearer.takes_audio else MeanNetwork(networks).eval()
    sounds: tuple[Samples, Samples] | tuple[None, None] = (None, None)
    if domain == WAVEFORM:
        result, after, before, sounds = _on_sound(
            hearer, song, start, mean, move, frontend=frontend, seed=seed, precision=precision
        )
    else:
        result, after, before = _on_spectrogram(hearer, song, start, mean, move, seed, precision)
    budget = float(result.columns["minimum_epsilon"][0])
    most = MOST[domain]
    moved = after - before
    largest = int(np.abs(moved).argmax())
    return Fragility(
        domain=domain,
        move=move,
        most=level(most) if domain == WAVEFORM else most,
        budget=level(budget) if domain == WAVEFORM and budget == budget else budget,
        emotion=hearer.emotions[largest],
        moved=float(moved[largest]),
        second=float(heard.seconds[heard.typical]),
        before=before,
        after=after,
        clean=sounds[0],
        adversary=sounds[1],
        gradients=result.gradients,
    )


def _on_sound(
    hearer: Audio2Emotions,
    song: Song,
    start: int,
    mean: nn.Module,
    move: float,
    *,
    frontend: str,
    seed: int,
    precision: Precision,
) -> tuple[AttackResult, Floats, Floats, tuple[Samples, Samples]]:
    """Attack the samples of a window; return the predictions for the files, and its samples."""
    recording = Recording(song.samples, start)
    files = SoundFiles(
        ("song",), (recording,), hearer.frames, File2Spect("soundfile", frontend), hearer.normalisation
    )
    rows = files.rows()
    listening = ListeningNetwork(mean, hearer.normalisation, hearer.frames)
    subject = SoundSubject(
        network=FrozenNetwork(listening, precision=precision),
        reader=FrozenNetwork(mean),
        inputs=rows,
        labels=torch.zeros(1, len(hearer.emotions)),
        threat_at=lambda epsilon: SoundThreat.around("masking", epsilon, rows),
        files=files,
    )
    before = subject.predicted(rows)[0]
    result = _attacked(subject.network, rows, before, subject.threat_at(MOST[WAVEFORM]), move, seed)
    after = subject.predicted(result.adversaries)[0]
    begin, end = recording.heard(hearer.frames)
    adversary = result.adversaries[0, 0, HEADER : HEADER + end - begin].numpy().astype(np.int16)
    return result, after, before, (song.samples[begin:end], adversary)


def _on_spectrogram(
    hearer: Audio2Emotions,
    song: Song,
    start: int,
    mean: nn.Module,
    move: float,
    seed: int,
    precision: Precision,
) -> tuple[AttackResult, Floats, Floats]:
    """Attack the standardised spectrogram of a window, which stays between silence and the song's loudest."""
    standardise = hearer.normalisation.standardise
    inputs = torch.from_numpy(standardise(song.windows([start], hearer.frames)))[:, None]
    ceiling = torch.from_numpy(standardise(song.spectrogram)).amax(0)
    floor = torch.full_like(ceiling, hearer.normalisation.silence)
    threat = Threat.per_cell("linf", MOST[SPECTROGRAM], inputs[0].numel(), floor, ceiling)
    network = FrozenNetwork(mean, precision=precision)
    before = _predicted(network, inputs)
    result = _attacked(network, inputs, before, threat, move, seed)
    return result, _predicted(network, result.adversaries), before


def _attacked(
    network: FrozenNetwork, inputs: Tensor, before: Floats, threat: Threat, move: float, seed: int
) -> AttackResult:
    """Bisect the budget of one clip, pushing the emotion that is moved most easily."""
    objective = LargestMove.easiest(network, inputs, len(before), threat)
    attack = LevelBisection(move, APGD(STEPS, (objective,), restarts=1), BISECTIONS)
    return attack(network, inputs, torch.from_numpy(before).float()[None], threat, seed=seed, batch_size=1)


def _predicted(network: FrozenNetwork, inputs: Tensor) -> Floats:
    outputs: Floats = network.predict(inputs)["output"][0].double().numpy()
    return outputs
