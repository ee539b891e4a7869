"""The answer of a corrected comparison in plain sentences, never more than its tests can carry."""

from __future__ import annotations

import math
from collections.abc import Sequence

import pandas as pd

from rmer.evaluation.comparison import ALPHA, PRIMARY, SECONDARY, Comparison
from rmer.evaluation.metrics import METRICS
from rmer.report.comparing import endpoint_phrase
from rmer.report.readable import and_list, interval, number, p_value
from rmer.report.system_tables import is_adversarial, is_control, is_interpretable

# Those that the question is answered by; what else is compared is in the tables.
ENDPOINTS = (PRIMARY, SECONDARY)
# What a comparison may find of the reference against another system.
MORE, SLIGHTLY_MORE = "more robust than", "more robust, by less than the margin, than"
LESS, SLIGHTLY_LESS = "less robust than", "less robust, by less than the margin, than"
ALIKE, UNKNOWN = "as robust as", "not distinguishable from"
# What the comparison with the placebo says.
MEANINGS = {
    MORE: "concept labels that mean something add to the robustness",
    SLIGHTLY_MORE: "concept labels that mean something add to the robustness, but less than matters",
    LESS: "concept labels that mean something do not help",
    SLIGHTLY_LESS: "concept labels that mean something do not help",
    ALIKE: "whatever the second task does for the robustness, interpretable concepts are not what helps",
    UNKNOWN: "it is not shown that interpretability, rather than a second task, makes a difference",
}
NO_TEST = "no test: it needs two seeds of each system and two albums, or a cross-validation"
FEW_SEEDS = 5
# A clean MAE above this share of the constant predictor's is hardly better.
NO_BETTER = 0.9


def verdict(row: Comparison) -> str:
    """Return how robust the reference ``b`` is, compared with ``a``, as :mod:`docs/statistics` says it."""
    if not row.p_holm < ALPHA:
        return ALIKE if row.equivalent else UNKNOWN
    # A larger gain of an error, or a larger loss of correlation, of ``a`` speaks for the reference.
    better = (row.difference > 0) != METRICS[row.endpoint.removeprefix("delta/")].larger_is_better
    if row.equivalent:
        return SLIGHTLY_MORE if better else SLIGHTLY_LESS
    return MORE if better else LESS


def answers(
    rows: Sequence[Comparison], reference: str, budget: str, seeds: int, *, conclusive: bool = True
) -> list[str]:
    """Return the sentences that stand first: the answer, both endpoints, the control, the other systems.

    ``rows`` compare ``reference`` with every other system; without it there is no answer. ``budget`` is the
    reported one in words (``L-inf .01``), ``seeds`` the smallest number of seeds of a system. Unless the
    attack does more than the margin of equivalence to some system's clipped MAE (``conclusive``), the control
    says nothing.
    """
    rows, black_boxes = _asked(rows, reference)
    sentences = []
    if black_boxes:
        sentences.append(f"{question(rows, reference)} {short_answer(rows, reference)}")
        sentences[0] += f" It is, {_verdicts(black_boxes)}."
        sentences += [_numbers(black_boxes, endpoint, budget) for endpoint in ENDPOINTS]
        sentences.append(_equivalence(black_boxes))
    controls = [row for row in rows if _controls(row.a, reference)]
    sentences += [
        _control([row for row in controls if row.a == name], reference, conclusive=conclusive)
        for name in dict.fromkeys(row.a for row in controls)
    ]
    others = [row for row in rows if row not in black_boxes and row not in controls]
    if others:
        sentences.append(f"Against the other systems, {reference} is, {_verdicts(others)}.")
    if sentences and seeds < FEW_SEEDS:
        sentences.append(
            f"There are as few as {seeds} training seed{'s' if seeds > 1 else ''} a system: a difference "
            "that was not found may well be there."
        )
    return sentences


def question(rows: Sequence[Comparison], reference: str) -> str:
    """Return the question that a comparison answers; empty where it has no black box like the reference."""
    names = list(dict.fromkeys(row.a for row in _asked(rows, reference)[1]))
    if not names:
        return ""
    subject = "the interpretable system" if is_interpretable(reference) else "the reference"
    plural = "es" if len(names) > 1 else ""
    return f"Is {subject} ({reference}) more robust than the black box{plural} {and_list(names)}?"


def short_answer(rows: Sequence[Comparison], reference: str) -> str:
    """Return the answer to :func:`question` in a few words: ``Yes, by both endpoints.``

    One in favour of the reference says where its placebo is no less robust.
    """
    rows, black_boxes = _asked(rows, reference)
    return _short({verdict(row) for row in black_boxes}) + _unless_placebo(rows, black_boxes, reference)


