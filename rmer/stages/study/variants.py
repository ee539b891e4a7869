"""What is done to every model of a study: its attacks in each domain and under each norm."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from rmer.attacks.attack_domains import DOMAINS, SPECTROGRAM, WAVEFORM
from rmer.attacks.known_attacks import ATTACKS
from rmer.attacks.sound_budgets import SOUND_NORMS
from rmer.attacks.suite import TIERS, Suite
from rmer.errors import UserError
from rmer.nearest import did_you_mean
from rmer.parameters import Parameters, choice, listed, param, taking
from rmer.stages.attack.attack_defaults import defaults_of
from rmer.stages.attack.attack_params import AttackParams

# Parameters of attacks on the sound alone, and of those on spectrograms alone.
OF_SOUND = ("budget", "budgets", "listen")
OF_SPECTROGRAMS = ("epsilon", "epsilons", "norm", "tier")


@dataclass(frozen=True)
@taking(OF_SOUND, AttackParams)
class SoundParams(Parameters):
    """How a study attacks the sound."""

    domains: str = choice(
        "", "what is attacked, by commas: spectrogram, waveform (the sound); default: both by the suite"
    )
    sound_norms: str = param("masking", "norms of budgets of sound, by commas: masking, snr, linf")
    sound_tier: str = param("quick", "size of the suite on the sound", choices=tuple(TIERS))


def sound_norms(params: SoundParams) -> list[str]:
    """Return the norms; raises UserError for what is none, and for one budget in the dB of several."""
    norms = listed(params.sound_norms)
    unknown = [norm for norm in norms if norm not in SOUND_NORMS]
    if unknown or not norms:
        mend = did_you_mean(unknown, SOUND_NORMS, f"Give some of {', '.join(SOUND_NORMS)}")
        what = f"{', '.join(unknown) or 'nothing'} is no norm of sounds"
        raise UserError(what, where="parameter sound_norms", mend=mend)
    if len(norms) > 1:
        for name in ("budget", "budgets"):
            if getattr(params, name) not in (None, ""):
                mend = "Give one of sound_norms, or leave it out: each norm has its own"
                raise UserError("is in the dB of one norm", where=f"parameter {name}", mend=mend)
    return norms


def domains_of(attack: str, domains: Sequence[str]) -> list[str]:
    """Return what an attack is to change: of ``domains`` those that it can, by default both for a suite."""
    able = [name for name in DOMAINS if name == SPECTROGRAM or ATTACKS[attack].on_sound]
    usual = DOMAINS if ATTACKS[attack] is Suite else (SPECTROGRAM,)
    return [name for name in able if name in (domains or usual)]


def chosen_domains(params: SoundParams, attacks: Sequence[str]) -> list[str]:
    """Return the domains that are named; raises UserError for what is none, or has no attack."""
    domains = listed(params.domains)
    unknown = [name for name in domains if name not in DOMAINS]
    if unknown:
        mend = did_you_mean(unknown, DOMAINS, f"Give some of {', '.join(DOMAINS)}")
        what = f"{', '.join(unknown)} is nothing that is attacked"
        raise UserError(what, where="parameter domains", mend=mend)
    for name in domains:
        if not any(name in domains_of(attack, domains) for attack in attacks):
            able = ", ".join(attack for attack, method in ATTACKS.items() if method.on_sound)
            what = f"no attack of the study can be made on {name}"
            raise UserError(what, where="parameter domains", mend=f"Leave it out, or add one of {able}")
    return domains


def attack_variants(
    attacks: Sequence[str], domains: Sequence[str], norms: Sequence[str], given: Mapping[str, Any]
) -> dict[str, dict[str, Any]]:
    """Return name -> what the study itself chooses of an attack's parameters.

    A suite on spectrograms is one run for each norm of its tier; on the sound, every attack is one for each
    of ``norms``. ``given`` are the parameters of all attacks.
    """
    found: dict[str, dict[str, Any]] = {}
    for attack in attacks:
        for domain in domains_of(attack, domains):
            if domain == WAVEFORM:
                for norm in norms:
                    found[f"{attack} {_SHORT.get(norm, norm)}"] = {
                        "attack": attack,
                        "domain": domain,
                        "norm": norm,
                    }
                continue
            own = given["norm"] if "norm" in defaults_of(attack) else ""
            several = TIERS[given["tier"]].norms if attack == "suite" and not own else (own,)
            for norm in several:
                name = attack if norm in ("", "linf") else f"{attack} {norm}"
                found[name] = {"attack": attack, "norm": norm}
    return found


# What tells a norm of sounds from one of spectrograms.
_SHORT = {"linf": "dBFS"}
