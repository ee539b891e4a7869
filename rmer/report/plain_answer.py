"""What a report begins with: the answer, what the attack did, and what both rest on, in three sentences."""

from __future__ import annotations

import math
from collections.abc import Sequence

import pandas as pd

from rmer.evaluation.metrics import under_attack
from rmer.report.answers import (
    FEW_SEEDS,
    is_black_box,
    is_conclusive,
    little_learnt,
    question,
    short_answer,
    without_answer,
)
from rmer.report.contents import Contents
from rmer.report.readable import and_list, number
from rmer.report.robustness import FIRST
from rmer.report.sections.checks_section import sanity_table
from rmer.report.system_tables import is_adversarial


def plain_answer(contents: Contents) -> list[str]:
    """Return three sentences for somebody who has not read about the study; no term but MAE is needed."""
    first = contents.sound or contents
    return [_answer(contents), _damage(first), _grounds(contents)]


def _answer(contents: Contents) -> str:
    if not contents.corrected:
        return _best(contents.systems)
    parts = [part for part in (contents.sound, contents) if part is not None]
    asked = next(filter(None, (question(part.comparisons, part.reference) for part in parts)), "")
    if not asked:
        systems = contents.systems["system"].tolist()
        return without_answer(contents.comparisons, systems, contents.reference)[0]
    said = [_small(_said(part)) for part in parts]
    if len(set(said)) == 1:
        alike = "on the sound as on spectrograms, " if len(parts) > 1 else ""
        return f"{asked} {(alike + said[0])[:1].upper()}{(alike + said[0])[1:]}"
    return f"{asked} On the sound, {said[0]} On spectrograms, {said[1]}"


def _said(contents: Contents) -> str:
    if not question(contents.comparisons, contents.reference):
        return "These runs cannot tell."
    return short_answer(contents.comparisons, contents.reference)


def _small(sentence: str) -> str:
    return sentence[:1].lower() + sentence[1:]


def _best(systems: pd.DataFrame) -> str:
    """Say which system fares best under attack, where no question was asked in advance."""
    if len(systems) < 2:
        return f"Only {systems['system'].iloc[0]} was attacked: there is nothing to compare it with."
    best: dict[str, list[str]] = {}
    for name, metric in under_attack().items():
        column = systems.set_index("system").get(f"adv_{name}")
        if column is not None and column.notna().any():
            system = column.idxmax() if metric.larger_is_better else column.idxmin()
            best.setdefault(str(system), []).append(metric.phrase)
    if len(best) == 1:
        return f"{next(iter(best))} has the best mean under attack, whichever metric is asked."
    found = ", ".join(f"{system} by {and_list(metrics)}" for system, metrics in best.items())
    return f"Which system fares best under attack depends on the metric: by its mean it is {found}."


def _damage(contents: Contents) -> str:
    """Say what the attack did to the error of the systems that the question is about."""
    table = contents.robustness[contents.norm]
    rows = table[table["metric"] == FIRST].set_index("system")
    chosen = [
        name
        for name in rows.index
        if name == contents.reference or (is_black_box(name) and not is_adversarial(name))
    ] or list(rows.index[:3])
    changes = [
        f"{name} from {number(rows.loc[name, 'clean'])} to {number(rows.loc[name, 'adv'])}" for name in chosen
    ]
    constant = rows["constant"].mean()
    beside = f"; always predicting the mean errs by {number(constant)}" if math.isfinite(constant) else ""
    what = "the sound" if contents.on_sound else "the spectrogram"
    return (
        f"When {what} is changed {contents.allowed}, the mean error (clipped MAE, on a scale of 0-1) goes, "
        f"of {and_list(changes)}{beside}."
    )


def _grounds(contents: Contents) -> str:
    """Say what the numbers rest on, and what speaks against believing them, of both domains."""
    parts = [part for part in (contents.sound, contents) if part is not None]
    seeds = min(int(part.systems["seeds"].min()) for part in parts)
    first = parts[0].models[0]
    albums = len(set(first.albums) - {""})
    of_albums = f" of {albums} albums" if albums else ""
    grounds = [
        f"{seeds} training seed{'s' if seeds > 1 else ''} a system",
        f"{len(first.clips)} clips{of_albums}",
        *_checks(parts),
    ]
    few = ["with so few seeds, a difference that was not found may be there"] if seeds < FEW_SEEDS else []
    doubts = few + _doubts(parts[0])
    if contents.sound is not None:
        doubts += [f"on spectrograms, {doubt}" for doubt in _doubts(contents) if doubt not in doubts]
    return f"This rests on {and_list(grounds)}{': ' if doubts else ''}{'; '.join(doubts)}."


def _doubts(contents: Contents) -> list[str]:
    """Return what speaks against believing the numbers of one domain."""
    doubts = []
    if contents.comparisons and not is_conclusive(contents.robustness[contents.norm], contents.comparisons):
        doubts.append("the attack does too little to tell systems apart")
    if idle := little_learnt(contents.robustness[contents.norm]):
        names = "all systems" if len(idle) == len(contents.systems) else and_list(idle)
        doubts.append(f"without attack, {names} hardly beat always predicting the mean")
    if contents.by_predictions:
        names = and_list(list(contents.by_predictions))
        doubts.append(f"{names} can only be asked for predictions, so that the attack finds less there")
    if contents.exceeded:
        doubts.append("the budget of the attack was not enforced")
    return doubts


def _checks(parts: Sequence[Contents]) -> list[str]:
    tables = [sanity_table(part.checks) for part in parts]
    passed, failed = (int(sum(table[found].sum() for table in tables)) for found in ("passed", "failed"))
    if not passed + failed:
        return []
    share = f"{passed} of {passed + failed}" if failed else f"all {passed}"
    return [f"{share} sanity checks passed"]