def _asked(rows: Sequence[Comparison], reference: str) -> tuple[Sequence[Comparison], Sequence[Comparison]]:
    """Return the rows of the reference on both endpoints, and those of them that the question is about."""
    rows = [row for row in rows if row.b == reference and row.endpoint in ENDPOINTS]
    return rows, [row for row in rows if _answers(row, reference)]


def is_conclusive(robustness: pd.DataFrame, rows: Sequence[Comparison], endpoint: str = PRIMARY) -> bool:
    """Return whether some system changes by more than the margin of equivalence under the attack."""
    margins = [row.margin for row in rows if row.endpoint == endpoint]
    return not margins or bool(_damage(robustness, endpoint) >= margins[0])


def reservations(robustness: pd.DataFrame, rows: Sequence[Comparison], reference: str) -> list[str]:
    """Return what takes the sense out of the answer: little damage, or systems that have learnt nothing.

    ``robustness`` is the table of :func:`rmer.report.robustness.robustness_table` of the endpoints' norm.
    """
    notes = []
    for endpoint, margin in {row.endpoint: row.margin for row in rows}.items():
        if not is_conclusive(robustness, rows, endpoint):
            notes.append(
                f"At this budget the attack changes the {endpoint_phrase(endpoint)} of no system by more "
                f"than {number(_damage(robustness, endpoint), 3)}, less than the margin of equivalence "
                f"({number(margin, 3)}): systems can hardly differ here. Look at larger budgets."
            )
    compared = [name for name in little_learnt(robustness) if name == reference or is_black_box(name)]
    if rows and compared:
        notes.append(
            "Before the attack hardly better than always predicting the mean, or worse: "
            f"{', '.join(compared)}. A model that has learnt little has little to lose, which is not "
            "robustness."
        )
    return notes


def little_learnt(robustness: pd.DataFrame) -> list[str]:
    """Return the systems that are hardly better than the constant predictor before the attack, or worse."""
    clipped = robustness[robustness["metric"] == PRIMARY.removeprefix("delta/")].set_index("system")
    return list(clipped.index[clipped["clean"] > NO_BETTER * clipped["constant"]])


def without_answer(rows: Sequence[Comparison], systems: Sequence[str], reference: str) -> list[str]:
    """Return why there is no comparison, or none of the reference with a black box; empty where there is."""
    if len(systems) < 2:
        return [f"Only {systems[0]} was attacked: there is nothing to compare it with."]
    if not rows:
        return ["The systems were attacked on different clips: they are not compared."]
    if reference not in systems:
        return [f"{reference} is not among the systems: every pair is compared, and no question answered."]
    if not any(_answers(row, reference) for row in rows):
        return [f"No black box that is trained like {reference} is among the systems."]
    return []


def comparison_caveats(
    robustness: pd.DataFrame, rows: Sequence[Comparison], reference: str, systems: Sequence[str]
) -> list[str]:
    """Return what limits the answer.

    ``robustness`` is the table of :func:`rmer.report.robustness.robustness_table` of the endpoints' norm.
    """
    clipped = robustness[robustness["metric"] == "mae_clipped"].set_index("system")
    notes = []
    if any(row.b == reference for row in rows) and not any(_controls(name, reference) for name in systems):
        notes.append(
            "No placebo (concept labels permuted) is among the systems: a difference between "
            f"{reference} and a black box may come from the second task as well as from interpretability."
        )
    # A constant that is not known is NaN, which nothing exceeds.
    if len(clipped) and (clipped["adv"] > clipped["constant"]).all():
        notes.append(
            "At the reported budget every system is worse than always predicting the mean: to be more robust "
            "here is to be less broken. The curves show smaller budgets."
        )
    return notes


def _short(found: set[str]) -> str:
    more, less = found & {MORE, SLIGHTLY_MORE}, found & {LESS, SLIGHTLY_LESS}
    if found == {MORE}:
        return "Yes, by both endpoints."
    if found == {UNKNOWN}:
        return "These runs cannot tell."
    if more and less:
        return "It depends on the endpoint or on the black box."
    if more:
        return "Only in part."
    if UNKNOWN in found:
        return "That is not shown."
    return "No."


