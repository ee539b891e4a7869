"""``listen.html``: clips and their adversaries side by side, to be listened to, in one file."""

from __future__ import annotations

import base64
import io
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from matplotlib.figure import Figure

from rmer.data.audio.masking import HOP
from rmer.errors import UserError
from rmer.evaluation.hearing.audibility import audibility
from rmer.evaluation.hearing.perceived_quality import PerceivedQuality
from rmer.report.listening.listening_figures import levels_by_frequency, spectrograms
from rmer.report.listening.sound_files import audio_uri, raised_difference
from rmer.report.templates import template

Samples = npt.NDArray[np.int16]
Floats = npt.NDArray[np.floating[Any]]


@dataclass(frozen=True, eq=False)
class ListenedClip:
    """One clip of the page.

    ``clean`` and ``adversary`` are int16 [samples] at 22 050 Hz of equal length; ``rated``, ``before`` and
    ``after`` are ratings and predictions, [targets] in 0-1; ``quality`` is ViSQOL's, where it was asked.
    ``excerpt`` are the places of the first sample that the model hears, and past the last; budgets count the
    frames of these.
    """

    name: str
    clean: Samples
    adversary: Samples
    rated: Floats
    before: Floats
    after: Floats
    quality: PerceivedQuality | None = None
    excerpt: tuple[int, int | None] = (0, None)

    @property
    def heard(self) -> tuple[Samples, Samples]:
        """The excerpt of the clip and of its adversary."""
        return self.clean[slice(*self.excerpt)], self.adversary[slice(*self.excerpt)]


def listening_page(
    clips: Sequence[ListenedClip], targets: Sequence[str], title: str, budget: str, notes: Sequence[str] = ()
) -> str:
    """Return the page as an HTML document that needs nothing beside it.

    ``targets`` names what is predicted, ``budget`` says in words what the adversaries were allowed, ``notes``
    are sentences about the run. Raises UserError when there is no clip, or one has other targets or lengths.
    """
    if not clips:
        raise UserError("there is no clip to listen to", where="listening", mend="Choose at least one clip")
    return template("listen.html.j2").render(
        title=title,
        budget=budget,
        notes=notes,
        targets=targets,
        clips=[_shown(clip, targets) for clip in clips],
        visqol=any(clip.quality for clip in clips),
    )


def _shown(clip: ListenedClip, targets: Sequence[str]) -> dict[str, Any]:
    """Return what the template shows of a clip."""
    for kind, values in (("ratings", clip.rated), ("predictions", clip.before), ("predictions", clip.after)):
        if len(values) != len(targets):
            what = f"{len(values)} {kind} for {len(targets)} targets"
            raise UserError(what, where=f"clip {clip.name}", mend="Pass one value a target")
    difference, gain = raised_difference(clip.clean, clip.adversary)
    return {
        "name": clip.name,
        "sounds": [
            ("clean", "as it was", audio_uri(clip.clean)),
            ("adversary", "as the model heard it", audio_uri(clip.adversary)),
            ("difference", f"raised by {gain:.0f} dB", audio_uri(difference)),
        ],
        "spectrograms": _png(spectrograms(clip.clean, clip.adversary)),
        "levels": _png(levels_by_frequency(*clip.heard)),
        "rows": [
            ("rated", [_minus(f"{value:.2f}") for value in clip.rated]),
            ("predicted, clean", [_minus(f"{value:.2f}") for value in clip.before]),
            ("predicted, adversary", [_minus(f"{value:.2f}") for value in clip.after]),
            ("change", [_signed(value) for value in np.subtract(clip.after, clip.before)]),
        ],
        "figures": _figures(clip),
    }


def _figures(clip: ListenedClip) -> list[tuple[str, str]]:
    measured = audibility(*clip.heard)
    between = audibility(*(samples[HOP // 2 :] for samples in clip.heard))
    mae = [float(np.abs(np.subtract(values, clip.rated)).mean()) for values in (clip.before, clip.after)]
    figures = [
        ("error (MAE)", f"{mae[0]:.3f} → {mae[1]:.3f}"),
        ("signal to difference", _in_decibels(measured.snr)),
        ("largest noise-to-mask ratio", _in_decibels(measured.largest_nmr)),
        ("largest in frames between those of the budget", _in_decibels(between.largest_nmr)),
        ("mean noise-to-mask ratio", _in_decibels(measured.mean_nmr)),
        ("bands and frames above the threshold", f"{100 * measured.audible:.2g} %"),
    ]
    if clip.quality:
        figures.append(("ViSQOL", f"{clip.quality.grade:.2f} of 4.73"))
    return figures


def _in_decibels(value: float) -> str:
    return f"{_minus(f'{value:.1f}')} dB" if math.isfinite(value) else "no difference"


def _signed(value: float) -> str:
    return _minus(f"{value:+.2f}")


def _minus(number: str) -> str:
    return number.replace("-", "−")  # noqa: RUF001


def _png(figure: Figure) -> str:
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=110, metadata={"Software": None})
    return f"data:image/png;base64,{base64.b64encode(buffer.getvalue()).decode()}"
