"""Whether controls behave as theory says: a placebo like a black box, adversarial training as protection."""

from __future__ import annotations

from collections.abc import Sequence

from rmer.evaluation.attacked import AttackedModel
from rmer.evaluation.comparison import ALPHA, PRIMARY, Comparison, compare_systems
from rmer.report.answers import FEW_SEEDS, is_black_box, is_conclusive, little_learnt
from rmer.report.comparing import endpoint_phrase, system_samples
from rmer.report.contents import Contents
from rmer.report.readable import and_list, number
from rmer.report.robustness import FIRST
from rmer.report.system_tables import in_order, is_adversarial, is_control, twin

# Of the percentile interval, which nothing here is made of.
DRAWS = 100


def expectations(contents: Contents) -> list[str]:
    """Return a sentence for each control and each adversarially trained system that has a counterpart.

    A placebo's second task means nothing, so it should lose about as much under attack as a black box; an
    adversarially trained system should lose less than its twin. Where that is not so, the sentence says why
    these runs may not tell.
    """
    rows = in_order(contents.models)
    plain = next((name for name in rows if is_black_box(name) and not is_adversarial(name)), "")
    sentences = []
    for name in rows:
        other = twin(name) if is_adversarial(name) else plain if is_control(name) else ""
        if other not in rows:
            continue
        found = _compared(contents, rows[other], rows[name])
        if found is not None:
            lost = _lost(contents, name, other)
            doubt = _doubt(contents, found)
            sentences.append(
                _of_adversarial(found, lost, doubt)
                if is_adversarial(name)
                else _of_control(found, lost, doubt)
            )
    return sentences


def _compared(
    contents: Contents, others: Sequence[AttackedModel], own: Sequence[AttackedModel]
) -> Comparison | None:
    """Return the comparison of two systems by the primary endpoint; None on different clips."""
    samples = system_samples([*others, *own])
    if not samples:
        return None
    (found,) = compare_systems(
        samples, own[0].name, endpoints=(PRIMARY,), margins=contents.margins, draws=DRAWS,
        seed=contents.bootstrap_seed,
    )  # fmt: skip
    return found


def _of_control(found: Comparison, lost: str, doubt: str) -> str:
    if abs(found.difference) <= found.margin:
        said = f"{found.b} loses about as much as {found.a} ({lost})"
        theory = "as theory says of a control"
        return f"{said}, {theory}." if found.equivalent else f"{said}, {theory}, but {doubt}."
    # What the other system gains in error less what the control gains.
    how = "less" if found.difference > 0 else "more"
    said = f"{found.b} loses {how} than {found.a} ({lost}), where theory expects about as much"
    return (
        f"{said}: the second task by itself changes the robustness." if _clear(found) else f"{said}; {doubt}."
    )


def _of_adversarial(found: Comparison, lost: str, doubt: str) -> str:
    if found.difference > 0:
        said = f"{found.b} loses less than {found.a} ({lost}), as theory says of adversarial training"
        return f"{said}." if _clear(found) else f"{said}, but {doubt}."
    said = f"{found.b} loses no less than {found.a} ({lost}), unlike what theory says of adversarial training"
    return (
        f"{said}: it was trained against other attacks than these." if _clear(found) else f"{said}; {doubt}."
    )


def _clear(found: Comparison) -> bool:
    return bool(found.p < ALPHA)


def _lost(contents: Contents, *names: str) -> str:
    """Return what systems lose under attack: ``clipped MAE +.051 and +.048``."""
    table = contents.robustness[contents.norm].set_index(["system", "metric"])
    gains = [number(gain, 3) for gain in table["delta"].loc[[(name, FIRST) for name in names]]]
    return f"{endpoint_phrase(PRIMARY)}: {and_list(gains)}"


def _doubt(contents: Contents, found: Comparison) -> str:
    """Return why these runs may not tell."""
    seeds = min(found.seeds_a, found.seeds_b)
    reasons = []
    if seeds < FEW_SEEDS:
        reasons.append(f"{seeds} seed{'s' if seeds > 1 else ''} a system")
    # Clips of albums that are not known count as albums of their own.
    albums = f" of {found.albums} albums" if found.albums < found.clips else ""
    reasons.append(f"{found.clips} clips{albums}")
    idle = [name for name in little_learnt(contents.robustness[contents.norm]) if name in (found.a, found.b)]
    learnt = f", and {and_list(idle)} learnt little that could be lost" if idle else ""
    if not is_conclusive(contents.robustness[contents.norm], [found]):
        return f"the attack does too little to tell{learnt}"
    return f"{and_list(reasons)} cannot tell{learnt}"