def _unless_placebo(rows: Sequence[Comparison], black_boxes: Sequence[Comparison], reference: str) -> str:
    """Qualify an answer in favour of the reference that some control does not share."""
    better = (MORE, SLIGHTLY_MORE)
    favours = {row.endpoint for row in black_boxes if verdict(row) in better}
    controls = [row for row in rows if _controls(row.a, reference)]
    unshared = {row.endpoint for row in controls if verdict(row) not in better}
    if not favours & unshared:
        return ""
    by = and_list([endpoint_phrase(endpoint) for endpoint in ENDPOINTS if endpoint in favours & unshared])
    return f" But by {by} it is not shown to be more robust than its placebo."


def _verdicts(rows: Sequence[Comparison]) -> str:
    """Return ``by clipped MAE, more robust than A2E and as robust as A2B2E; by correlation, ...``."""
    parts = {endpoint: _listed(rows, endpoint) for endpoint in ENDPOINTS}
    if parts[PRIMARY] == parts[SECONDARY]:
        return f"by both endpoints, {parts[PRIMARY]}"
    return "; ".join(f"by {endpoint_phrase(endpoint)}, {part}" for endpoint, part in parts.items())


def _listed(rows: Sequence[Comparison], endpoint: str) -> str:
    by_verdict: dict[str, list[str]] = {}
    for row in rows:
        if row.endpoint == endpoint:
            by_verdict.setdefault(verdict(row), []).append(row.a)
    return and_list([f"{found} {and_list(names)}" for found, names in by_verdict.items()])


def _numbers(rows: Sequence[Comparison], endpoint: str, budget: str) -> str:
    rank = "Primary" if endpoint == PRIMARY else "Secondary"
    change = "gain of clipped MAE" if endpoint == PRIMARY else "change of correlation (attacked for itself)"
    shown = [row for row in rows if row.endpoint == endpoint]
    untested = all(math.isnan(row.p_holm) for row in shown)
    parts = [
        f"{row.a} - {row.b} {number(row.difference, 3)}" + ("" if untested else f" ({_tests(row)})")
        for row in shown
    ]
    note = f" ({NO_TEST})" if untested else ""
    return f"{rank} endpoint, {change} at {budget}: {'; '.join(parts)}{note}."


def _equivalence(rows: Sequence[Comparison]) -> str:
    """Say when two systems are called equally robust, and which are."""
    by_endpoint = [next(row for row in rows if row.endpoint == endpoint) for endpoint in ENDPOINTS]
    within = [
        f"{number(row.margin, 3).rstrip('0')} in {endpoint_phrase(row.endpoint)}" for row in by_endpoint
    ]
    found = []
    for name in dict.fromkeys(row.a for row in rows):
        said = {row.endpoint: _equally_robust(row) for row in rows if row.a == name}
        alike = len(set(said.values())) == 1
        told = [f"by {endpoint_phrase(endpoint)} {text}" for endpoint, text in said.items()]
        found.append(f"{rows[0].b} and {name}: {said[PRIMARY] if alike else ', '.join(told)}")
    return (
        "We call two systems equally robust if a test shows that they differ by less than "
        f"{and_list(within)}. {'; '.join(found)}."
    )


def _equally_robust(row: Comparison) -> str:
    if row.equivalent:
        return "they are"
    if not row.p_holm < ALPHA:
        return "the data cannot tell"
    beyond = min(abs(row.low), abs(row.high)) > row.margin
    return "they are not" if beyond else "they differ, by how much is not settled"


def _tests(row: Comparison) -> str:
    if math.isnan(row.p_holm):
        return NO_TEST
    p = f"Holm p = {p_value(row.p_holm)}" if row.p_holm >= 0.001 else "Holm p < .001"
    return f"95 % interval {interval(row.low, row.high)}, {p}, Hedges' g = {number(row.hedges_g)}"


def _control(rows: Sequence[Comparison], reference: str, *, conclusive: bool) -> str:
    (found,) = (verdict(row) for row in rows if row.endpoint == PRIMARY)
    meaning = MEANINGS[found] if conclusive else "the attack does too little to tell what helps against it"
    return (
        f"Control: {reference} is, {_verdicts(rows)} (permuted concept labels). By the primary endpoint, "
        f"{meaning}."
    )


def _damage(robustness: pd.DataFrame, endpoint: str) -> float:
    metric = endpoint.removeprefix("delta/")
    return float(robustness.loc[robustness["metric"] == metric, "delta"].abs().max())


def is_black_box(name: str) -> bool:
    """Return whether a row shows a system that is neither interpretable nor a control."""
    return not is_interpretable(name) and not is_control(name)


def _answers(row: Comparison, reference: str) -> bool:
    return is_black_box(row.a) and is_adversarial(row.a) == is_adversarial(reference)


def _controls(name: str, reference: str) -> bool:
    return is_control(name) and is_adversarial(name) == is_adversarial(reference)
