"""Which domains an analysis is about: spectrograms, the sound of clips, or both, each selected for itself."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from rmer.attacks.attack_domains import SPECTROGRAM, WAVEFORM
from rmer.errors import UserError
from rmer.parameters import listed
from rmer.stages.analysis.alike import on_sound
from rmer.stages.analysis.analyze_params import AnalyzeParams
from rmer.stages.analysis.selection import Selected, find_attack_runs, select_attack_runs
from rmer.tracking import Store, Tag


@dataclass(frozen=True, eq=False)
class SelectedDomains:
    """The attack runs of an analysis.

    Attributes
    ----------
    main : What all tables are of: attacks on spectrograms, or on the sound where there are no others.
    sound : Attacks on the sound beside those on spectrograms.
    note : Why there are none of these, where there might be; empty where there is nothing to say.
    """

    main: list[Selected]
    sound: list[Selected]
    note: str = ""


def select_domains(store: Store, params: AnalyzeParams) -> SelectedDomains:
    """Select the attack runs of every domain that the parameters speak of.

    Raises what :func:`rmer.stages.analysis.selection.select_attack_runs` does, of either domain.
    """
    tags = params.tags()
    heard = {**tags, Tag.DOMAIN: WAVEFORM}
    domains = [name for name in params.domains if name in _found(store, params)] or params.domains[:1]
    if domains == [WAVEFORM] or params.domains == (WAVEFORM,):
        return SelectedDomains(_select(store, params, heard), [])
    main = _select(store, params, tags)
    if WAVEFORM not in domains:
        return SelectedDomains(main, [])
    try:
        return SelectedDomains(main, _select(store, params, heard))
    except UserError as error:
        if not params.where:
            raise
        # A setting of spectrograms, say, that no attack on the sound has.
        return SelectedDomains(main, [], f"Attacks on the sound are left out: {error.what}.")


def _found(store: Store, params: AnalyzeParams) -> set[str]:
    """Return the domains that there are runs of with these tags, whatever their settings."""
    records = find_attack_runs(store, params.tags(), params.study, listed(params.systems))
    return {WAVEFORM if on_sound(record) else SPECTROGRAM for record in records}


def _select(store: Store, params: AnalyzeParams, tags: Mapping[str, str]) -> list[Selected]:
    return select_attack_runs(
        store,
        tags,
        study=params.study,
        systems=listed(params.systems),
        where=params.settings(),
        allow_mixed=params.allow_mixed,
    )
